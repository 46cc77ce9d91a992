"""Reads, selections, reductions and columns, against plain torch on the toy model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from midsl.diagnostics.model import MiError
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.oracle.interp import Oracle, evaluate
from tests.oracle.toy import (
    CLEAN,
    CORRUPT,
    HEADS,
    LENGTHS,
    MODEL,
    ToyInputs,
    V,
    apply,
    axes_of,
    column,
    const,
    coord,
    read,
    reduce,
    report,
    run,
    select,
    site,
    sweep,
)

INPUTS = ToyInputs()
PART = INPUTS.parts["clean"]
ALL = [
    ("z", 0),
    ("z", 1),
    ("resid_post", 0),
    ("resid_post", 1),
    ("late", 1),
    ("logits", None),
    ("embed", None),
]
RAW = {k: v.data for k, v in INPUTS.toy.run(PART, {}, ALL).items()}
REAL = torch.arange(5)[None, :] < torch.tensor(LENGTHS)[:, None]
LOGITS = RAW["logits", None]
BASE = run(CLEAN)
END = torch.tensor([4, 2, 3])


def oracle() -> Oracle:
    return Oracle(ToyInputs())


def table(node: ir.Node, *sweeps: ir.Sweep) -> tuple[dict[str, list[ir.Scalar]], np.ndarray]:
    return oracle().report(report(node, *sweeps))


def number(node: ir.Node) -> float:
    columns, values = table(node)
    assert columns == {} and values.shape == (1,)
    return float(values[0])


def test_padding_gives_no_row() -> None:
    columns, values = table(select(read(BASE, site("logits")), "vocab", 3))
    assert list(columns) == ["example", "pos"]
    assert len(values) == sum(LENGTHS)
    assert columns["example"] == [0] * 5 + [1] * 3 + [2] * 4
    assert columns["pos"] == [0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3]
    np.testing.assert_array_equal(values, LOGITS[..., 3][REAL].numpy())


def test_reductions_leave_padding_out() -> None:
    x = select(read(BASE, site("logits")), "vocab", 0)
    assert number(reduce("mean", x, "batch", "pos")) == pytest.approx(float(LOGITS[..., 0][REAL].mean()))
    per_row = torch.stack([LOGITS[i, :n, 0].mean() for i, n in enumerate(LENGTHS)])
    assert number(reduce("mean", reduce("mean", x, "pos"), "batch")) == pytest.approx(float(per_row.mean()))
    assert number(reduce("max", x, "batch", "pos")) == LOGITS[..., 0][REAL].max()
    # pos last: at each position the rows that have it, then the positions
    by_pos = torch.stack([LOGITS[REAL[:, p], p, 0].mean() for p in range(5)])
    columns, values = table(reduce("mean", x, "batch"))
    assert columns == {"pos": [0, 1, 2, 3, 4]}
    np.testing.assert_allclose(values, by_pos.numpy())
    assert number(reduce("mean", reduce("mean", x, "batch"), "pos")) == pytest.approx(float(by_pos.mean()))


def test_where_keeps_elements() -> None:
    x = select(read(BASE, site("logits")), "vocab", 0)
    positive = apply("gt", x, const(0.0))
    kept = LOGITS[..., 0][REAL & (LOGITS[..., 0] > 0)]
    assert number(reduce("sum", x, "batch", "pos", where=positive)) == pytest.approx(float(kept.sum()))
    never = apply("gt", x, const(1e9))
    assert np.isnan(number(reduce("mean", x, "batch", "pos", where=never)))
    assert number(reduce("count", positive, "batch", "pos")) == len(kept)


def test_operations_along_positions_leave_padding_out() -> None:
    x = select(read(BASE, site("logits")), "vocab", 0)
    columns, values = table(apply("argmax", x, drop=("pos",), over="pos"))
    assert columns == {"example": [0, 1, 2]}
    assert values.tolist() == [int(LOGITS[i, :n, 0].argmax()) for i, n in enumerate(LENGTHS)]
    _, soft = table(apply("softmax", x, over="pos"))
    want = torch.cat([torch.softmax(LOGITS[i, :n, 0], 0) for i, n in enumerate(LENGTHS)])
    np.testing.assert_allclose(soft, want.numpy())


def test_a_position_column_is_one_per_row() -> None:
    want = LOGITS[torch.arange(3), END]
    at_read = read(BASE, site("logits", pos=column(CLEAN, "end")))
    after = select(read(BASE, site("logits")), "pos", column(CLEAN, "end"))
    for x in (at_read, after):
        columns, values = table(select(x, "vocab", 2))
        assert columns == {"example": [0, 1, 2]}
        np.testing.assert_array_equal(values, want[:, 2].numpy())


def test_a_token_column_picks_one_entry_per_row() -> None:
    x = select(read(BASE, site("logits", pos=column(CLEAN, "end"))), "vocab", column(CLEAN, "answer"))
    answer = torch.as_tensor(np.asarray(PART.columns["answer"].values))
    _, values = table(x)
    np.testing.assert_array_equal(values, LOGITS[torch.arange(3), END, answer].numpy())


def test_next_token_loss() -> None:
    predicted = select(read(BASE, site("logits")), "pos", ir.Slice(None, -1))
    scores = apply("log_softmax", predicted, over="vocab")
    nll = apply("neg", select(scores, "vocab", column(CLEAN, "next")))
    want = [
        -torch.log_softmax(LOGITS[i, p], -1)[PART.tokens[i, p + 1]]
        for i, n in enumerate(LENGTHS)
        for p in range(n - 1)
    ]
    assert nll.tensor_type.axis("pos").span == "predicted"  # type: ignore[union-attr]
    columns, values = table(nll)
    np.testing.assert_allclose(values, torch.stack(want).numpy())
    assert columns["pos"] == [0, 1, 2, 3, 0, 1, 0, 1, 2]


@pytest.mark.parametrize("where", ["site", "select"])
def test_stretches(where: str) -> None:
    for index in (
        column(CLEAN, "subject"),
        ir.Slice(1, None),
        ir.Slice(-2, None),
        ir.Slice(0, None, 2),
        const((0, 3)),
    ):
        if where == "site":
            x: ir.Node = read(BASE, site("resid_post", layer=1, pos=index))
        else:
            x = select(read(BASE, site("resid_post", layer=1)), "pos", index)
        spans = {0: (1, 3), 1: (0, 1), 2: (2, 4)}
        want = []
        for i, n in enumerate(LENGTHS):
            row = list(range(n))
            if isinstance(index, ir.Column):
                row = row[slice(*spans[i])]
            elif isinstance(index, ir.Slice):
                row = row[index.lo : index.hi : index.step]
            else:
                row = [p for p in (0, 3) if p < n]
            want += [RAW["resid_post", 1][i, p, 0] for p in row]
        _, values = table(select(x, "d_model", 0))
        np.testing.assert_array_equal(values, torch.stack(want).numpy())
        assert number(reduce("mean", select(x, "d_model", 0), "batch", "pos")) == pytest.approx(
            float(torch.stack(want).mean())
        )


def test_a_stretch_of_a_stretch_is_in_row_positions() -> None:
    x = select(read(BASE, site("resid_post", layer=0, pos=ir.Slice(1, None))), "d_model", 0)
    one = select(x, "pos", const(2))
    _, values = table(one)
    np.testing.assert_array_equal(values, RAW["resid_post", 0][:, 2, 0].numpy())
    inner = select(x, "pos", ir.Slice(2, 3))
    columns, values = table(inner)
    np.testing.assert_array_equal(values, RAW["resid_post", 0][:, 2, 0].numpy())
    assert columns["pos"] == [2, 2, 2]
    with pytest.raises(MiError, match=r"MI0406.*covers only"):
        table(select(x, "pos", ir.Slice(0, 2)))


def test_a_position_that_a_row_has_not_makes_it_unusable() -> None:
    for x in (
        select(select(read(BASE, site("logits")), "pos", 3), "vocab", 0),
        select(read(BASE, site("logits", pos=3)), "vocab", 0),
    ):
        columns, values = table(x)
        assert columns == {"example": [0, 2]}
        np.testing.assert_array_equal(values, LOGITS[[0, 2], 3, 0].numpy())
        assert number(reduce("mean", x, "batch")) == pytest.approx(float(LOGITS[[0, 2], 3, 0].mean()))
    nowhere = select(read(BASE, site("logits", pos=7)), "vocab", 0)
    assert np.isnan(number(reduce("mean", nowhere, "batch")))


def test_families_stack_their_members() -> None:
    star = read(BASE, site("z", layer=ir.Star(), head=ir.Star(), pos=column(CLEAN, "end")))
    columns, values = table(reduce("mean", star, "batch", "d_model"))
    assert list(columns) == ["layer", "head"]
    want = [RAW["z", layer][torch.arange(3), END, h].mean() for layer in range(2) for h in range(HEADS)]
    np.testing.assert_allclose(values, torch.stack(want).numpy())
    some = read(BASE, site("z", layer=const((1, 0)), head=const((2, 0))))
    x = reduce("mean", some, "batch", "pos", "d_model")
    _, values = table(x)
    want = [RAW["z", layer][REAL][:, h].mean() for layer in (1, 0) for h in (2, 0)]
    np.testing.assert_allclose(values, torch.stack(want).numpy())


def test_members_taken_out_have_no_value() -> None:
    family = site("z", layer=ir.Star(), head=ir.Star())
    rest = ir.Site(MODEL, "z", family.select, minus=(site("z", layer=1, head=2), site("z", layer=0)))
    x = reduce("mean", ir.Read(BASE, rest, type=read(BASE, family).type), "batch", "pos", "d_model")
    _, values = table(x)
    assert np.isnan(values).tolist() == [True] * 3 + [False, False, True]


def test_a_site_of_some_layers() -> None:
    x = read(BASE, site("late", layer=ir.Star()))
    assert number(reduce("sum", x, "layer", "batch", "pos", "d_model")) == pytest.approx(
        float(RAW["late", 1][REAL].sum())
    )
    with pytest.raises(MiError, match="MI0406"):
        table(read(BASE, site("late", layer=0)))


def test_labels() -> None:
    labelled = Axis("vocab", V.owner, 3, (5, 1, 6))
    x = read(BASE, site("logits", pos=0))
    some = ir.Select(
        x, x.tensor_type.axes[1], const((5, 1, 6)), type=TensorType(axes=(x.tensor_type.axes[0], labelled))
    )
    assert table(some)[0]["vocab"] == [5, 1, 6] * 3
    one = ir.Select(some, labelled, const(6), type=some.tensor_type.without("vocab"))
    np.testing.assert_array_equal(table(one)[1], LOGITS[:, 0, 6].numpy())


def test_columns_and_weights() -> None:
    assert table(column(CLEAN, "score"))[1].tolist() == [0.5, -1.0, 2.0]
    assert table(column(CLEAN, "tokens"))[1].tolist() == [
        int(t) for i, n in enumerate(LENGTHS) for t in PART.tokens[i, :n]
    ]
    nxt = table(column(CLEAN, "next"))
    assert nxt[1].tolist() == [int(t) for i, n in enumerate(LENGTHS) for t in PART.tokens[i, 1:n]]
    w = ir.Weight(MODEL, "W_U", type=TensorType(axes=(Axis("d_model", "m"), V)))
    x = apply("dot", read(BASE, site("resid_post", layer=1)), w, drop=("d_model",), over="d_model")
    assert set(a.name for a in axes_of(x)) == {"batch", "pos", "vocab"}
    _, values = table(select(x, "vocab", 2))
    want = (RAW["resid_post", 1] @ INPUTS.toy.W_U)[..., 2][REAL]
    np.testing.assert_allclose(values, want.numpy())


def test_an_index_may_be_computed() -> None:
    logits = read(BASE, site("logits", pos=column(CLEAN, "end")))
    best = apply("argmax", logits, drop=("vocab",), over="vocab")
    _, values = table(select(logits, "vocab", best))
    np.testing.assert_array_equal(values, LOGITS[torch.arange(3), END].max(-1).values.numpy())


def test_expect() -> None:
    x = reduce("mean", select(read(BASE, site("logits")), "vocab", 0), "batch", "pos")
    want = float(LOGITS[..., 0][REAL].mean())
    o = oracle()
    assert o.expect(ir.Expect("e", apply("gt", x, const(want - 1e-6)), "", ""))
    assert not o.expect(ir.Expect("e", apply("gt", x, const(want + 1e-6)), "", ""))
    assert o.expect(ir.Expect("e", apply("approx", x, const(want)), "", ""))


def test_one_expression_at_one_point() -> None:
    s = sweep("v", ("v",), (Axis("v", "sweep:v"),), ir.Points(((0,), (5,))))
    x = apply("mul", select(read(BASE, site("logits", pos=0)), "vocab", coord(s)), const(2.0))
    found = evaluate(x, ToyInputs(), {s.digest: (5,)})
    assert found.axes == ("batch",)
    assert torch.equal(found.data, LOGITS[:, 0, 5] * 2)


def test_a_run_runs_once() -> None:
    inputs = ToyInputs()
    both = apply("sub", read(BASE, site("logits")), read(run(CORRUPT), site("logits")))
    heads = reduce("sum", read(BASE, site("z", layer=ir.Star(), head=ir.Star())), "batch", "pos", "d_model")
    x = apply("mul", reduce("mean", both, "batch", "pos", "vocab"), heads)
    Oracle(inputs).report(report(x))
    assert sorted(len(reads) for reads in inputs.toy.log) == [1, 3]


def test_a_sweep_over_positions() -> None:
    s = sweep("p", ("p",), (Axis("p", "sweep:p"),), ir.Points(((0,), (3,), (4,))))
    x = reduce("mean", select(read(BASE, site("logits", pos=coord(s))), "vocab", 0), "batch")
    columns, values = table(x, s)
    assert columns == {"p": [0, 3, 4]}
    want = [LOGITS[:, 0, 0].mean(), LOGITS[[0, 2], 3, 0].mean(), LOGITS[0, 4, 0]]
    np.testing.assert_allclose(values, torch.stack(want).numpy())
