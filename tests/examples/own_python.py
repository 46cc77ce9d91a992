"""Python of a spec's own, which runs with `--trust`."""

from __future__ import annotations

import numpy as np


def spread(x: np.ndarray, seed: int, names: list[str]) -> dict[str, np.ndarray | float]:
    """How far rows [batch, d] are apart, in a random order by `seed`; how many names there are."""
    order = np.random.default_rng(seed).permutation(len(x))
    return {"gaps": np.linalg.norm(x[order] - x, axis=1), "most": float(len(names))}


def wave(n: int) -> np.ndarray:
    """`n` values of a sine."""
    return np.asarray(np.sin(np.arange(n, dtype=float)))


def liar(x: np.ndarray) -> np.ndarray:
    """One value more than it was given."""
    return np.append(x, 0.0)
