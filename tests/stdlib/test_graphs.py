"""What `std.graphs` stands on, against ways counted one by one in small random graphs."""

from __future__ import annotations

from itertools import pairwise, permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from midsl.diagnostics.model import MiError
from midsl.lib import graphs

N = 6
Floats = NDArray[np.float64]


def acyclic(seed: int) -> Floats:
    """Weights of a random graph whose edges lead from lower numbers to higher ones."""
    rng = np.random.default_rng(seed)
    return np.triu(rng.normal(size=(N, N)) * (rng.random((N, N)) < 0.7), 1)


def ways(weight: Floats, s: int, t: int) -> list[list[int]]:
    """Every way from one node to another, of one step or more."""
    found = []
    for k in range(N):
        for middle in permutations([n for n in range(N) if n not in (s, t)], k):
            way = [s, *middle, t]
            if all(weight[a, b] != 0 for a, b in pairwise(way)):
                found.append(way)
    return found if s != t else []


@pytest.mark.parametrize("seed", range(4))
def test_influence_is_the_sum_over_all_ways(seed: int) -> None:
    share = graphs.shares(np.abs(acyclic(seed)))
    want = np.zeros((N, N))
    for s, t in product(range(N), repeat=2):
        for way in ways(share, s, t):
            want[s, t] += np.prod([share[a, b] for a, b in pairwise(way)])
    np.testing.assert_allclose(graphs.influence_between(share), want, atol=1e-12)
    on = np.random.default_rng(seed).random(N)
    np.testing.assert_allclose(graphs.influence(share, on), want @ on, atol=1e-12)
    into = share.sum(0)
    assert np.all((np.abs(into - 1) < 1e-12) | (into == 0)), "what comes in sums to 1"


def test_a_loop_that_hands_on_all_it_gets_is_refused_and_one_that_does_not_is_summed() -> None:
    with pytest.raises(MiError) as error:
        graphs.influence(np.array([[0.0, 1.0], [1.0, 0.0]]), np.ones(2))
    assert error.value.diagnostics[0].code == "MI0707"
    half = np.array([[0.0, 0.5], [0.5, 0.0]])
    series = sum(np.linalg.matrix_power(half, k) for k in range(1, 60))
    np.testing.assert_allclose(graphs.influence_between(half), series, atol=1e-12)


def largest(score: Floats, share: float) -> set[int]:
    """The fewest entries, largest first, that make up a share of the sum, and those as large as the last."""
    taken: set[int] = set()
    for i in np.argsort(-score, kind="stable"):
        if sum(score[list(taken)]) / score.sum() >= share:
            break
        taken.add(int(i))
    last = min(score[list(taken)])
    return {i for i in range(len(score)) if score[i] >= last - 1e-12}


@pytest.mark.parametrize("seed", range(4))
def test_pruning_by_a_plain_loop(seed: int) -> None:
    weight = acyclic(seed)
    on = np.eye(N)[N - 1]
    always = on > 0
    edges, alive = weight != 0, np.ones(N, np.bool_)
    kept = {}
    for nodes in (0.5, 0.8, 1.0):
        done = graphs.pruned(weight, edges, alive, on, always, nodes, 0.9)
        kept[nodes] = done["nodes"]
        first = largest(graphs.influence(graphs.shares(np.abs(weight)), on), nodes) | {N - 1}
        left = np.array([[a in first and b in first for b in range(N)] for a in range(N)])
        share = graphs.shares(np.abs(weight) * left)
        flow = share * (graphs.influence(share, on) + on)
        rest = {divmod(i, N) for i in largest(flow.ravel(), 0.9)}
        there = set(first)
        while True:  # dead ends, and what lost all that came in
            rest = {(a, b) for a, b in rest if a in there and b in there}
            loose = {
                n
                for n in there - {N - 1}
                if n not in {a for a, _ in rest} or (edges[:, n].any() and n not in {b for _, b in rest})
            }
            if not loose:
                break
            there -= loose
        assert set(np.flatnonzero(done["nodes"])) == there
        assert {(int(a), int(b)) for a, b in zip(*np.nonzero(done["edges"]), strict=True)} == rest
    assert not (kept[0.5] & ~kept[1.0]).any()


@pytest.mark.parametrize("seed", range(3))
def test_paths_are_the_cheapest_of_all_ways(seed: int) -> None:
    weight = acyclic(seed)
    with np.errstate(divide="ignore"):
        cost = 1 / np.abs(weight)
    found = graphs.distances(cost, weight != 0)
    for s, t in product(range(N), repeat=2):
        lengths = [sum(cost[a, b] for a, b in pairwise(w)) for w in ways(weight, s, t)]
        assert found[s, t] == pytest.approx(min(lengths, default=0.0 if s == t else np.inf))
    start, end = np.eye(N, dtype=bool)[0] | np.eye(N, dtype=bool)[1], np.eye(N, dtype=bool)[N - 1]
    way = graphs.path(cost, weight != 0, start, end)
    assert cost[way].sum() == pytest.approx(min(found[0, N - 1], found[1, N - 1]))
    assert not graphs.path(cost, np.zeros((N, N), bool), start, end).any()


def test_merging_keeps_what_goes_in_and_out_and_drops_what_is_inside() -> None:
    weight = np.random.default_rng(0).normal(size=(N, N))
    into = np.array([0, 0, 2, 2, 2, 5])
    done = graphs.merged(weight, np.ones((N, N), bool), into.astype(float), incoming=True)
    for a, b in product(range(N), repeat=2):
        parts = [(s, t) for s, t in product(range(N), repeat=2) if into[s] == a and into[t] == b and a != b]
        assert done["weight"][a, b] == pytest.approx(sum(weight[p] for p in parts))
        assert done["edges"][a, b] == bool(parts)
    assert done["nodes"].tolist() == [True, False, True, False, False, True]
    alone = graphs.merged(weight, np.ones((N, N), bool), into.astype(float), incoming=False)
    assert alone["weight"][5, 2] == weight[5, 2], "only what reached node 2 itself"
    with pytest.raises(MiError):
        graphs.merged(weight, np.ones((N, N), bool), np.full(N, 9.0), incoming=True)
