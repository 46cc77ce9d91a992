"""Columns in random order, and tables whose interactions are known (`std.interactions`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def shuffled_columns(x: Floats, shuffles: int, seed: int) -> Floats:
    """x [row, feature] with each column by itself in a random order, `shuffles` times.

    Returns:
        [shuffle, row, feature]; the orders depend on the seed and the shape alone, so that all who use them
        are compared on the same ones.
    """
    rng = np.random.default_rng(seed)
    n, p = x.shape
    order = np.stack([np.stack([rng.permutation(n) for _ in range(p)], 1) for _ in range(shuffles)])
    return np.asarray(np.take_along_axis(np.broadcast_to(x, (shuffles, n, p)), order, 1))


def product_table(n: int, noise: float, seed: int) -> dict[str, Floats]:
    """Three independent standard normal features, and y = x0 + x1 + x0 x1 + x2 + noise.

    Returns:
        x [row, feature = 3], y [row].
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    y = x[:, 0] + x[:, 1] + x[:, 0] * x[:, 1] + x[:, 2] + noise * rng.normal(size=n)
    return {"x": x, "y": y}


def levels(n: int) -> Floats:
    """Equal steps from 1 / n to 1 [level]."""
    return np.asarray(np.arange(1, n + 1) / n)
