"""Factors of a matrix whose coefficients are not negative (`std.decomp.snmf`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail

Floats = NDArray[np.float64]
SMALL = 1e-6
"""What keeps a division from one by 0, in both updates."""


def semi_nmf(x: Floats, rank: int, keep: float, steps: int, seed: int) -> dict[str, Floats]:
    """x [row, d] as loadings [row, feature], none below 0, times features [feature, d] of any sign.

    Each step solves for the features, keeps the `keep` largest share of the entries of each, brings the
    loadings of each to length 1 (the features take up their size), and then multiplies the loadings by what
    lowers the error. Keeping some entries only can raise it: what is given is the best that was seen.

    Args:
        keep: 1 keeps all entries; else, of d, the largest ceil(keep * d) by size.

    Returns:
        features, loadings, loss [step]: the squared error after each step.

    Raises:
        MiError: MI0707 for a rank or a number of steps below 1, or a `keep` that is no share.
    """
    if rank < 1 or steps < 1 or not 0 < keep <= 1:
        help = "a rank and steps of at least 1, and `keep` above 0, at most 1"
        raise fail("MI0707", f"rank {rank}, {steps} steps, keep {keep}", help=help, exit_code=4)
    rng = np.random.default_rng(seed)
    g = rng.random((len(x), rank))
    kept = math.ceil(keep * x.shape[1])
    losses = np.empty(steps)
    best: tuple[float, Floats, Floats] | None = None
    for step in range(steps):
        f, g = updated(x, g, kept)
        losses[step] = ((x - g @ f) ** 2).sum()
        if best is None or losses[step] < best[0]:
            best = (losses[step], f, g)
    assert best is not None
    return {"features": best[1], "loadings": best[2], "loss": losses}


def updated(x: Floats, g: Floats, kept: int) -> tuple[Floats, Floats]:
    """One step: features [feature, d] for loadings g [row, feature], and the loadings that follow."""
    f = np.linalg.solve(g.T @ g + SMALL * np.eye(g.shape[1]), g.T @ x)
    if kept < f.shape[1]:
        least = np.partition(np.abs(f), -kept, axis=1)[:, -kept, None]
        f = np.where(np.abs(f) >= least, f, 0.0)
    size = np.linalg.norm(g, axis=0)
    size[size == 0] = 1.0
    f, g = f * size[:, None], g / size
    p, q = x @ f.T, f @ f.T
    up, down = np.maximum(p, 0), np.maximum(-p, 0)
    plus, minus = np.maximum(q, 0), np.maximum(-q, 0)
    return f, g * np.sqrt((up + g @ minus) / (down + g @ plus + SMALL))
