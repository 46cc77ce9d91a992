"""Clusters of nodes with like edges: planted blocks are found, whatever their nodes are called."""

from __future__ import annotations

import numpy as np
import pytest

from midsl.diagnostics.model import MiError
from midsl.lib.graphs import clusters


@pytest.mark.parametrize("seed", range(5))
def test_planted_blocks_are_found(seed: int) -> None:
    """Five blocks, each of which feeds the next; one node has no edges, and one does not count."""
    rng = np.random.default_rng(seed)
    block = rng.permutation(np.repeat(np.arange(5), rng.integers(4, 9, 5)))
    n = len(block) + 2
    weight = np.zeros((n, n))
    inside = block[None, :] == block[:, None] + 1
    weight[:-2, :-2] = np.where(
        inside, rng.choice([-1.0, 1.0], inside.shape) * rng.uniform(1, 2, inside.shape), 0
    )
    weight[:-2, :-2] += np.where(rng.random(inside.shape) < 0.05, 0.05, 0.0)
    weight[-1] = 1.0
    alive = np.arange(n) < n - 1
    found = clusters(weight, weight != 0, alive, 5)
    first = np.array([np.flatnonzero(block == b).min() for b in block])
    assert found[:-2].tolist() == first.tolist(), "the same partition: an adjusted Rand index of 1"
    assert found[-2:].tolist() == [n - 2, n - 1]


def test_as_many_clusters_as_nodes_are_the_nodes_and_none_are_refused() -> None:
    weight = np.triu(np.ones((4, 4)), 1)
    every = np.ones((4, 4), bool)
    assert clusters(weight, every, np.ones(4, bool), 9).tolist() == [0, 1, 2, 3]
    assert clusters(weight, every, np.ones(4, bool), 1).tolist() == [0, 0, 0, 0]
    with pytest.raises(MiError):
        clusters(weight, every, np.ones(4, bool), 0)
