"""Runs by rows: which rows are computed, what is left out, and how near to the least possible it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from midsl.backends import rows
from midsl.passes.pipeline import optimise
from midsl.plan.build import build
from midsl.plan.driver import Compiled, Execution, compile_spec
from midsl.plan.explain import Shapes, explain
from midsl.plan.rowed import Rowed
from midsl.plan.rowplan import operands
from midsl.plan.session import Session
from tests.bench.edge_bound import Shape
from tests.plan.corpus import SPECS, cells, planned, tables

LAYERS, WIDTH, HEADS, ROWS, LENGTH = 12, 128, 4, 2, 16

HEAD = """language mi 1
import std.models as models
from std.tasks import pairs
from std.metrics import logit_diff
model m = models.hf_random("gpt2", seed: 0, perturb: 0.1, config: {{
  n_layer: {layers}, n_embd: {width}, n_head: {heads}, vocab_size: 64, n_positions: 32
}})
data  d = pairs(m.tokenizer,
  clean: [{clean}],
  corrupt: [{corrupt}],
  answer: ["1", "2"], wrong: ["3", "4"])
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
"""


def prompts(start: int, same: int = 0) -> str:
    """Two prompts of 16 tokens, of which the first `same` do not depend on `start`."""
    rows = []
    for r in range(ROWS):
        tokens = [(7 * i + r) % 60 + (0 if i < same else start) for i in range(LENGTH)]
        rows.append('"' + " ".join(map(str, tokens)) + '"')
    return ", ".join(rows)


def spec(tmp_path: Path, body: str, same: int = 0, layers: int = LAYERS, width: int = WIDTH) -> Compiled:
    path = tmp_path / "spec.mi"
    head = HEAD.format(layers=layers, width=width, heads=HEADS, clean=prompts(0), corrupt=prompts(3, same))
    path.write_text(head + "experiment e {\n" + body + "\n}\n")
    return compile_spec(path)


PATCH = """  sweep h in {site}
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do {{ h := {value} }}
  report effect = mean(ld(patched) - ld(corrupt), over: batch)"""


def rowed(compiled: Compiled) -> Rowed:
    """The last run of a plan, which goes by rows."""
    session = Session(compiled.plan, Shapes(compiled.binder), compiled.optimised.program.roots)
    found = session.prepare(compiled.plan.runs[-1]).lowered
    assert isinstance(found, Rowed), session.by_rows(0).why
    return found


def computed(run: Rowed, name: str) -> int:
    """Rows of a node that are computed, over all lanes and examples."""
    mask = run.plan.active.get(next(n for n in run.nodes if n.name == name))
    return 0 if mask is None else int(mask.sum())


# ---------------------------------------------------------------- the least there is


def tail(dirty: int) -> int:
    """FLOPs of the last layer for one example: keys and values of the dirty rows, then one query row."""
    return (4 * dirty + 20) * WIDTH**2


def block(rows: int) -> int:
    return 24 * WIDTH**2 * rows


def least_resid(layer: int, dirty: int) -> int:
    """A patched row of the stream: the layer itself needs no q, k, v but of that row."""
    if layer == LAYERS - 1:
        return 18 * WIDTH**2
    return 18 * WIDTH**2 * dirty + block(dirty) * (LAYERS - 2 - layer) + tail(dirty)


def least_head(layer: int) -> int:
    if layer == LAYERS - 1:
        return 16 * WIDTH**2
    return 16 * WIDTH**2 * LENGTH + block(LENGTH) * (LAYERS - 2 - layer) + tail(LENGTH)


SWEEPS: dict[str, tuple[str, str, Callable[[], int]]] = {
    "residual stream, layer and position": (
        "m.blocks[*].resid_pre[pos: *]",
        "clean",
        lambda: sum(least_resid(i, s) for i in range(LAYERS) for s in range(1, LENGTH + 1)),
    ),
    "heads at all positions": (
        "m.blocks[*].attn.z[head: *]",
        "clean",
        lambda: HEADS * sum(map(least_head, range(LAYERS))),
    ),
    "heads at the last position": (
        "m.blocks[*].attn.z[head: *, pos: .end]",
        "clean",
        lambda: HEADS * sum(16 * WIDTH**2 + block(1) * (LAYERS - 1 - i) for i in range(LAYERS)),
    ),
    "steering, eight strengths": (
        "m.blocks[*].resid_pre, k in [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]",
        "self + k",
        lambda: 8 * sum(block(LENGTH) * (LAYERS - 1 - i) + tail(LENGTH) for i in range(LAYERS)),
    ),
}


QUICK = ("heads at all positions", "steering, eight strengths")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SWEEPS]
)
def test_flops_are_near_the_least(tmp_path: Path, name: str) -> None:
    """Within 5 % of what any exact method must spend, its attention and two base runs included."""
    site, value, least = SWEEPS[name]
    said = explain(spec(tmp_path, PATCH.format(site=site, value=value)))
    (lanes,) = [x.counts for x in said.lines if x.kind == "run" and " do " in x.what and x.counts is not None]
    attention = 1 + LENGTH / (6 * WIDTH)
    assert lanes.flops <= 1.05 * attention * ROWS * least()
    base = 2 * ROWS * LENGTH * block(1) * LAYERS
    assert said.optimised.flops <= 1.05 * attention * (ROWS * least() + base)
    assert said.optimised.flops < said.naive.flops / 2


# ---------------------------------------------------------------- which rows


def test_one_row_before_the_first_attention_and_all_that_follow_after(tmp_path: Path) -> None:
    body = """  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do { m.blocks[0].resid_pre[pos: 5] := clean }
  report effect = mean(ld(patched) - ld(corrupt), over: batch)"""
    run = rowed(spec(tmp_path, body, layers=2, width=16))
    assert computed(run, "layer_norm") == ROWS, "the patched row alone"
    assert computed(run, "scaled_dot_product_attention") == ROWS * (LENGTH - 5)
    assert computed(run, "layer_norm_2") == ROWS * (LENGTH - 5), "keys and values of the last layer"
    assert computed(run, "scaled_dot_product_attention_1") == ROWS, "one query each"


def test_nothing_before_the_first_token_that_differs(tmp_path: Path) -> None:
    """The two inputs share ten tokens: a patch there changes nothing, and is not run."""
    compiled = spec(
        tmp_path,
        PATCH.format(site="m.blocks[0].resid_pre[pos: *]", value="clean"),
        same=10,
        layers=2,
        width=16,
    )
    run = rowed(compiled)
    dead = run.lane_rows(slice(0, ROWS)) == 0
    assert dead.tolist() == [True] * 10 + [False] * 6
    execution = Execution(compiled)
    execution.run()
    effect = tables(execution)["e.effect"]
    assert [v == 0 for v in effect.value] == [True] * 10 + [False] * 6
    kept = optimise(compiled.program, compiled.binder, ("drop_dead_lanes",))
    every = rowed(replace(compiled, optimised=kept, plan=build(kept.program, kept.schedule)))
    assert bool((every.lane_rows(slice(0, ROWS)) > 0).all())


EDGES = """  sweep e in m.edges
  let clean   = run m on d.clean
  let patched = run m on d.corrupt do { e := clean }
  report effect = mean(ld(patched), over: batch)"""


@pytest.mark.parametrize("same", [pytest.param(0, marks=pytest.mark.slow), 14])
def test_edges_are_near_the_least(tmp_path: Path, same: int) -> None:
    """Every edge alone: what is behind its reader, from the first token on that differs; 20 times less where
    two of sixteen do. The bound leaves out attention's own products, and heads beside the one that reads."""
    said = explain(spec(tmp_path, EDGES, same=same, layers=6))
    base = 2 * 6 * LENGTH
    least = ROWS * (Shape(6, HEADS, LENGTH, same).least() + base)
    assert least < said.optimised.layer_tokens < 1.2 * least
    if same == 14:
        assert said.optimised.layer_tokens < said.naive.layer_tokens / 20


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ("self + clean[z] - corrupt[z]", True),
        ("corrupt[z] + 2 * (clean[z] - corrupt[z])", True),
        ("(run m on d.corrupt do { z := clean })[z]", True),
        ("self + sum(clean[m.blocks[0].attn.q] - corrupt[m.blocks[0].attn.q], over: d_head)", True),
        ("self + clean[z] - 2 * corrupt[z]", False),
        ("self + clean[z] - mean(corrupt[z], over: pos)", False),
        ("self + mean(clean[z] - corrupt[z], over: pos)", False),
        ("self + (clean[z] - corrupt[z])[pos: 12]", False),
        ("self + clean[m.blocks[0].attn.z] - corrupt[m.blocks[0].attn.q]", False),
        ("clean[m.blocks[0].attn.q]", False),
    ],
)
def test_what_is_written_is_what_stands_there(tmp_path: Path, value: str, same: bool) -> None:
    """Told of the expression: rows before the first other token are left out, or they are not."""
    body = f"""  site z = m.blocks[0].attn.z
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do {{ z := {value} }}
  report effect = mean(patched.logits - corrupt.logits, over: [batch, vocab])"""
    compiled = spec(tmp_path, body, same=10, layers=2, width=16)
    run = rowed(compiled)
    assert computed(run, "layer_norm_2") == ROWS * (LENGTH - 10 if same else LENGTH)
    execution = Execution(compiled)
    execution.run()
    effect = tables(execution)["e.effect"]
    assert all(v == 0 for v in effect.value[:10]) is same


def test_frozen_sites_cut_the_cone(tmp_path: Path) -> None:
    """With all other heads held, a head reaches the end through the stream and the MLPs: no attention."""
    body = """  sweep h in m.blocks[*].attn.z[head: *]
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let sent    = run m on d.clean do { h := corrupt, except(m.blocks[*].attn.z[head: *], h) := clean }
  report effect = mean(ld(sent) - ld(clean), over: batch)"""
    run = rowed(spec(tmp_path, body, layers=3, width=16))
    assert all(computed(run, n.name) == 0 for n in run.nodes if "attention" in n.name)
    assert computed(run, "layer_norm_1") > 0, "the MLP of the first layer"


def test_a_run_that_cannot_go_by_rows_says_why(tmp_path: Path) -> None:
    body = PATCH.format(site="m.blocks[*].attn.pattern[head: *]", value="clean")
    said = explain(spec(tmp_path, body, layers=2, width=16)).as_text()
    assert "whole rows: edit_op has no dimension of rows" in said


@pytest.mark.parametrize(
    "site",
    ["m.blocks[*].attn.k_input[head: *]", "m.blocks[*].attn.result[head: *]", "m.blocks[*].ln1.scale"],
)
def test_expansions_go_by_rows(tmp_path: Path, site: str) -> None:
    """Inputs of single heads, heads' own shares of the stream, norms written out."""
    run = rowed(spec(tmp_path, PATCH.format(site=site, value="clean"), layers=2, width=16))
    assert run.veto == "" and run.plan.active


# ---------------------------------------------------------------- what nobody looks at


@pytest.mark.parametrize("name", SPECS)
def test_what_is_not_kept_is_not_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that a plan holds to be of no account may hold anything: nothing changes."""
    plain = Execution(planned(name))
    plain.run()
    monkeypatch.setattr(rows, "NEITHER", 777.0)  # no NaN: a masked key counts 0 times what it is
    other = Execution(planned(name))
    other.run()
    for report, table in tables(plain).items():
        assert cells(table).keys() == cells(tables(other)[report]).keys()
        for key, (value, n, _) in cells(table).items():
            assert cells(tables(other)[report])[key][:2] == pytest.approx((value, n), nan_ok=True), key


# ---------------------------------------------------------------- what another run has already


def test_a_patched_row_takes_its_products_from_the_run_that_it_came_from(tmp_path: Path) -> None:
    """Queries, keys and values of a patched row are those of the run it was patched from: no product."""
    body = PATCH.format(site="m.blocks[*].resid_pre[pos: *]", value="clean")
    run = rowed(spec(tmp_path, body, layers=4))
    assert run.source is not None and run.source.run_node.data.side == "clean"
    layers = run.evaluator.domains.column(run.table.sweeps[0], 0)
    attentions = [n for n in run.nodes if run.rowwise.kinds[n] == "attention"]
    assert len(attentions) == 4
    for layer, node in enumerate(attentions[:-1]):
        patched_here = layers == layer
        for operand in operands(node):
            given = run.plan.given[operand][patched_here]
            assert int(given.sum()) == ROWS * LENGTH, "one row of each lane and example"
            computed_too = run.plan.active.get(operand)
            assert computed_too is None or not bool(computed_too[patched_here].any())
    last = operands(attentions[-1])[1]
    assert last not in run.plan.given, "the other run stops before the last layer's keys"


def test_what_another_run_has_counts_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = spec(tmp_path, PATCH.format(site="m.blocks[*].resid_pre[pos: *]", value="clean"), layers=4)
    with_source = Execution(compiled)
    with_source.run()
    monkeypatch.setattr("midsl.plan.rowsteps.RowSteps._source", lambda *_: None)
    without = Execution(compiled)
    without.run()
    assert with_source.totals == with_source.predicted
    lanes = 3 * LENGTH * ROWS  # of all layers but the last
    assert without.totals.flops - with_source.totals.flops == lanes * 6 * WIDTH**2
    (a,), (b,) = (list(tables(x).values()) for x in (with_source, without))
    for key, (value, _, _) in cells(a).items():
        assert value == pytest.approx(cells(b)[key][0], abs=1e-5)
