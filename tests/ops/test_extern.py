"""Python functions as operations: lifted, rows that do not count left out, held to their declaration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from midsl.diagnostics.model import MiError
from midsl.ops.extern import _CALLS
from midsl.ops.named import NT
from midsl.ops.registry import apply_op

SEEN: list[tuple[int, ...]] = []


def centred(x: np.ndarray, by: float = 1.0) -> dict[str, np.ndarray]:
    """Rows less their mean, scaled, and the mean; tells what it was given."""
    SEEN.append(x.shape)
    mean = x.mean(0)
    return {"rest": (x - mean) * by, "mean": mean}


def whatever(what: str) -> Any:
    """Something that no declaration here says."""
    return {
        "text": "no",
        "float": np.array(0.5),
        "matrix": np.zeros((2, 2)),
        "fields": {"a": np.zeros(2)},
        "nothing": None,
    }[what]


def broken() -> float:
    """It fails."""
    raise ZeroDivisionError("by nothing")


HERE = __name__
AXES = (("batch", None), ("d", None))
REST: dict[str, Any] = {
    "ref": f"{HERE}:centred",
    "over": ("batch", "d"),
    "gives": (("rest", "float", AXES), ("mean", "float", (("d", None),))),
}


def apply(out: str, *xs: NT, mask: NT | None = None, **attrs: Any) -> NT:
    return apply_op("extern", xs, {**REST, "out": out, **attrs}, mask)


def test_it_is_called_once_for_each_place_along_other_axes() -> None:
    _CALLS.clear()
    SEEN.clear()
    x = NT(torch.arange(24, dtype=torch.float32).reshape(2, 3, 4), ("layer", "batch", "d"))
    params = (("x", ("in", 0, ("batch", "d"))), ("by", 2.0))
    got = apply("rest", x, params=params)
    assert got.axes == ("layer", "batch", "d") and got.data.dtype == torch.float32
    assert torch.allclose(got.data, 2 * (x.data - x.data.mean(1, keepdim=True)))
    mean = apply("mean", x, params=params)
    assert mean.axes == ("layer", "d") and torch.allclose(mean.data, x.data.mean(1))
    assert SEEN == [(3, 4), (3, 4)], "the other field of the record costs nothing"


def test_axes_come_in_the_order_of_the_declaration_and_scalars_as_numbers() -> None:
    x = NT(torch.arange(6, dtype=torch.float64).reshape(2, 3), ("d", "batch"))
    by = NT(torch.tensor([1.0, 3.0], dtype=torch.float64), ("dose",))
    got = apply("rest", x, by, params=(("x", ("in", 0, ("batch", "d"))), ("by", ("in", 1, ()))))
    want = x.data.mT - x.data.mT.mean(0)
    assert got.axes == ("dose", "batch", "d") and torch.allclose(got.data, torch.stack([want, 3 * want]))


def test_rows_that_do_not_count_are_not_seen_and_hold_no_number() -> None:
    x = NT(torch.tensor([[1.0, 2.0], [99.0, 99.0], [3.0, 4.0]]), ("batch", "d"))
    mask = NT(torch.tensor([True, False, True]), ("batch",))
    params = (("x", ("in", 0, ("batch", "d"))),)
    assert apply("mean", x, mask=mask, params=params).data.tolist() == [2.0, 3.0]
    rest = apply("rest", x, mask=mask, params=params).data
    assert rest[[0, 2]].tolist() == [[-1.0, -1.0], [1.0, 1.0]] and bool(rest[1].isnan().all())


def test_rows_that_count_at_one_place_and_not_at_another() -> None:
    x = NT(torch.tensor([[[1.0], [3.0]], [[1.0], [3.0]]]), ("@", "batch", "d"))
    mask = NT(torch.tensor([[True, True], [False, True]]), ("@", "batch"))
    got = apply("mean", x, mask=mask, params=(("x", ("in", 0, ("batch", "d"))),))
    assert got.data.tolist() == [[2.0], [3.0]]


def test_rows_of_unequal_lengths_are_refused() -> None:
    x = NT(torch.zeros(2, 3), ("batch", "d"))
    mask = NT(torch.tensor([[True, True, True], [True, True, False]]), ("batch", "pos"))
    with pytest.raises(MiError, match="unequal lengths"):
        apply("mean", x, mask=mask, over=("batch", "d", "pos"), params=(("x", ("in", 0, ("batch", "d"))),))


@pytest.mark.parametrize(
    ("what", "gives", "why"),
    [
        ("text", (("", "float", ()),), "is of <U2, and not Float"),
        ("float", (("", "int", ()),), "is of float64, and not Int"),
        ("matrix", (("", "float", (("a", 2),)),), "has 2 axes, and not 1"),
        ("matrix", (("", "float", (("a", 2), ("b", 3))),), "2 long along `b`, and not 3"),
        ("fields", (("a", "float", (("a", 2),)), ("b", "float", ())), "gives a, and not a record of a, b"),
        ("nothing", (("a", "float", ()),), "gives NoneType, and not a record of a"),
    ],
)
def test_what_it_gives_is_what_it_says(what: str, gives: Any, why: str) -> None:
    with pytest.raises(MiError, match=why) as caught:
        apply(gives[0][0], ref=f"{HERE}:whatever", params=(("what", what),), over=(), gives=gives)
    assert caught.value.exit_code == 4 and caught.value.diagnostics[0].code == "MI0707"


def test_failures_are_told_as_its_own() -> None:
    gives = (("", "float", ()),)
    with pytest.raises(MiError, match="`broken` failed: ZeroDivisionError: by nothing"):
        apply("", ref=f"{HERE}:broken", params=(), over=(), gives=gives)
    with pytest.raises(MiError, match="there is no function"):
        apply("", ref=f"{HERE}:absent", params=(), over=(), gives=gives)


def test_no_gradient_goes_through_it() -> None:
    x = NT(torch.zeros(2, 2, requires_grad=True), ("batch", "d"))
    with pytest.raises(MiError, match="a gradient through `centred`"):
        apply("mean", x, params=(("x", ("in", 0, ("batch", "d"))),))
