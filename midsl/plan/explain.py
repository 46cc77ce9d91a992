"""What a plan will do and why: the same steps that `run` walks, with predicted counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from midsl.data.dataset import Dataset, Part, Tokenizer
from midsl.graph.hooks import HookModel
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.passes.pipeline import OPTIONAL, optimise
from midsl.plan import rollouts
from midsl.plan.bind import Binder
from midsl.plan.build import build
from midsl.plan.driver import Compiled
from midsl.plan.fits import fitted_path, steps_of
from midsl.plan.memory import human
from midsl.plan.reuse import STALE, State
from midsl.plan.rowed import Rowed
from midsl.plan.session import Session
from midsl.plan.speed import flops_per_second, seconds, shown
from midsl.plan.steps import (
    ChooseStep,
    FitStep,
    FreeStep,
    LoadStep,
    RollStep,
    RunStep,
    Step,
    TrainStep,
    WeighStep,
)
from midsl.plan.totals import Totals
from midsl.plan.train import trained_path


@dataclass(frozen=True)
class Line:
    """One step as `explain` shows it."""

    kind: str
    what: str
    reason: str
    counts: Totals | None = None
    """The most that it may cost; before a choice of points is made, `least` may be less."""
    least: Totals | None = None


@dataclass(frozen=True)
class Explanation:
    """Steps, passes and totals of a plan, beside those of the naive plan."""

    lines: list[Line]
    passes: list[dict[str, Any]]
    naive: Totals
    optimised: Totals
    least: Totals
    calls: int = 0
    """Operations that it calls, about."""

    @property
    def seconds(self) -> float:
        """About how long it will take here, once models are loaded."""
        return seconds(self.optimised.flops, self.calls)

    def as_json(self) -> dict[str, Any]:
        return {
            "steps": [
                {
                    "kind": x.kind,
                    "what": x.what,
                    "reason": x.reason,
                    **(x.counts.as_dict() if x.counts else {}),
                    **({"least": x.least.as_dict()} if x.least and x.least != x.counts else {}),
                }
                for x in self.lines
            ],
            "passes": self.passes,
            "naive": self.naive.as_dict(),
            "optimised": self.optimised.as_dict(),
            "least": self.least.as_dict(),
            "seconds": round(self.seconds, 4),
        }

    def as_text(self) -> str:
        out = []
        for i, line in enumerate(self.lines):
            counts = f"  {_counts(line.counts, line.least)}" if line.counts else ""
            out.append(f"{i + 1:3} {line.kind:<7} {line.what}{counts}")
            if line.reason:
                out.append(f"            {line.reason}")
        out.append("passes")
        for p in self.passes:
            out.append(f"    {p['name']:<15} {p['said']}")
            out += [f"{'':20}vetoed: {v}" for v in p["vetoes"]]
        less = self.naive.flops / self.optimised.flops if self.optimised.flops else 1.0
        out.append(f"naive      {_counts(self.naive)}")
        out.append(f"optimised  {_counts(self.optimised, self.least)}  ({less:.1f}x fewer FLOPs)")
        out.append(
            f"time       about {shown(self.seconds)} once models are loaded, {si(flops_per_second())}FLOP/s"
        )
        out.append(f"peak       {human(self.optimised.peak_bytes)} beside the weights")
        return "\n".join(out)


def _counts(t: Totals, least: Totals | None = None) -> str:
    """The counts; those that depend on a choice to come as `least..most`."""
    low = least if least is not None else t

    def span(a: float, b: float, show: Callable[[float], str]) -> str:
        return show(b) if a == b else f"{show(a)}..{show(b)}"

    tokens = span(low.layer_tokens, t.layer_tokens, lambda n: f"{n:,.0f}")
    runs = f"{span(low.forwards, t.forwards, str)} forwards, {t.lanes} lanes, {tokens} layer-tokens"
    return f"{runs}, {span(low.flops, t.flops, si)}FLOP, {human(t.bytes)} kept"


def si(n: float) -> str:
    """A number with its prefix.

    >>> si(1.08e12), si(950)
    ('1.08 T', '950 ')
    """
    for unit in ("", "k", "M", "G", "T", "P"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} E"


@dataclass
class Shapes:
    """Bound inputs for planning: a model to be trained has the shapes of the one it starts from."""

    binder: Binder

    def engine(self, model: ir.Node) -> ModelGraph | HookModel:
        return self.binder.engine(ir.start_of(model))

    def dataset(self, data: ir.Node) -> Dataset:
        return self.binder.dataset(data)

    def tokenizer(self, model: ir.Node) -> Tokenizer | None:
        return self.binder.tokenizer(model)

    def part(self, node: ir.Part) -> Part:
        return self.binder.part(node)

    def weight(self, model: ir.Node, name: str, layer: int | None) -> Tensor:
        return self.binder.weight(ir.start_of(model), name, layer)

    def param(self, node: ir.Param) -> Tensor:
        raise AssertionError("counting needs no parameters")


def _naive(compiled: Compiled) -> Session:
    """The plan that no pass has touched: one run per value, point and occurrence (cut where it must be)."""
    plain = optimise(compiled.program, compiled.binder, [p for p in OPTIONAL if p != "chunk"])
    return Session(build(plain.program, plain.schedule), Shapes(compiled.binder), plain.program.roots)


def totals(session: Session) -> Totals:
    """The predicted counts of a whole plan."""
    total = Totals()
    for step in session.plan.runs:
        total.add(session.predict(step))
    for roll in session.plan.rolls:
        total.add(rollouts.predict(session, roll))
    return total


def explain(compiled: Compiled, states: Mapping[str, State] | None = None) -> Explanation:
    """Predict every step of a plan; models are loaded and exported, nothing runs.

    `states`: how the experiments that a store has, or has had otherwise, stand to it.
    """
    session = Session(
        compiled.plan,
        Shapes(compiled.binder),
        compiled.optimised.program.roots,
        mode=compiled.compile_mode,
    )
    lines = [_line(compiled, session, s) for s in compiled.plan.steps]
    passes = [
        {"name": o.name, "hits": o.hits, "said": o.said, "vetoes": sorted(set(o.vetoes))}
        for o in compiled.optimised.outcomes
    ]
    reused = [
        Line("stale" if s.kind == STALE else "reuse", name, str(s)) for name, s in (states or {}).items()
    ]
    found = reused + [x for x in lines if x]
    least, most = Totals(), Totals()
    for x in found:
        if x.counts is not None:
            most.add(x.counts)
            least.add(x.least or x.counts)
    calls = sum(map(session.calls, compiled.plan.runs))
    calls += sum(rollouts.calls(session, s) for s in compiled.plan.rolls)
    return Explanation(found, passes, totals(_naive(compiled)), most, least, calls)


def _line(compiled: Compiled, session: Session, step: Step) -> Line | None:
    if isinstance(step, LoadStep):
        info = compiled.binder.info(step.model)
        assert info is not None
        why = "" if info.engine == "graph" else f"on the hook engine, whole forwards: {info.why}"
        return Line("load", f"{step.name} ({info.arch}, {info.sizes.get('layer', 0)} blocks)", why)
    if isinstance(step, TrainStep):
        cached = trained_path(compiled.binder, step.model).exists()
        steps = dict(step.model.options)["steps"]
        return Line(
            "train",
            f"{step.name}, {steps} steps",
            "cached: same recipe, start and data" if cached else "not in the cache",
        )
    if isinstance(step, FitStep):
        cached = fitted_path(compiled.binder, step.fit).exists()
        return Line(
            "fit",
            f"{step.name}, {steps_of(step.fit)} steps",
            "cached: same loss, start and data" if cached else "not in the cache",
        )
    if isinstance(step, RunStep):
        if session.known(step) and session.idle(step):
            return None
        least, most = session.bounds(step)
        return Line("run", step.name, _run_reason(session, step), most, least)
    if isinstance(step, RollStep):
        most, low = rollouts.predict(session, step), rollouts.least(session, step)
        why = rollouts.decoder(session, step).why_whole
        how = f"whole rows at each step: {why}" if why else "each position once"
        return Line("roll", step.name, f"{how}; {step.reason}", most, low)
    if isinstance(step, WeighStep):
        names = [w.name if w.layer is None else f"blocks[{w.layer}].{w.name}" for w in step.model.weights]
        return Line("weigh", f"{step.name}: {', '.join(names)}", step.reason)
    if isinstance(step, ChooseStep):
        return Line(
            "choose",
            f"the points of `{step.sweep.name}` ({session.sizing.points_of(step.sweep)})",
            step.reason,
        )
    if isinstance(step, FreeStep):
        some = "1 kept value" if len(step.nodes) == 1 else f"{len(step.nodes)} kept values"
        return Line("free", some, step.reason)
    sink = step.sink
    assert isinstance(sink, (ir.Report, ir.Expect, ir.Plot, ir.Save, ir.View))
    name = (
        sink.name
        if isinstance(sink, (ir.Report, ir.Save))
        else sink.text
        if isinstance(sink, (ir.Expect, ir.View))
        else sink.kind
    )
    return Line(type(sink).__name__.lower(), f"{sink.experiment}: {name}", "")


def _run_reason(session: Session, step: RunStep) -> str:
    if not session.known(step):
        points = ", ".join(s.name for s in step.sweeps if not session.evaluator.domains.known(s))
        if not session.written.known(step.run.data):
            return "planned once its rows are written"
        if not points and not step.spare:
            return "planned once what its edits change is known"
        return "for those that start from it" if step.spare else f"planned once {points} is chosen"
    p = session.prepare(step)
    said = []
    if step.sweeps:
        how = "stacked as lanes" if step.stacked else "one at a time"
        names = ", ".join(s.name for s in step.sweeps)
        chunks = "in one chunk" if len(p.pieces) == 1 else f"in {len(p.pieces)} chunks"
        said.append(f"{p.lanes} points of {names} {how}, {chunks}")
        if isinstance(p.lowered, Rowed):
            pass
        elif len({id(x.lowered) for x in p.pieces}) > 1:
            said.append("each joins at the layer that it edits")
        elif step.cones and step.run.edits:
            said.append("what no edit changes runs once")
    else:
        said.append(
            "shared by all that reads it" if len(step.outputs) + len(step.grads) > 1 else "needed once"
        )
    said += _rows_reason(session, step, p.lowered)
    if p.lowered.projection is not None:
        said.append("only the logits that are read")
    if step.ahead:
        said.append(f"{session.sizing.directions(step)} directions over one forward pass")
    elif step.grads:
        said.append("one backward pass")
    if 0 < step.at_once < len(p.part) and session.together(step):
        said.append(f"more than {step.at_once} rows at once, as {session.together(step)} needs")
    return "; ".join(said)


def _rows_reason(session: Session, step: RunStep, lowered: object) -> list[str]:
    """Which rows a run computes, or why it runs whole ones."""
    if not isinstance(lowered, Rowed):
        why = session.by_rows(step.stage).why.get(id(step))
        return [f"whole rows: {why}"] if why else []
    if lowered.base is None:
        if not lowered.users:
            return ["only rows that are read"]
        return [f"keeps {len(lowered.wanted)} values for {lowered.users} runs that start from it"]
    whole = lowered.real.sum() * lowered.table.size
    most = max((int(m.sum()) for m in lowered.plan.distinct()), default=0)
    alive = {id(m): m.any(2) for m in lowered.plan.distinct()}
    pairs = dead = lowered.table.size * lowered.real.shape[1]
    if alive:
        dead -= int(torch.stack(list(alive.values())).any(0).sum())
    said = [f"starts from {_edited(step)}: at most {most} of {int(whole)} rows"]
    if dead:
        said.append(f"in {dead} of {pairs} lanes x examples nothing changes")
    return said


def _edited(step: RunStep) -> str:
    """The run that an edited run starts from, as people call it."""
    return step.name.partition(" do ")[0]
