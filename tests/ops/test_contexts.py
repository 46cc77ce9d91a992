"""Where values are largest, against plain loops: ties, padding, edges of rows, units without a place."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from midsl.ops.named import NT
from midsl.ops.registry import apply_op

ROWS, LENGTH, UNITS = 4, 6, 5
G = torch.Generator().manual_seed(0)
X = NT(torch.randint(-3, 4, (ROWS, LENGTH, UNITS), generator=G).double(), ("batch", "pos", "feature"))
LONG = torch.tensor([6, 3, 0, 5])
MASK = NT(torch.arange(LENGTH)[None] < LONG[:, None], ("batch", "pos"))
K, WINDOW, START = 4, 2, 3


def told(gives: str, mask: NT | None = MASK, x: NT = X, above: float = 0.0, k: int = K) -> NT:
    attrs = {"over": ("batch", "pos"), "k": k, "window": WINDOW, "above": above, "start": START}
    return apply_op("contexts", [x], {**attrs, "gives": gives}, mask)


def places(unit: int, above: float = 0.0) -> list[tuple[float, int, int]]:
    """A loop over everything: value, row, position of all active ones; largest first, then the earliest."""
    found = []
    for row in range(ROWS):
        for pos in range(int(LONG[row])):
            value = float(X.data[row, pos, unit])
            if value > above:
                found.append((-value, row, pos))
    return [(-v, r, p) for v, r, p in sorted(found)]


@pytest.mark.parametrize("above", [0.0, 1.0, 2.5])
def test_places_are_those_of_a_loop_and_of_equals_the_earliest(above: float) -> None:
    value, row, pos = (told(g, above=above) for g in ("value", "row", "pos"))
    assert value.axes == row.axes == ("feature", "rank")
    ties = 0
    for unit in range(UNITS):
        want = places(unit, above)
        ties += len(want[:K]) - len({v for v, _, _ in want[:K]})
        for rank in range(K):
            mine = tuple(float(t.data[unit, rank]) for t in (value, row, pos))
            if rank < len(want):
                assert mine == (want[rank][0], want[rank][1], want[rank][2] + START)
            else:
                assert math.isnan(mine[0]) and mine[1:] == (-1, -1)
    assert ties > 0 or above > 2, "the case has equal values"


def test_what_stands_around_is_of_the_same_row_and_counts() -> None:
    around, inside = told("around"), told("inside")
    assert around.axes == ("feature", "rank", "shift")
    for unit in range(UNITS):
        for rank, (_, row, pos) in enumerate(places(unit)[:K]):
            for i in range(2 * WINDOW + 1):
                there = 0 <= pos + i - WINDOW < int(LONG[row])
                assert bool(inside.data[unit, rank, i]) is there
                mine = float(around.data[unit, rank, i])
                assert mine == float(X.data[row, pos + i - WINDOW, unit]) if there else math.isnan(mine)


def test_density_and_mean_are_over_what_counts() -> None:
    density, mean = told("density"), told("mean")
    for unit in range(UNITS):
        on = [v for v, _, _ in places(unit)]
        assert float(density.data[unit]) == len(on) / int(LONG.sum())
        assert math.isclose(float(mean.data[unit]), sum(on) / len(on))
    nowhere = told("mean", above=9.0)
    assert nowhere.data.isnan().all() and not told("density", above=9.0).data.any()


def test_the_order_of_axes_and_more_places_than_there_are() -> None:
    turned = X.permute_to(("feature", "pos", "batch"))
    for gives in ("value", "around"):
        assert torch.equal(told(gives, x=turned).data.nan_to_num(-9), told(gives).data.nan_to_num(-9))
    many = told("row", k=40)
    every = sum(len(places(u)) for u in range(UNITS))
    assert many.data.shape == (UNITS, 40) and (many.data >= 0).sum() == every


def test_tokens_around_places() -> None:
    tokens = NT(torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH), ("batch", "pos"))
    row, pos = NT(torch.tensor([1, 3, -1]), ("rank",)), NT(torch.tensor([0, 5, -1]), ("rank",))
    found = apply_op("around", [tokens, row, pos], {"window": 1})
    assert found.axes == ("rank", "shift") and found.data.tolist() == [[0, 6, 7], [22, 23, 0], [0, 0, 0]]


def test_the_greatest_and_the_least_along_an_axis() -> None:
    x = NT(torch.tensor([[1.0, 3.0, 3.0, -2.0], [0.0, -1.0, -1.0, 5.0]]), ("feature", "vocab"))
    for least, values, index in (
        (False, [[3, 3], [5, 0]], [[1, 2], [3, 0]]),
        (True, [[-2, 1], [-1, -1]], [[3, 0], [1, 2]]),
    ):
        attrs = {"k": 2, "over": "vocab", "least": least}
        assert apply_op("top_values", [x], {**attrs, "gives": "value"}).data.tolist() == values
        assert apply_op("top_values", [x], {**attrs, "gives": "index"}).data.tolist() == index


def test_gradients_go_to_the_places_that_were_found() -> None:
    x = torch.randn(2, 4, 3, generator=G, dtype=torch.float64, requires_grad=True)

    def f(x: torch.Tensor, name: str, **attrs: object) -> torch.Tensor:
        return apply_op(name, [NT(x, ("batch", "pos", "feature"))], attrs).data.nan_to_num()

    said = {"over": ("batch", "pos"), "k": 2, "window": 1, "above": 0.0, "start": 0}
    for gives in ("value", "around", "mean"):
        assert gradcheck(lambda t, g=gives: f(t, "contexts", gives=g, **said), [x])
    assert gradcheck(lambda t: f(t, "top_values", gives="value", k=2, over="feature"), [x])
