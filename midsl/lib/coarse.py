"""Groups of nodes that have much to do with the same others (`std.search.hierarchical`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
ROUNDS = 100
STARTS = 8


def clusters(weight: Floats, edges: Bools, alive: Bools, k: int, seed: int) -> Ints:
    """For each node the number of the first node of its cluster, of at most `k` and one; [node].

    How alike two nodes are is the cosine of the sizes of their edges, in and out [src, dst]; clusters are
    of the first k eigenvectors of the normalised Laplacian, by k-means. Nodes without edges are one more
    cluster, and nodes that do not count are clusters of their own.

    Raises:
        MiError: MI0707 for k < 1.
    """
    if k < 1:
        raise fail("MI0707", f"{k} clusters", help="1 or more", exit_code=4)
    size = np.where(edges & alive[:, None] & alive, np.abs(weight), 0.0)
    profile = np.concatenate([size, size.T], axis=1)
    length = np.linalg.norm(profile, axis=1)
    here = np.flatnonzero(alive & (length > 0))
    found = np.arange(len(alive), dtype=np.int64)
    groups = [np.flatnonzero(alive & (length == 0))]
    if len(here) <= k:
        groups += [here[i : i + 1] for i in range(len(here))]
    else:
        unit = profile[here] / length[here, None]
        label = _spectral(unit @ unit.T, k, seed)
        groups += [here[label == c] for c in range(k)]
    for group in groups:
        if len(group):
            found[group] = group.min()
    return found


def _spectral(alike: Floats, k: int, seed: int) -> Ints:
    """Which of k clusters each row of a matrix of likenesses, 0 to 1, is in."""
    scale = 1.0 / np.sqrt(alike.sum(1))
    _, vectors = np.linalg.eigh(np.eye(len(alike)) - scale[:, None] * alike * scale)
    rows = vectors[:, :k]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng(seed)
    tries = [_means(rows, k, rng) for _ in range(STARTS)]
    return min(tries, key=lambda t: t[1])[0]


def _means(rows: Floats, k: int, rng: np.random.Generator) -> tuple[Ints, float]:
    """k-means from a start whose points are far apart: labels, and the sum of squares that is left."""
    centres = rows[[int(rng.integers(len(rows)))]]
    while len(centres) < k:
        far = ((rows[:, None] - centres) ** 2).sum(2).min(1)
        at = rng.choice(len(rows), p=far / far.sum()) if far.sum() > 0 else int(rng.integers(len(rows)))
        centres = np.concatenate([centres, rows[[at]]])
    label = np.full(len(rows), -1)
    for _ in range(ROUNDS):
        apart = ((rows[:, None] - centres) ** 2).sum(2)
        new = apart.argmin(1)
        if (new == label).all():
            break
        label = new
        centres = np.stack([rows[label == c].mean(0) if (label == c).any() else centres[c] for c in range(k)])
    return label.astype(np.int64), float(apart.min(1).sum())
