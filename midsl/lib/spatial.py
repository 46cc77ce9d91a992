"""Values on a map: whether what is near is alike (`std.spatial`).

Neighbours are the `k` nearest other rows, each with weight 1 / k (row-standardised weights).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail

Floats = NDArray[np.float64]


def nearest(east: Floats, north: Floats, k: int) -> NDArray[np.int64]:
    """The `k` nearest other rows of each row, nearest first: [row, k]. Ties go to the earlier row.

    Raises:
        MiError: MI0707 if there are no more than k rows.
    """
    if not 1 <= k < len(east):
        raise fail(
            "MI0707", f"{k} neighbours among {len(east)} rows", help="fewer than there are rows", exit_code=4
        )
    far = (east[:, None] - east) ** 2 + (north[:, None] - north) ** 2
    np.fill_diagonal(far, np.inf)
    return np.argsort(far, axis=1, kind="stable")[:, :k]


def moran(
    east: Floats, north: Floats, y: Floats, k: int, shuffles: int, seed: int
) -> dict[str, NDArray[Any]]:
    """Moran's I of each unit of y [row, unit], and the share of shuffles that are as far out.

    Returns:
        i [unit]: sum z_r (mean of z over the neighbours of r) / sum z_r^2, with z = y less its mean; folded_p
        [unit]: (min(c, shuffles - c) + 1) / (shuffles + 1), where c shuffles of the rows have an I at least
        as large, so that it is small at both ends; live [unit]: whether the unit differs between rows at all.
        A constant one has I 0 and p 1.
    """
    near = nearest(east, north, k)
    weights = np.zeros((len(near), len(near)))
    np.put_along_axis(weights, near, 1.0 / k, 1)
    z = y - y.mean(0)
    size = (z * z).sum(0)
    live = size > 1e-12 * np.maximum((y * y).sum(0), 1e-300)
    over = np.where(live, size, 1.0)
    found = np.where(live, (z * (weights @ z)).sum(0) / over, 0.0)
    rng = np.random.default_rng(seed)
    as_large = np.zeros(z.shape[1])
    for _ in range(shuffles):
        s = z[rng.permutation(len(z))]
        as_large += (s * (weights @ s)).sum(0) / over >= found
    folded = (np.minimum(as_large, shuffles - as_large) + 1) / (shuffles + 1)
    return {"i": found, "folded_p": np.where(live, folded, 1.0), "live": live}


def local_moran(
    east: Floats, north: Floats, y: Floats, k: int, shuffles: int, seed: int
) -> dict[str, NDArray[Any]]:
    """Moran's I of each row by itself: y [row].

    Returns:
        i [row]: z_r (mean of z over the neighbours of r) / (mean of z^2); their mean is Moran's I. folded_p
        [row], where a row keeps its value and is given `k` others for neighbours. high and around_high [row]:
        whether the row, and the mean of its neighbours, are above the mean.
    """
    near = nearest(east, north, k)
    z = y - y.mean()
    size = (z * z).mean()
    if size == 0:
        raise fail("MI0707", "`local_moran` of a constant", exit_code=4)
    around = z[near].mean(1)
    found = z * around / size
    rng = np.random.default_rng(seed)
    as_large = np.zeros(len(z))
    rows = np.arange(len(z))[:, None]
    for _ in range(shuffles):
        other = np.argpartition(rng.random((len(z), len(z) - 1)), k - 1, axis=1)[:, :k]
        other = other + (other >= rows)  # anybody but the row itself
        as_large += z * z[other].mean(1) / size >= found
    folded = (np.minimum(as_large, shuffles - as_large) + 1) / (shuffles + 1)
    return {"i": found, "folded_p": folded, "high": z > 0, "around_high": around > 0}


def scattered(n: int, seed: int) -> dict[str, Floats]:
    """Points spread over the unit square, and a standard normal number for each: east, north, noise [row]."""
    rng = np.random.default_rng(seed)
    at = rng.random((n, 2))
    return {"east": at[:, 0], "north": at[:, 1], "noise": rng.normal(size=n)}
