"""Verification: the plan against the oracle, both in float64, and the plan in its own precision.

The oracle runs one point at a time with nothing optimised. For a big sweep a seeded sample of points
is checked (and said); reports that reduce over a sweep need all of its points.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from midsl.data.dataset import Dataset, Part, Tokenizer
from midsl.diagnostics.model import fail
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.ir.crossing import goes_along
from midsl.ir.types import TensorType
from midsl.ops.named import NT
from midsl.oracle.interp import Oracle
from midsl.oracle.model import GraphModel
from midsl.plan.bind import Binder
from midsl.plan.bound import Bound
from midsl.plan.decode import run_on, scores
from midsl.plan.driver import Compiled, Execution
from midsl.plan.evaluate import Stored
from midsl.plan.results import Results
from midsl.plan.session import Session
from midsl.plan.steps import RollStep
from midsl.plan.words import speller
from midsl.reach import working_in

TOLERANCE = 1e-9
DEEP = 20_000
"""How deep calls may nest while the oracle works."""


@dataclass
class Lifted:
    """Bound models in float64."""

    binder: Binder

    def engine(self, model: ir.Node) -> ModelGraph:
        return self.binder.graph(model, lift=True)

    def part(self, node: ir.Part) -> Part:
        return self.binder.part(node)

    def dataset(self, data: ir.Node) -> Dataset:
        return self.binder.dataset(data)

    def tokenizer(self, model: ir.Node) -> Tokenizer | None:
        return self.binder.tokenizer(model)

    def weight(self, model: ir.Node, name: str, layer: int | None) -> Tensor:
        return self.engine(model).weight(name, layer)

    def param(self, node: ir.Param) -> Tensor:
        return self.binder.param(node).double()


@dataclass
class OracleInputs:
    """What the oracle runs on: the unsliced graphs in float64, and the rows that the plan has written."""

    binder: Binder
    bound: Bound
    models: dict[str, GraphModel] = field(default_factory=dict)

    def model(self, node: ir.Node) -> GraphModel:
        if node.digest not in self.models:
            self.models[node.digest] = GraphModel(self.binder.graph(node, lift=True))
        return self.models[node.digest]

    def part(self, node: ir.Part) -> Part:
        return self.bound.part(node)

    def param(self, node: ir.Param) -> Tensor:
        return self.binder.param(node).double()


@dataclass(frozen=True)
class Verdict:
    """One report or expect, compared: relative errors of the plan in float64 and in its own precision."""

    name: str
    rows: int
    error: float
    own_error: float
    agrees: bool
    experiment: str = ""
    line: int = 0


@dataclass
class Verification:
    """All verdicts, and which points were checked."""

    verdicts: list[Verdict] = field(default_factory=list)
    sampled: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Sweep name to (points checked, points there are), where not all were."""

    @property
    def worst(self) -> float:
        return max((v.error for v in self.verdicts), default=0.0)

    @property
    def agrees(self) -> bool:
        return all(v.agrees for v in self.verdicts)


def verify(compiled: Compiled, points: int | None = 16) -> Verification:
    """Compare the plan with the oracle on at most `points` points of each sweep (None: all)."""
    done = Verification()
    for step in compiled.plan.runs:
        info = compiled.binder.info(step.run.model)
        if info is not None and info.engine == "hooks":
            raise fail(
                "MI0603",
                f"there is no oracle for a model that cannot be exported: {info.why}",
                step.run.span,
                help="runs on the hook engine are whole forwards, with nothing optimised",
            )
    own = Execution(compiled, keep=True)
    own_session = compiled.session()
    own.run(session=own_session)
    lifted = Execution(compiled, keep=True)
    session = Session(
        compiled.plan,
        Lifted(compiled.binder),
        compiled.optimised.program.roots,
        mode=compiled.compile_mode,
    )
    lifted.run(session=session)
    domains = _sample(compiled, session, points, done)
    with working_in(compiled.binder.reach), _deep():
        oracle = Oracle(OracleInputs(compiled.binder, session.bound), domains, chosen=places_of(session))
        for sink in compiled.optimised.program.sinks:
            oracle.register(sink)
        done.verdicts += [_written(oracle, session, r) for r in compiled.plan.rolls]
        for x, (exact, plain) in zip(
            compiled.optimised.program.experiments, _stages(compiled, lifted, own), strict=True
        ):
            tables = {t.report: t for t in exact.tables}
            mine = {t.report: t for t in plain.tables}
            checks = iter(exact.checks)
            for sink in x.sinks:
                if isinstance(sink, ir.Save) or (
                    isinstance(sink, ir.View) and isinstance(sink.value.type, TensorType)
                ):
                    sink = sink.as_report
                    tables[sink.name] = Results(session.evaluator).report(sink)
                    mine[sink.name] = Results(own_session.evaluator).report(sink)
                if isinstance(sink, ir.Report):
                    keys, values = spelled(sink, *oracle.report(sink), session)
                    scale = _scale(session, sink, values)
                    a = _by_key(tables[sink.name].keys, tables[sink.name].value)
                    b = _by_key(mine[sink.name].keys, mine[sink.name].value)
                    o = _by_key(keys, values)
                    error, own_error = _error(a, o, scale), _error(b, o, scale)
                    done.verdicts.append(
                        Verdict(
                            f"{x.name}.{sink.name}",
                            len(o),
                            error,
                            own_error,
                            error <= TOLERANCE,
                            x.name,
                            sink.span.source.line_col(sink.span.start)[0],
                        )
                    )
                elif isinstance(sink, ir.Expect):
                    check = next(checks)
                    if not done.sampled or not ir.sweeps_below(sink):
                        same = oracle.expect(sink) == check.passed
                        done.verdicts.append(
                            Verdict(
                                f"{x.name}: expect {sink.text}",
                                1,
                                0.0 if same else 1.0,
                                0.0,
                                same,
                                x.name,
                                sink.span.source.line_col(sink.span.start)[0],
                            )
                        )
    return done


def _written(oracle: Oracle, session: Session, step: RollStep) -> Verdict:
    """Whether each token of a rollout is the greatest, given those before it: error 0, or by how much not."""
    run, read = run_on(step.rollout)
    oracle.register(read)
    logits = oracle.value(read, {}).permute_to(("batch", "pos", "vocab")).data
    part = session.bound.part(run.data)
    options = dict(step.rollout.options)
    start = part.columns["new"].values
    tokens = torch.from_numpy(part.tokens)
    worst = 0.0
    for i in range(step.rollout.room.data.steps):
        live = torch.from_numpy(np.asarray(start)[:, 0] + i < part.lengths)
        at = torch.from_numpy(np.asarray(start)[:, 0] + i).clamp(max=tokens.shape[1] - 1)
        every = torch.arange(len(part))
        found = scores(logits[every, at - 1], options, part.examples, i)
        less = found.amax(1) - found[every, tokens[every, at]]
        if bool(live.any()):
            worst = max(worst, float((less / found.abs().amax(1).clamp(min=1e-30))[live].max()))
    return Verdict(step.name, int(np.sum(part.columns["emitted"].values)), worst, worst, worst <= TOLERANCE)


def _stages(compiled: Compiled, a: Execution, b: Execution):  # type: ignore[no-untyped-def]
    """Stages of both executions, by experiment; one without sinks has none."""
    from midsl.plan.driver import Stage

    left, right = ({s.experiment: s for s in e.stages} for e in (a, b))
    for x in compiled.optimised.program.experiments:
        yield left.get(x.name, Stage(x.name)), right.get(x.name, Stage(x.name))


@contextmanager
def _deep() -> Iterator[None]:
    """Let the oracle follow chains of runs, each of which is made of the one before: it works them out by
    recursion, some fifty calls for each."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEEP))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _sample(
    compiled: Compiled, session: Session, points: int | None, done: Verification
) -> dict[str, tuple[tuple[ir.Scalar, ...], ...]]:
    """The points that the oracle replays: all that were chosen, and a sample of the others."""
    found = {}
    reduced = set()
    for n in ir.walk(*compiled.optimised.program.roots):
        if isinstance(n, ir.Reduce):
            inside = {s.digest for s in ir.sweeps_of(n.arg)}
            reduced |= {d for d in inside if d not in {s.digest for s in ir.sweeps_of(n)}}
            for s in ir.sweeps_of(n.arg):
                if {(a.name, a.owner) for a in s.axes} & {(a.name, a.owner) for a in n.axes}:
                    reduced.add(s.digest)
        elif isinstance(n, ir.Apply) and n.over:
            along = goes_along(n)
            under = [s for c in n.args for s in ir.sweeps_of(c)]
            reduced |= {s.digest for s in under if {(a.name, a.owner) for a in s.axes} & along}
    for n in ir.walk(*compiled.optimised.program.roots):
        if isinstance(n, ir.Sweep) and session.evaluator.domains.known(n):
            every = session.evaluator.domains.points[n.digest]
            small = (
                points is None or len(every) <= points or n.digest in reduced or isinstance(n.domain, ir.Top)
            )
            if not small:
                assert points is not None
                chosen = set(random.Random(0).sample(range(len(every)), points))
                done.sampled[n.name] = (points, len(every))
                every = tuple(p for i, p in enumerate(every) if i in chosen)
            found[n.digest] = every
    return found


def places_of(session: Session) -> dict[str, Callable[[Mapping[str, tuple[ir.Scalar, ...]]], NT]]:
    """The places that a plan has found in passes over rows, at each point of the sweeps."""

    def at(stored: Stored, point: Mapping[str, tuple[ir.Scalar, ...]]) -> NT:
        flat = 0
        for s in stored.sweeps:
            every = session.evaluator.domains.points[s.digest]
            flat = flat * len(every) + every.index(tuple(point[s.digest]))
        return NT(stored.value.data[flat], stored.value.axes[1:]) if stored.sweeps else stored.value

    return {key: partial(at, stored) for key, stored in session.evaluator.chosen.items()}


def spelled(
    sink: ir.Report, keys: dict[str, list[ir.Scalar]], values: np.ndarray, session: Session
) -> tuple[dict[str, list[ir.Scalar]], np.ndarray]:
    """A table of the oracle with its tokens as text."""
    for name, node in sink.beside:
        if node.tensor_type.kind == "token":
            spell = speller(node, session.bound)
            keys = {**keys, name: [spell(int(i)) for i in keys[name]]}  # type: ignore[arg-type]
    return keys, values


def _by_key(keys: Mapping[str, object], values: np.ndarray) -> dict[tuple[object, ...], float]:
    columns = [list(c) for c in keys.values()]  # type: ignore[call-overload]
    rows = list(zip(*columns, strict=True)) if columns else [()] * len(values)
    return {r: float(v) for r, v in zip(rows, values, strict=True)}


def _error(
    mine: dict[tuple[object, ...], float], theirs: dict[tuple[object, ...], float], scale: float
) -> float:
    worst = 0.0
    for key, value in theirs.items():
        if key not in mine:
            return float("inf")
        other = mine[key]
        if (np.isnan(value) and np.isnan(other)) or (np.isinf(value) and value == other):
            continue
        worst = max(worst, abs(other - value) / scale) if np.isfinite(other - value) else float("inf")
    return worst


def _scale(session: Session, sink: ir.Report, values: np.ndarray) -> float:
    """The largest operand under a report: errors are relative to it."""
    sizes = [float(np.nanmax(np.abs(values)))] if len(values) and not np.isnan(values).all() else []
    for n in ir.walk(sink.value):
        stored = session.evaluator.store.get(n.digest)
        if stored is not None and stored.value.data.numel():
            sizes.append(float(stored.value.data.double().nan_to_num().abs().max()))
    return max([*sizes, 1e-30])
