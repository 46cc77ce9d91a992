"""Entries spread along new axes, numbers, lifting: against plain loops."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from midsl.ops.named import NT
from midsl.ops.registry import apply_op

X = NT(torch.arange(24.0, dtype=torch.float64).reshape(2, 3, 4) + 1, ("batch", "i", "j"))


def test_entries_go_to_their_places_and_add_up() -> None:
    at = tuple((5 * m) % 7 - 1 for m in range(12))  # some places twice, one entry nowhere
    made = apply_op("spread", [X], {"over": ("i", "j"), "to": (("s", 2), ("d", 3)), "at": at})
    assert made.axes == ("batch", "s", "d") and -1 in at and len(set(at)) < len(at)
    want = torch.zeros(2, 6, dtype=torch.float64)
    for b, (m, (i, j)) in product(range(2), enumerate(product(range(3), range(4)))):
        if at[m] >= 0:
            want[b, at[m]] += X.data[b, i, j]
    assert torch.equal(made.data, want.reshape(2, 2, 3))


def test_one_axis_of_several_is_spread_and_the_order_of_axes_does_not_matter() -> None:
    turned = X.permute_to(("j", "batch", "i"))
    attrs = {"over": ("j",), "to": (("node", 5),), "at": (4, 0, 2, 1)}
    a, b = (apply_op("spread", [x], attrs) for x in (X, turned))
    assert torch.equal(a.data, b.permute_to(a.axes).data)
    assert torch.equal(a.data[..., 4], X.data[..., 0]) and not a.data[..., 3].any()


def test_truth_values_hold_where_any_does_and_whole_numbers_stay_whole() -> None:
    x = NT(torch.tensor([True, True, False, True]), ("i",))
    made = apply_op("spread", [x], {"over": "i", "to": (("n", 3),), "at": (0, 0, 1, 2)})
    assert made.data.tolist() == [True, False, True] and made.data.dtype == torch.bool
    whole = NT(torch.tensor([3, 4]), ("i",))
    assert apply_op("spread", [whole], {"over": "i", "to": (("n", 1),), "at": (0, 0)}).data.tolist() == [7]


def test_one_value_is_put_at_many_places() -> None:
    made = apply_op(
        "spread", [NT(torch.tensor(True), ())], {"over": (), "to": (("s", 2), ("d", 2)), "at": (1, 2)}
    )
    assert made.data.tolist() == [[False, True], [True, False]]


def test_places_for_other_entries_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="4 entries, and 3 places"):
        apply_op("spread", [X], {"over": ("j",), "to": (("n", 3),), "at": (0, 1, 2)})


def test_gradients_go_through() -> None:
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    made = apply_op("spread", [NT(x, ("i",))], {"over": "i", "to": (("n", 2),), "at": (1, 1, -1)})
    made.data[1].backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.tolist() == [1.0, 1.0, 0.0]


def test_numbers_and_lifting() -> None:
    n = apply_op("numbers", [], {"values": (1, 2, 3), "axis": "i"})
    assert n.axes == ("i",) and n.data.dtype == torch.int64
    assert apply_op("numbers", [], {"values": (0.5, 1), "axis": "i"}).data.dtype == torch.float64
    wide = apply_op("lift", [n, X], {})
    assert wide.sizes == {"batch": 2, "j": 4, "i": 3}
    assert torch.equal(wide.data[1, 2], n.data)
