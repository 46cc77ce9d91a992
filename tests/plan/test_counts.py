"""What `explain` predicts is what `run` does, to the last FLOP and byte, and what each pass saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from midsl.backends.eager import Runner
from midsl.passes.pipeline import OPTIONAL
from midsl.plan.driver import Compiled, Execution, compile_spec
from midsl.plan.edits import EditOp
from midsl.plan.execute import Executor
from midsl.plan.explain import Shapes, explain, totals
from midsl.plan.prepared import Prepared
from midsl.plan.rowed import Rowed
from midsl.plan.session import Session
from midsl.plan.steps import RunStep
from midsl.plan.totals import Totals
from tests.plan.corpus import CHUNKS, SPECS, SUBSETS, chunked, planned, some_subsets

HEAD = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import logit_diff, nll
model m = models.toy(layers: 3, heads: 2, d_model: 16, d_mlp: 24, vocab: 32, ctx: 24)
data  d = induction(m.tokenizer, n: 4, period: 5, corrupt: "cue", seed: 0)
metric ld = logit_diff(correct: .answer, wrong: .wrong)
"""


def small(tmp_path: Path, body: str) -> Compiled:
    """A spec of one experiment on one model."""
    path = tmp_path / "spec.mi"
    path.write_text(HEAD + "experiment e {\n" + body + "\n}\n")
    return compile_spec(path)


def predicted(compiled: Compiled) -> Totals:
    return totals(Session(compiled.plan, Shapes(compiled.binder), compiled.optimised.program.roots))


def executed(compiled: Compiled) -> Totals:
    execution = Execution(compiled)
    execution.run()
    return execution.totals


def without(compiled: Compiled, *off: str) -> Compiled:
    from midsl.passes.pipeline import optimise
    from midsl.plan.build import build

    optimised = optimise(compiled.program, compiled.binder, off)
    return replace(compiled, optimised=optimised, plan=build(optimised.program, optimised.schedule))


def blocks_run(compiled: Compiled) -> set[int]:
    """The blocks in which anything is multiplied."""
    session = compiled.session()
    found: set[int] = set()
    for step in compiled.plan.runs:
        p = session.prepare(step)
        if isinstance(p.lowered, Rowed):
            counts = p.lowered.predict(torch.arange(p.lanes), slice(0, len(p.part)))
        else:
            counts = p.lowered.count(1, 1, p.length)
        found |= {b for b, n in counts.by_block.items() if n}
    return found


# ---------------------------------------------------------------- prediction and execution


@pytest.mark.parametrize("name", SPECS)
def test_predicted_is_executed(name: str) -> None:
    """Forwards, lanes, layer-tokens, FLOPs, bytes, peak: whole, in chunks of a size, and without passes."""
    for chunk in (None, CHUNKS[1 + SPECS.index(name) % (len(CHUNKS) - 1)]):
        compiled = planned(name)
        with chunked(chunk):
            execution = Execution(compiled)
            execution.run()
            what = f"{name}, {chunk or 'all'} rows at once"
            assert execution.totals == execution.predicted, what
            said = explain(compiled)
            if said.least == said.optimised:
                assert execution.totals == said.optimised, what
            else:
                assert within(execution.totals, said.least, said.optimised), what
    compiled = planned(name, OPTIONAL)
    if any(step.open for step in compiled.plan.runs):  # a condition chooses any number of points
        said = explain(compiled)
        assert within(executed(compiled), said.least, said.optimised), f"{name} without passes"
    else:
        assert executed(compiled) == predicted(compiled), f"{name} without passes"


def within(found: Totals, least: Totals, most: Totals) -> bool:
    """Whether every count lies between two others."""
    low, high = least.as_dict(), most.as_dict()
    return all(low[k] <= n <= high[k] for k, n in found.as_dict().items())


def test_a_choice_of_points_is_told_as_a_span(tmp_path: Path) -> None:
    """Before the points are chosen `explain` tells the least and the most; without stages, one number."""
    body = """  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let score   = mean(abs(clean[m.blocks[*].attn.z[head: *]]), over: [batch, pos, d_head])
  sweep h in top_sites(score, k: 3)
  let patched = run m on d.corrupt do { h := clean }
  report effect = mean(ld(patched) - ld(corrupt), over: batch)"""
    compiled = small(tmp_path, body)
    said = explain(compiled)
    assert said.least.flops < said.optimised.flops
    assert ".." in said.as_text() and "planned once h is chosen" in said.as_text()
    execution = Execution(compiled)
    execution.run()
    assert within(execution.totals, said.least, said.optimised)
    assert execution.totals == execution.predicted
    flat = explain(without(compiled, "stage"))
    assert flat.least == flat.optimised == executed(without(compiled, "stage"))
    assert execution.totals.flops < flat.optimised.flops, "planned after the choice, it is cut"


@pytest.mark.parametrize("name", ["head_patching", "gqa"])
def test_explain_says_what_runs(name: str) -> None:
    compiled = planned(name)
    said = explain(compiled)
    assert said.optimised == executed(compiled)
    assert said.naive == executed(planned(name, OPTIONAL))
    summed = Totals()
    for line in said.lines:
        if line.counts is not None:
            summed.add(line.counts)
    assert summed == said.optimised
    doc = said.as_json()
    for plan in ("naive", "optimised"):
        assert {"forwards", "layer_tokens", "flops", "bytes", "peak_bytes"} <= set(doc[plan])


def test_flops_are_those_that_torch_counts(tmp_path: Path) -> None:
    """An independent count: PyTorch's own, of the plain model, where everything is read."""
    compiled = small(
        tmp_path, "  let r = run m on d.clean\n  report x = mean(r.logits, over: [batch, vocab])"
    )
    compiled = without(compiled, "narrow_positions")  # which leaves out padding
    ((_, node),) = compiled.program.models
    module = compiled.binder.loaded(node).module
    step = compiled.plan.runs[0]
    tokens = torch.from_numpy(compiled.binder.part(step.run.data).tokens)
    mask = torch.ones_like(tokens)
    # written out, attention is two matrix products; fused on a CPU it is not counted by PyTorch
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(tokens, mask)
    assert counter.get_total_flops() == executed(compiled).flops


def test_a_whole_run_has_a_unit_per_layer_and_token(tmp_path: Path) -> None:
    compiled = small(
        tmp_path, "  let r = run m on d.clean\n  report x = mean(r.logits, over: [batch, vocab])"
    )
    part = compiled.binder.part(compiled.plan.runs[0].run.data)
    assert executed(without(compiled, "narrow_positions")).layer_tokens == 3 * part.tokens.size
    assert executed(compiled).layer_tokens < 3 * part.tokens.size, "rows of padding are not run"


# ---------------------------------------------------------------- lanes, captures


def test_a_sweep_is_one_stacked_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of the model are counted where they happen: K points x B rows in chunks, not K calls."""
    body = """  sweep h in m.blocks[*].attn.z[head: *], k in [0.0, 0.5, 2.0]
  let base = run m on d.clean
  let cut  = run m on d.clean do { h := k * self }
  report effect = mean(ld(cut) - ld(base), over: batch)"""
    compiled = small(tmp_path, body)
    calls: list[int] = []
    call = Runner.rest

    def counted(self: Runner, prefix: Mapping[fx.Node, object], lanes: int, *rest: object) -> object:
        given = [v for v in prefix.values() if isinstance(v, torch.Tensor) and v.dim() > 1]
        if given and not given[0].is_meta:
            calls.append(given[0].shape[0] * lanes)
        return call(self, prefix, lanes, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Runner, "rest", counted)
    stacked = without(compiled, "share_prefix")
    assert executed(stacked).forwards == 2
    assert calls == [4, 18 * 4], "the base run, then 18 points x 4 rows at once"
    calls.clear()
    with chunked(20):
        executed(stacked)
    assert calls == [4, 20, 20, 20, 12], "five points x 4 rows fit in 20"
    calls.clear()
    boarding = without(compiled, "narrow_positions")
    assert executed(boarding).forwards == 2
    assert calls == [4, 24, 24, 24], "six points join at each of three layers"
    calls.clear()
    assert executed(compiled).forwards == 2
    assert calls == [], "by rows, no whole lane is run"
    calls.clear()
    assert executed(without(compiled, "batch_sweeps")).forwards == 19
    assert calls == [4] * 19


def test_a_run_stops_after_its_deepest_read(tmp_path: Path) -> None:
    assert blocks_run(
        small(tmp_path, "  report x = mean((run m on d.clean)[m.blocks[0].resid_post], over: [batch, pos])")
    ) == {0}
    assert blocks_run(
        small(tmp_path, "  report x = mean((run m on d.clean)[m.blocks[1].attn.z], over: [batch, pos])")
    ) == {0, 1}
    assert (
        blocks_run(small(tmp_path, "  report x = mean((run m on d.clean)[m.embed], over: [batch, pos])"))
        == set()
    )


def test_what_is_not_read_is_not_kept(tmp_path: Path) -> None:
    """Bytes kept: one position of one head of 8 numbers in float32, for 4 rows."""
    body = "  report x = norm((run m on d.clean)[m.blocks[0].attn.z[head: 1, pos: .end]], over: d_head)"
    assert executed(small(tmp_path, body)).bytes == 4 * 4
    whole = (
        "  report x = max((run m on d.clean)[m.blocks[0].attn.z[head: 1, pos: .end]], over: [batch, d_head])"
    )
    assert executed(small(tmp_path, whole)).bytes == 4 * 8 * 4


# ---------------------------------------------------------------- what the passes save


@pytest.mark.parametrize("name", SPECS)
def test_no_pass_costs_anything(name: str) -> None:
    """A plan without a pass never has fewer FLOPs, forwards or layer-tokens."""

    def cost(compiled: Compiled) -> Totals:
        """What is predicted; what is done, where the rows are known only while the plan runs."""
        waits = any(s.gates for s in compiled.plan.runs)
        return executed(compiled) if waits else predicted(compiled)

    best = cost(planned(name))
    made = sum(s.spare for s in planned(name).plan.runs)  # base runs that the plan adds of its own
    for subset in some_subsets(name):
        off = SUBSETS[subset]
        if len(off) != 1 and subset != "none":
            continue
        worse = cost(planned(name, off))
        assert worse.flops >= best.flops, f"{name} {subset}"
        assert worse.forwards >= best.forwards - made, f"{name} {subset}"
        assert worse.layer_tokens >= best.layer_tokens - 1e-6, f"{name} {subset}"


def test_spec_1_costs_less_than_naively() -> None:
    said = explain(planned("head_patching"))
    assert said.naive.forwards > 2 * said.optimised.forwards
    assert said.naive.flops > said.optimised.flops
    assert said.optimised.forwards == 3, "clean, corrupt, and all patched lanes"


def test_cse_makes_equal_runs_one_across_experiments() -> None:
    assert len(planned("nested_runs").plan.runs) < len(planned("nested_runs", ("cse",)).plan.runs)


def test_dce_drops_what_nothing_reports() -> None:
    full, kept = planned("nested_runs", ("dce",)), planned("nested_runs")
    assert predicted(full).forwards == predicted(kept).forwards + 1, "`unused` in the second experiment"
    (outcome,) = [o for o in kept.optimised.outcomes if o.name == "dce"]
    assert "again.unused" in outcome.said


def test_push_selects_saves_the_unembedding(tmp_path: Path) -> None:
    compiled = small(tmp_path, "  report x = mean(ld(run m on d.clean), over: batch)")
    plain = without(compiled, "push_selects", "narrow_positions")
    whole, part = predicted(plain), predicted(without(compiled, "narrow_positions"))
    rows, length = compiled.binder.part(compiled.plan.runs[0].run.data).tokens.shape
    assert whole.flops - part.flops == 2 * 16 * (32 * rows * length - 2 * rows), (
        "two rows of W_U, one position"
    )


def test_fuse_captures_reads_all_in_one_run(tmp_path: Path) -> None:
    body = "\n".join(
        f"  report x{i} = mean((run m on d.clean)[m.blocks[{i}].resid_post], over: [batch, pos])"
        for i in range(3)
    )
    compiled = small(tmp_path, body)
    assert predicted(compiled).forwards == 1
    assert predicted(without(compiled, "fuse_captures")).forwards == 3


def test_each_backward_pass_is_counted(tmp_path: Path) -> None:
    """A scalar that is swept beside the run costs a pass back for each of its points."""
    body = """  sweep k in KS
  let r = run m on d.clean
  let g = grad(k * mean(ld(r), over: batch), at: m.blocks[0].resid_pre)
  report x = sum(g, over: [batch, pos, d_model])"""
    flops = [
        executed(small(tmp_path, body.replace("KS", str([float(k) for k in range(n)])))).flops
        for n in (1, 2, 4)
    ]
    assert flops[1] > flops[0]
    assert flops[2] - flops[1] == 2 * (flops[1] - flops[0])


# ---------------------------------------------------------------- firings


def test_a_write_that_does_not_fire_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = EditOp._lanes
    monkeypatch.setattr(EditOp, "_lanes", lambda self, site: right(self, site)[1:])
    with pytest.raises(AssertionError, match="fired"):
        executed(planned("head_patching"))


def test_a_write_that_fires_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = EditOp._apply
    monkeypatch.setattr(EditOp, "_apply", lambda self, x, edit: right(self, right(self, x, edit), edit))
    with pytest.raises(AssertionError, match="fired"):
        executed(planned("joint_edits"))


def test_firings_are_checked_for_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    check = Executor._check_fired

    def checked(self: Executor, step: RunStep, fired: dict[str, int], p: Prepared) -> None:
        seen.append(step.run.digest)
        check(self, step, fired, p)

    monkeypatch.setattr(Executor, "_check_fired", checked)
    compiled = planned("attribution")
    executed(compiled)
    assert seen == [s.run.digest for s in compiled.plan.runs]
