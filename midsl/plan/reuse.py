"""Which experiments a store has already, and a plan of only those that it has not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from midsl.ir import nodes as ir
from midsl.ir.program import Experiment
from midsl.passes.pipeline import optimise
from midsl.plan.build import build
from midsl.plan.fingerprints import Fingerprint, fingerprints
from midsl.store.kept import KeptStage, find, latest
from midsl.store.rows import CellRow, CheckRow

if TYPE_CHECKING:
    from midsl.plan.driver import Compiled, Stage

CACHED, METADATA, STALE = "cached", "metadata-only", "stale"


@dataclass(frozen=True)
class State:
    """How an experiment stands to what a store has of it.

    Attributes:
        kind: cached, metadata-only (its rows are there, what is said of them is not), or stale.
        why: in words.
    """

    kind: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.why}"


@dataclass
class Reused:
    """A spec in two parts: what is kept already, and the plan of the rest.

    Attributes:
        compiled: the spec with only the experiments that must run.
        stages: the others, as they would have come out.
        fingerprints: of all experiments that may be taken from a store, by name.
        states: of those that the store has, or has had otherwise.
    """

    compiled: Compiled
    stages: list[Stage] = field(default_factory=list)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)


def reuse_from(root: Path, compiled: Compiled, numerics: Callable[[ir.Node], str]) -> Reused:
    """Look an experiment's fingerprint up in a store; `numerics` gives a model's class."""
    if not compiled.optimised.schedule.reuse:
        return Reused(compiled)
    prints = fingerprints(compiled, numerics)
    kept = find(root, {name: p.key for name, p in prints.items()}) if prints else {}
    others = latest(root, compiled.program.name, [n for n in prints if n not in kept])
    states = {n: _kept_state(prints[n], k) for n, k in kept.items()}
    states |= {n: _stale_state(prints[n], run, was) for n, (run, was) in others.items()}
    stages = [_stage(x, kept[x.name], states[x.name]) for x in compiled.program.experiments if x.name in kept]
    if not stages:
        return Reused(compiled, [], prints, states)
    rest = tuple(x for x in compiled.program.experiments if x.name not in kept)
    program = replace(compiled.program, experiments=rest)
    done = optimise(program, compiled.binder, compiled.off)
    plan = build(done.program, done.schedule)
    return Reused(replace(compiled, optimised=done, plan=plan), stages, prints, states)


def _kept_state(now: Fingerprint, kept: KeptStage) -> State:
    changed = [
        what
        for what, part in (
            ("names, plots, messages or comments", "metadata"),
            ("names of models or data, or comments around it,", "parents_metadata"),
        )
        if kept.fingerprints.get(part) != getattr(now, part)
    ]
    if not changed:
        return State(CACHED, f"unchanged since run {kept.run_uuid}")
    return State(METADATA, f"{' and '.join(changed)} changed since run {kept.run_uuid}; its rows did not")


def _stale_state(now: Fingerprint, run: str, was: dict[str, str]) -> State:
    changed = [
        what
        for what, part in (
            ("what it reports or claims", "data"),
            ("models, data, fits or versions under it", "parents_data"),
        )
        if was.get(part) != getattr(now, part)
    ]
    return State(STALE, f"{' and '.join(changed) or 'its files'} changed since run {run}")


def _stage(x: Experiment, kept: KeptStage, state: State) -> Stage:
    """A kept experiment, with the names, messages, lines and plots that the text gives it now."""
    from midsl.plan.driver import Stage

    reports = [s for s in x.sinks if isinstance(s, ir.Report)]
    tables = [replace(t, experiment=x.name, report=s.name) for t, s in zip(kept.tables, reports, strict=True)]
    expects = [s for s in x.sinks if isinstance(s, ir.Expect)]
    checks = [
        CheckRow(x.name, s.text, s.message, c.passed, c.observed, s.span.source.line_col(s.span.start)[0])
        for c, s in zip(kept.checks, expects, strict=True)
    ]
    by_sink = {s.digest: t for s, t in zip(reports, tables, strict=True)}
    plots = [(s, by_sink[s.value.digest]) for s in x.sinks if isinstance(s, ir.Plot)]
    status = "reused" if state.kind == CACHED else state.kind
    cell = CellRow("", x.name, "reuse", status, kept.run_uuid, 0.0, 0.0, 0, 0.0, 0, 0, 0)
    return Stage(x.name, tables, checks, plots, cells=[cell])
