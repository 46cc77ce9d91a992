"""Sweeps, computed domains and gradients."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from midsl.diagnostics.model import MiError
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.oracle.interp import Oracle
from tests.oracle.test_edits import REAL, by_hand, layers_heads, member, put
from tests.oracle.toy import (
    CLEAN,
    CORRUPT,
    HEADS,
    ToyInputs,
    apply,
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

H = layers_heads()
DOSE = sweep(
    "dose",
    ("dose",),
    (Axis("dose", "sweep:dose", 3, (-1.0, 0.0, 2.0)),),
    ir.Points(((-1.0,), (0.0,), (2.0,))),
)


def score(r: ir.Forward) -> ir.Node:
    return reduce("mean", select(read(r, site("logits")), "vocab", 0), "batch", "pos")


def effect() -> ir.Node:
    """The mean logit after setting one head to zero, for each head."""
    return score(run(CLEAN, edit(member(H), const(0))))


def effects() -> Tensor:
    return torch.stack(
        [
            torch.stack(
                [
                    by_hand("clean", "logits", **{f"z_{layer}": put(0.0, slice(None), slice(None), h)})[
                        ..., 0
                    ][REAL].mean()
                    for h in range(HEADS)
                ]
            )
            for layer in range(2)
        ]
    )


EFFECTS = effects()


def table(node: ir.Node, *sweeps: ir.Sweep) -> tuple[dict[str, list[ir.Scalar]], np.ndarray]:
    return Oracle(ToyInputs()).report(report(node, *sweeps))


def test_one_row_per_point() -> None:
    columns, values = table(effect(), H)
    assert columns == {"layer": [0, 0, 0, 1, 1, 1], "head": [0, 1, 2, 0, 1, 2]}
    np.testing.assert_allclose(values, EFFECTS.reshape(-1).numpy())


def test_reductions_over_sweeps() -> None:
    for op, over, want in (
        ("max", ("layer", "head"), EFFECTS.max().reshape(1)),
        ("mean", ("head",), EFFECTS.mean(1)),
        ("sum", ("layer",), EFFECTS.sum(0)),
    ):
        columns, values = table(reduce(op, effect(), *over), H)
        np.testing.assert_allclose(values, want.numpy())
        assert list(columns) == [n for n in ("layer", "head") if n not in over]
    best = reduce("max", effect(), "layer", "head")
    columns, values = table(apply("div", effect(), best), H)  # a reduction beside what it reduces
    np.testing.assert_allclose(values, (EFFECTS / EFFECTS.max()).reshape(-1).numpy())


def test_reductions_over_sweep_and_batch_at_once() -> None:
    r = run(CLEAN, edit(member(H), const(0)))
    x = select(read(r, site("logits", pos=0)), "vocab", 0)
    columns, values = table(reduce("mean", x, "batch", "head"), H)
    assert columns == {"layer": [0, 1]}
    want = [
        torch.stack(
            [
                by_hand("clean", "logits", **{f"z_{layer}": put(0.0, slice(None), slice(None), h)})[:, 0, 0]
                for h in range(HEADS)
            ]
        ).mean()
        for layer in range(2)
    ]
    np.testing.assert_allclose(values, torch.stack(want).numpy())


def test_selection_by_coordinate() -> None:
    x = score(run(CLEAN, edit(site("embed"), apply("mul", me(site("embed")), coord(DOSE)), False)))
    columns, values = table(x, DOSE)
    assert columns == {"dose": [-1.0, 0.0, 2.0]}
    one = ir.Select(x, DOSE.axes[0], const(0.0), type=TensorType())
    np.testing.assert_array_equal(table(one)[1], values[1:2])
    layer_one = select(effect(), "layer", 1)
    columns, values = table(layer_one, H)
    assert columns == {"head": [0, 1, 2]}
    np.testing.assert_allclose(values, EFFECTS[1].numpy())
    with pytest.raises(MiError, match="MI0406"):
        table(ir.Select(x, DOSE.axes[0], const(7.0), type=TensorType()))
    some = Axis("dose", "sweep:dose", 2, (2.0, -1.0))
    kept = ir.Select(x, DOSE.axes[0], const((2.0, -1.0)), type=TensorType(axes=(some,)))
    assert table(kept, DOSE)[0] == {"dose": [-1.0, 2.0]}
    total = ir.Reduce("sum", kept, (some,), type=TensorType())
    assert table(total)[1][0] == pytest.approx(table(kept, DOSE)[1].sum())


def test_a_family_meets_the_sweep_over_it() -> None:
    star = site("z", layer=ir.Star(), head=ir.Star())
    sizes = reduce("mean", apply("square", read(run(CLEAN), star)), "batch", "pos", "d_model")
    columns, values = table(apply("mul", effect(), sizes), H)
    squares = torch.stack([by_hand("clean", "z", layer)[REAL].square().mean((0, 2)) for layer in range(2)])
    assert columns["head"] == [0, 1, 2] * 2
    np.testing.assert_allclose(values, (EFFECTS * squares).reshape(-1).numpy())
    total = reduce("sum", apply("mul", effect(), sizes), "layer", "head")
    assert table(total)[1][0] == pytest.approx(float((EFFECTS * squares).sum()))
    at_point = select(select(sizes, "layer", coord(H, 0)), "head", coord(H, 1))
    np.testing.assert_allclose(table(at_point, H)[1], squares.reshape(-1).numpy())
    # an edit of the swept head by the family's value takes that head's own
    r = run(CORRUPT, edit(member(H), apply("mul", read(run(CLEAN), star), const(1.0))))
    direct = run(CORRUPT, edit(member(H), read(run(CLEAN), member(H))))
    np.testing.assert_allclose(table(score(r), H)[1], table(score(direct), H)[1])


def test_two_sweeps_make_a_product() -> None:
    r = run(CLEAN, edit(member(H), coord(DOSE)))
    columns, values = table(score(r), DOSE, H)
    assert list(columns) == ["dose", "layer", "head"]
    assert columns["dose"] == [-1.0] * 6 + [0.0] * 6 + [2.0] * 6
    np.testing.assert_allclose(values[6:12], EFFECTS.reshape(-1).numpy())
    swapped, again = table(score(r), H, DOSE)
    assert list(swapped) == ["layer", "head", "dose"]
    np.testing.assert_array_equal(again.reshape(6, 3).T.reshape(-1), values)


def test_ragged_sweeps_keep_all_columns() -> None:
    ragged = sweep("h", ("layer", "head"), (Axis("h", "sweep:h"),), ir.Points(((0, 2), (1, 1))))
    x = score(run(CLEAN, edit(member(ragged), const(0))))
    columns, values = table(x, ragged)
    assert columns == {"layer": [0, 1], "head": [2, 1]}
    np.testing.assert_allclose(values, [EFFECTS[0, 2], EFFECTS[1, 1]])
    assert table(reduce("min", x, "h"))[1][0] == pytest.approx(float(min(EFFECTS[0, 2], EFFECTS[1, 1])))


def top(k: int) -> ir.Sweep:
    domain = ir.Top(effect(), k)
    return sweep("t", ("layer", "head"), (Axis("t", "sweep:t", k),), domain)


def best(k: int) -> list[tuple[int, int]]:
    order = EFFECTS.reshape(-1).argsort(descending=True)[:k]
    return [(int(i) // HEADS, int(i) % HEADS) for i in order]


def test_a_computed_domain() -> None:
    t = top(2)
    x = score(run(CORRUPT, edit(member(t), const(0))))
    columns, _ = table(x, t)
    assert list(zip(columns["layer"], columns["head"], strict=True)) == best(2)


def test_a_choice_is_replayed_and_checked() -> None:
    t = top(2)
    x = report(score(run(CORRUPT, edit(member(t), const(0)))), t)
    right, every = best(2), best(6)
    Oracle(ToyInputs(), {t.digest: right}).report(x)
    for wrong in (right[::-1], [right[0], every[2]], right[:1], [right[0], right[0]], [right[0], (5, 5)]):
        with pytest.raises(MiError, match="MI0704"):
            Oracle(ToyInputs(), {t.digest: wrong}).report(x)
    gap = float(EFFECTS.reshape(-1).sort().values[-1] - EFFECTS.reshape(-1).sort().values[-2])
    loose = gap * 1.01 / float(EFFECTS.abs().max())
    Oracle(ToyInputs(), {t.digest: right[::-1]}, tolerance=loose).report(x)


def test_points_that_the_spec_has_not() -> None:
    x = report(effect(), H)
    some = Oracle(ToyInputs(), {H.digest: [(1, 0)]}).report(x)
    np.testing.assert_allclose(some[1], EFFECTS[1, :1].numpy())
    with pytest.raises(MiError, match="MI0901"):
        Oracle(ToyInputs(), {H.digest: [(2, 0)]}).report(x)


def test_families_can_leave_members_out() -> None:
    star = site("z", layer=ir.Star(), head=ir.Star())
    rest = ir.Site(star.model, "z", star.select, minus=(site("z", head=const((0, 1))), site("z", layer=0)))
    s = sweep("h", ("layer", "head"), (Axis("h", "sweep:h"),), ir.Family((rest,)))
    columns, _ = table(score(run(CLEAN, edit(member(s), const(0)))), s)
    assert columns == {"layer": [1], "head": [2]}


def by_differences(name: str, layer: int) -> Tensor:
    """The gradient of the mean logit with respect to a site, by central differences at real positions."""
    whole = by_hand("clean", name, layer)
    slope = torch.zeros_like(whole)
    h = 1e-5
    for i in range(whole.numel()):
        bump = torch.zeros(whole.numel(), dtype=torch.float64)
        bump[i] = h
        step = bump.reshape(whole.shape)
        up = by_hand("clean", "logits", **{f"{name}_{layer}": partial(torch.add, other=step)})
        down = by_hand("clean", "logits", **{f"{name}_{layer}": partial(torch.sub, other=step)})
        slope.reshape(-1)[i] = (up[..., 0][REAL].mean() - down[..., 0][REAL].mean()) / (2 * h)
    return slope


def grad(scalar: ir.Node, r: ir.Forward, s: ir.Site) -> ir.Grad:
    swept = [a for sw in ir.sweeps_of(scalar) for a in sw.axes]
    return ir.Grad(scalar, r, s, type=TensorType(axes=(*swept, *read(r, s).tensor_type.axes)))


def test_gradients_are_slopes() -> None:
    r = run(CLEAN)
    star = site("z", layer=ir.Star(), head=ir.Star())
    g = select(grad(score(r), r, star), "d_model", 1)
    columns, values = table(g)
    assert list(columns) == ["layer", "head", "example", "pos"]
    for layer in range(2):
        want = by_differences("z", layer)
        assert (want[~REAL] == 0).all()
        for h in range(HEADS):
            got = values.reshape(2, HEADS, -1)[layer, h]
            np.testing.assert_allclose(got, want[..., h, 1][REAL].numpy(), rtol=1e-6, atol=1e-9)


def test_what_an_edit_writes_is_a_constant_for_gradients() -> None:
    s = site("resid_post", layer=0)
    kept = run(CLEAN, edit(site("resid_post", layer=0, pos=0), apply("mul", me(s), const(1.0)), False))
    first = grad(score(kept), kept, site("embed"))
    whole = run(CLEAN)
    full = grad(score(whole), whole, site("embed"))
    a, b = table(first)[1], table(full)[1]
    assert not np.allclose(a, b)
    # the leaf itself is the value after the edit
    leaf = table(grad(score(kept), kept, s))[1]
    np.testing.assert_allclose(leaf, table(grad(score(whole), whole, s))[1])


def test_gradient_of_a_swept_run() -> None:
    r = run(CLEAN, edit(site("embed"), apply("mul", me(site("embed")), coord(DOSE)), False))
    x = reduce("sum", grad(score(r), r, site("resid_post", layer=1)), "batch", "pos", "d_model")
    columns, values = table(x, DOSE)
    assert columns == {"dose": [-1.0, 0.0, 2.0]}
    for dose, got in zip((-1.0, 0.0, 2.0), values, strict=True):
        final = by_hand("clean", "resid_post", 1, embed=partial(torch.mul, other=torch.tensor(dose)))
        leaf = final.requires_grad_()
        logit = (torch.tanh(leaf) @ ToyInputs().toy.W_U)[..., 0][REAL].mean()
        (slope,) = torch.autograd.grad(logit, leaf)
        assert got == pytest.approx(float(slope.sum()))


def test_attribution_is_one_backward() -> None:
    inputs = ToyInputs()
    star = site("z", layer=ir.Star(), head=ir.Star())
    clean, corrupt = run(CLEAN), run(CORRUPT)
    gap = apply("sub", read(clean, star), read(corrupt, star))
    estimate = reduce(
        "sum", apply("mul", gap, grad(score(corrupt), corrupt, star)), "batch", "pos", "d_model"
    )
    columns, values = Oracle(inputs).report(report(estimate))
    assert columns["layer"] == [0, 0, 0, 1, 1, 1]
    assert len(inputs.toy.log) == 3  # clean, corrupt, and corrupt once more for its gradient
    assert np.isfinite(values).all() and (values != 0).all()


def test_gradients_that_are_refused() -> None:
    r = run(CLEAN)
    s = site("resid_post", layer=0)
    with pytest.raises(MiError, match="does not depend"):
        table(grad(score(run(CORRUPT)), r, s))
    twice = grad(reduce("sum", grad(score(r), r, s), "batch", "pos", "d_model"), r, s)
    with pytest.raises(MiError, match="does not depend"):  # inside another, a gradient is a constant
        table(twice)


def test_a_site_downstream_of_nothing_has_no_slope() -> None:
    r = run(CLEAN)
    early = reduce("mean", read(r, site("resid_post", layer=0)), "batch", "pos", "d_model")
    values = table(grad(early, r, site("z", layer=1)))[1]
    assert (values == 0).all()


def test_nodes_that_are_no_values() -> None:
    with pytest.raises(MiError, match="MI0601"):
        table(ir.Params((), 0, type=TensorType()))
