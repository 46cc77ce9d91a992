"""Edits: what they write, in which order, and what flows on from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.ops.named import NT
from midsl.oracle.interp import Oracle
from tests.oracle.toy import (
    CLEAN,
    CORRUPT,
    HEADS,
    LENGTHS,
    MODEL,
    OWNER,
    ToyInputs,
    apply,
    column,
    const,
    coord,
    edit,
    me,
    read,
    reduce,
    report,
    run,
    select,
    site,
    sweep,
)

INPUTS = ToyInputs()
REAL = torch.arange(5)[None, :] < torch.tensor(LENGTHS)[:, None]
END = torch.tensor([4, 2, 3])
ROWS = torch.arange(3)
STREAM = ("batch", "pos", "d_model")
Z = ("batch", "pos", "head", "d_model")


Change = Callable[[Tensor], Tensor]


def by_hand(part: str, read: str, layer: int | None = None, /, **changes: Change) -> Tensor:
    """Run the toy with changes given as ``name_layer=function of the whole tensor``."""
    edits: dict[tuple[str, int | None], Callable[[NT], NT]] = {}
    for key, f in changes.items():
        name, _, number = key.rpartition("_")
        address = (name, int(number)) if number.isdigit() else (key, None)
        edits[address] = partial(_whole, f)
    return INPUTS.toy.run(INPUTS.parts[part], edits, [(read, layer)])[read, layer].data


def _whole(f: Change, x: NT) -> NT:
    return NT(f(x.data.clone()), x.axes)


def logits(node_run: ir.Forward) -> Tensor:
    """The real logits of a run by the oracle, [rows, vocab]."""
    columns, values = Oracle(ToyInputs()).report(report(read(node_run, site("logits"))))
    assert set(columns) == {"example", "pos", "vocab"}
    return torch.as_tensor(values.reshape(-1, 7))


def put(value: float | Tensor, *index: Any) -> Change:
    def change(x: Tensor) -> Tensor:
        x[index] = value
        return x

    return change


def check(node_run: ir.Forward, want: Tensor) -> None:
    torch.testing.assert_close(logits(node_run), want[REAL], rtol=1e-12, atol=1e-12)


def test_a_scalar_fills_what_is_selected() -> None:
    r = run(CLEAN, edit(site("z", layer=0, head=1), const(0)))
    check(r, by_hand("clean", "logits", z_0=put(0.0, slice(None), slice(None), 1)))
    r = run(CLEAN, edit(site("z", layer=0, pos=column(CLEAN, "end"), head=1), const(2.5)))
    check(r, by_hand("clean", "logits", z_0=put(2.5, ROWS, END, 1)))
    r = run(CLEAN, edit(site("z", layer=0, head=const((0, 2))), const(0)))
    check(r, by_hand("clean", "logits", z_0=put(0.0, slice(None), slice(None), [0, 2])))


def test_stretches_are_written_where_rows_have_them() -> None:
    def spans(x: Tensor) -> Tensor:
        x[0, 1:3], x[1, 0:1], x[2, 2:4] = 1.0, 1.0, 1.0
        return x

    r = run(CLEAN, edit(site("resid_post", layer=0, pos=column(CLEAN, "subject")), const(1.0)))
    check(r, by_hand("clean", "logits", resid_post_0=spans))

    def lasts(x: Tensor) -> Tensor:
        for i, n in enumerate(LENGTHS):
            x[i, n - 2 : n] = 1.0
        return x

    r = run(CLEAN, edit(site("resid_post", layer=0, pos=ir.Slice(-2, None)), const(1.0)))
    check(r, by_hand("clean", "logits", resid_post_0=lasts))

    def listed(x: Tensor) -> Tensor:
        x[:, 0], x[0, 4] = 1.0, 1.0  # only the first row has a position 4
        return x

    r = run(CLEAN, edit(site("resid_post", layer=0, pos=const((0, 4))), const(1.0)))
    check(r, by_hand("clean", "logits", resid_post_0=listed))


def test_patching_takes_the_other_run() -> None:
    s = site("z", layer=1, head=2, pos=column(CLEAN, "end"))
    r = run(CLEAN, edit(s, read(run(CORRUPT), s)))
    other = by_hand("corrupt", "z", 1)
    check(r, by_hand("clean", "logits", z_1=put(other[ROWS, END, 2], ROWS, END, 2)))


def test_values_broadcast_by_name() -> None:
    s = site("z", layer=0)
    by_head = reduce("mean", read(run(CORRUPT), s), "batch", "pos", "d_model")  # [head]
    other = by_hand("corrupt", "z", 0)
    means = torch.stack([other[REAL][:, h].mean() for h in range(HEADS)])
    check(run(CLEAN, edit(s, by_head)), by_hand("clean", "logits", z_0=lambda x: means[:, None].expand_as(x)))


def test_self_is_what_arrives() -> None:
    early, late = site("resid_post", layer=0), site("resid_post", layer=1)
    twice = apply("mul", me(late), const(2.0))
    r = run(CLEAN, edit(late, twice, False), edit(early, const(0.5)))
    check(r, by_hand("clean", "logits", resid_post_0=put(0.5, ...), resid_post_1=lambda x: 2 * x))


def test_each_part_of_an_edit_is_worked_out_once() -> None:
    """2^60 ways lead to `self`: this ends, or it does not. What is kept of one is not for the next."""
    early, late = site("resid_post", layer=0), site("resid_post", layer=1)
    same: dict[ir.Site, ir.Node] = {s: me(s) for s in (early, late)}
    for s in same:
        for _ in range(60):
            same[s] = apply("mul", apply("add", same[s], same[s]), const(0.5))
    r = run(CLEAN, edit(early, same[early], False), edit(late, apply("add", same[late], const(1.0)), False))
    check(r, by_hand("clean", "logits", resid_post_1=lambda x: x + 1))


def test_order_at_one_address() -> None:
    s = site("resid_post", layer=0)
    plus = edit(s, apply("add", me(s), const(1.0)), False)
    times = edit(s, apply("mul", me(s), const(3.0)), False)
    absolute = edit(s, const(2.0))
    check(run(CLEAN, plus, times), by_hand("clean", "logits", resid_post_0=lambda x: (x + 1) * 3))
    check(run(CLEAN, times, plus), by_hand("clean", "logits", resid_post_0=lambda x: x * 3 + 1))
    check(run(CLEAN, plus, times, absolute), by_hand("clean", "logits", resid_post_0=put(9.0, ...)))


def test_a_joint_family_with_self() -> None:
    s = site("z", layer=ir.Star(), head=ir.Star())
    # the mean over heads of what arrives: in layer 1 it has seen the edit in layer 0
    centred = apply("sub", me(s), reduce("mean", me(s), "head"))

    def centre(x: Tensor) -> Tensor:
        return x - x.mean(2, keepdim=True)

    check(run(CLEAN, edit(s, centred, False)), by_hand("clean", "logits", z_0=centre, z_1=centre))


def test_each_member_takes_its_own() -> None:
    s = site("z", layer=ir.Star(), head=ir.Star())
    other = run(CORRUPT)
    value = reduce("mean", read(other, s), "batch", "pos")  # [layer, head, d_model]
    means = [by_hand("corrupt", "z", layer)[REAL].mean(0) for layer in range(2)]
    want = by_hand(
        "clean", "logits", z_0=lambda x: means[0].expand_as(x), z_1=lambda x: means[1].expand_as(x)
    )
    check(run(CLEAN, edit(s, value)), want)
    # the order of a list is the order of the value's axis
    listed = site("z", layer=const((1, 0)), head=ir.Star())
    check(run(CLEAN, edit(listed, reduce("mean", read(other, listed), "batch", "pos"))), want)


def test_except_leaves_members_alone() -> None:
    family = site("z", layer=ir.Star(), head=ir.Star())
    rest = ir.Site(MODEL, "z", family.select, minus=(site("z", layer=1, head=2), site("z", layer=0)))
    check(
        run(CLEAN, edit(rest, const(0))),
        by_hand("clean", "logits", z_1=put(0.0, slice(None), slice(None), [0, 1])),
    )


def layers_heads(prefix: str = "", owner: str = "m") -> ir.Sweep:
    star = site("z", layer=ir.Star(), head=ir.Star())
    axes = (Axis(prefix + "layer", owner), Axis(prefix + "head", owner))
    return sweep(prefix + "h", (prefix + "layer", prefix + "head"), axes, ir.Family((star,)))


def member(s: ir.Sweep) -> ir.Site:
    return site("z", layer=coord(s, 0), head=coord(s, 1))


@pytest.mark.parametrize("prefix", ["", "src_"])
def test_path_patching_by_except(prefix: str) -> None:
    """Send one head from the other run, hold all the others: sweep and family may share their axes."""
    s = layers_heads(prefix, "m" if not prefix else "m:src_")
    one = member(s)
    family = site("z", layer=ir.Star(), head=ir.Star())
    rest = ir.Site(MODEL, "z", family.select, minus=(one,))
    clean, corrupt = run(CLEAN), run(CORRUPT)
    held = ir.Read(clean, rest, type=read(clean, family).type)
    for value, scale in ((held, 1.0), (apply("mul", held, const(0.5)), 0.5)):
        r = run(CLEAN, edit(one, read(corrupt, one)), edit(rest, value))
        x = reduce("mean", select(read(r, site("logits")), "vocab", 0), "batch", "pos")
        columns, values = Oracle(ToyInputs()).report(report(x, s))
        assert list(columns) == [prefix + "layer", prefix + "head"]
        z = {k: [by_hand(k, "z", layer) for layer in range(2)] for k in ("clean", "corrupt")}
        want = []
        for layer in range(2):
            for h in range(HEADS):
                mixed = [scale * x.clone() for x in z["clean"]]
                mixed[layer][:, :, h] = z["corrupt"][layer][:, :, h]
                got = by_hand("clean", "logits", z_0=put(mixed[0], ...), z_1=put(mixed[1], ...))
                want.append(got[..., 0][REAL].mean())
        np.testing.assert_allclose(values, torch.stack(want).numpy(), rtol=1e-12)


def test_an_edit_at_a_position_that_a_row_has_not() -> None:
    s = sweep("p", ("p",), (Axis("p", "sweep:p"),), ir.Points(((2,), (3,), (9,))))
    r = run(CLEAN, edit(site("resid_post", layer=0, pos=coord(s)), const(0)))
    x = select(read(r, site("logits", pos=column(CLEAN, "end"))), "vocab", 0)
    columns, values = Oracle(ToyInputs()).report(report(x, s))
    assert columns == {"p": [2, 2, 2, 3, 3], "example": [0, 1, 2, 0, 2]}
    want = by_hand("clean", "logits", resid_post_0=put(0.0, slice(None), 3))
    np.testing.assert_allclose(values[3:], want[[0, 2], [4, 3], 0].numpy())
    means, n = Oracle(ToyInputs()).report(report(reduce("mean", x, "batch"), s))
    assert means == {"p": [2, 3, 9]}
    assert n[1] == pytest.approx(values[3:].mean()) and np.isnan(n[2])
    # a run on rows patched from that one is as little usable there
    second = run(CORRUPT, edit(site("embed"), read(r, site("embed"))))
    y = select(read(second, site("logits", pos=0)), "vocab", 0)
    assert Oracle(ToyInputs()).report(report(y, s))[0]["example"] == [0, 1, 2, 0, 2]


def test_reads_see_all_edits() -> None:
    s = site("z", layer=0)
    r = run(
        CLEAN, edit(s, const(1.0)), edit(site("z", layer=0, head=1), apply("mul", me(s), const(2.0)), False)
    )
    x = reduce("mean", read(r, s), "batch", "pos", "d_model")
    assert Oracle(ToyInputs()).report(report(x))[1].tolist() == [1, 2, 1]


def test_owner_is_the_data_sets() -> None:
    assert read(run(CLEAN), site("embed")).tensor_type.axes[0].owner == OWNER
