"""Shapes of representations: dissimilarities of rows, and how alike two of them are (`std.geometry`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail

Floats = NDArray[np.float64]
MOST_ROWS = 1600
METRICS = ("cosine", "correlation", "euclidean")


def dissimilarities(x: Floats, metric: str) -> Floats:
    """Distances of all pairs of rows of x [row, d], i < j in order: [row * (row - 1) / 2].

    Raises:
        MiError: MI0707 for an unknown metric, or a row that has no direction.
    """
    if metric not in METRICS:
        raise fail("MI0707", f"no metric {metric!r}", help=f"one of {', '.join(METRICS)}", exit_code=4)
    at = np.triu_indices(len(x), 1)
    if metric == "euclidean":
        square = (x * x).sum(1)
        apart = square[:, None] + square[None] - 2 * (x @ x.T)
        return np.asarray(np.sqrt(np.maximum(apart, 0.0))[at])
    x = x - x.mean(1, keepdims=True) if metric == "correlation" else x
    size = np.linalg.norm(x, axis=1, keepdims=True)
    if (size == 0).any():
        raise fail("MI0707", f"a row of zeros has no {metric} distance", exit_code=4)
    unit = x / size
    return np.asarray((1.0 - unit @ unit.T)[at])


def spearman(x: Floats, y: Floats) -> float:
    """Rank correlation of two vectors, equal values sharing their mean rank; nan where one is constant."""
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else float("nan")


def feature_split(x: Floats, splits: int, metric: str, seed: int) -> float:
    """Mean rank correlation of the dissimilarities that random halves of the dimensions of x [row, d] see.

    Rows are brought to unit length first. Halves are drawn as shesha-geometry 0.3 draws them, seed by seed.

    Raises:
        MiError: MI0707 with fewer than 4 rows or dimensions, or more rows than the measure is defined on.
    """
    n, d = x.shape
    if n < 4 or d < 4 or n > MOST_ROWS:
        help = f"at least 4 rows and 4 dimensions, at most {MOST_ROWS} rows"
        raise fail("MI0707", f"`feature_split` of {n} rows of {d}", help=help, exit_code=4)
    rng = np.random.default_rng(seed)
    size = np.linalg.norm(x, axis=1, keepdims=True)
    if (size == 0).any():
        raise fail("MI0707", "a row of zeros cannot be brought to unit length", exit_code=4)
    x = x / size
    found = []
    for _ in range(splits):
        order = rng.permutation(d)
        a, b = x[:, order[: d // 2]], x[:, order[d // 2 : 2 * (d // 2)]]
        found.append(spearman(dissimilarities(a, metric), dissimilarities(b, metric)))
    return float(np.mean(found))


def rdm_similarity(x: Floats, y: Floats, metric: str) -> float:
    """Rank correlation of the dissimilarities of two representations of the same rows [row, d], [row, e]."""
    return spearman(dissimilarities(x, metric), dissimilarities(y, metric))


def cka(x: Floats, y: Floats) -> float:
    """Linear centred kernel alignment of two representations of the same rows [row, d], [row, e]."""
    x, y = x - x.mean(0), y - y.mean(0)
    own = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / own) if own > 0 else float("nan")


def supervised_alignment(x: Floats, y: Floats) -> float:
    """Rank correlation of the correlation distances of centred rows x [row, d] and of whether classes differ.

    y: the class of each row, a number [row].
    """
    at = np.triu_indices(len(y), 1)
    differ = (y[:, None] != y[None, :]).astype(np.float64)[at]
    return spearman(dissimilarities(x - x.mean(0), "correlation"), differ)


def variance_ratio(x: Floats, y: Floats) -> float:
    """The share of the squared size of x [row, d], less its mean, that lies between classes y [row]."""
    z = x - x.mean(0)
    between = sum((y == c).sum() * (z[y == c].mean(0) ** 2).sum() for c in np.unique(y))
    return float(between / (z * z).sum())


def spectral(n: int, d: int, seed: int) -> Floats:
    """A matrix [row, dim] with singular values 100 / k along random directions: one leads by far."""
    rng = np.random.default_rng(seed)
    k = min(n, d)
    u = np.linalg.qr(rng.normal(size=(n, k)))[0]
    v = np.linalg.qr(rng.normal(size=(d, k)))[0]
    return np.asarray((u * (100.0 / np.arange(1, k + 1))) @ v.T)


def strong_and_weak(n: int, strong: int, weak: int, scale: float, seed: int) -> Floats:
    """Gaussian rows [row, dim] of which `strong` dimensions have size 1 and `weak` ones size `scale`."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(n, strong + weak)) * np.repeat([1.0, scale], [strong, weak]))


def rotation(d: int, seed: int) -> Floats:
    """A random rotation [dim, new], uniform over all."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))
    return np.asarray(q * np.sign(np.diag(r)))


def _ranks(x: Floats) -> Floats:
    """Ranks from 0, equal values sharing their mean."""
    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count + 1) / 2.0)[place])
