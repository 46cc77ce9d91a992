"""What an experiment depends on, in one hash; and a plan of only those experiments that are not kept yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from midsl import __version__
from midsl.ir import nodes as ir
from midsl.ir.program import Experiment, Program
from midsl.passes.pipeline import OPTIONAL, optimise
from midsl.passes.reuse import held_back
from midsl.plan.build import build
from midsl.plan.fits import fitted_path
from midsl.plan.train import trained_path
from midsl.store.kept import KeptStage, find
from midsl.store.rows import CellRow, CheckRow

if TYPE_CHECKING:
    from midsl.plan.driver import Compiled, Stage

FORMAT = 1
"""Raised whenever the same experiment would give other rows."""


@dataclass
class Reused:
    """A spec in two parts: what is kept already, and the plan of the rest.

    Attributes:
        compiled: the spec with only the experiments that must run.
        stages: the others, as they would have come out.
        fingerprints: of all experiments that may be taken from a store, by name.
    """

    compiled: Compiled
    stages: list[Stage] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)


def reuse_from(root: Path, compiled: Compiled, numerics: Callable[[ir.Node], str]) -> Reused:
    """Look an experiment's fingerprint up in a store; `numerics` gives a model's class."""
    if not compiled.optimised.schedule.reuse:
        return Reused(compiled)
    prints = fingerprints(compiled, numerics)
    kept = find(root, prints) if prints else {}
    stages = [_stage(x, kept[x.name]) for x in compiled.program.experiments if x.name in kept]
    if not stages:
        return Reused(compiled, [], prints)
    rest = tuple(x for x in compiled.program.experiments if x.name not in kept)
    program = replace(compiled.program, experiments=rest)
    done = optimise(program, compiled.binder, compiled.off)
    plan = build(done.program, done.schedule)
    return Reused(replace(compiled, optimised=done, plan=plan), stages, prints)


def fingerprints(compiled: Compiled, numerics: Callable[[ir.Node], str]) -> dict[str, str]:
    """A hash of all that decides an experiment's rows, by name; those that may not be reused are left out."""
    inputs_of = inputs(compiled, numerics)
    found = {}
    for x in _named_apart(compiled).experiments:
        if held_back(x.sinks):
            continue
        content = [FORMAT, __version__, x.name, [s.digest for s in x.sinks], inputs_of(*x.sinks)]
        found[x.name] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return found


def inputs(compiled: Compiled, numerics: Callable[[ir.Node], str]) -> Callable[..., list[str]]:
    """A function that tells the content of all models and data under some nodes, in a hash each."""
    known: dict[str, str] = {}

    def of(node: ir.Node) -> str | None:
        if isinstance(node, (ir.Model, ir.Train, ir.Data, ir.Fit)) and node.digest not in known:
            known[node.digest] = _input(compiled, node, numerics)
        return known.get(node.digest)

    return lambda *nodes: sorted({h for n in ir.walk(*nodes) if (h := of(n)) is not None})


def content_keys(compiled: Compiled, numerics: Callable[[ir.Node], str]) -> Callable[[ir.Node], str]:
    """A function that tells nodes apart by what they are and by the content of what is under them."""
    inputs_of, known = inputs(compiled, numerics), dict[str, str]()

    def key(node: ir.Node) -> str:
        if node.digest not in known:
            known[node.digest] = f"{node.digest} {hashlib.sha256(repr(inputs_of(node)).encode()).hexdigest()}"
        return known[node.digest]

    return key


def _named_apart(compiled: Compiled) -> Program:
    """The program without what its text decides: where a run is written, and what passes make of it."""
    return optimise(compiled.program, compiled.binder, [p for p in OPTIONAL if p != "cse"]).program


def _input(compiled: Compiled, node: ir.Node, numerics: Callable[[ir.Node], str]) -> str:
    binder = compiled.binder
    if isinstance(node, ir.Data):
        return f"data {binder.dataset(node).fingerprint}"
    if isinstance(node, ir.Fit):
        return f"fitted {fitted_path(binder, node).stem}"
    if isinstance(node, ir.Train):
        return f"trained {trained_path(binder, node).stem} {numerics(node.model)}"
    loaded = binder.loaded(node)
    tokenizer = loaded.tokenizer.fingerprint if loaded.tokenizer else ""
    return f"model {loaded.weights_sha256} {tokenizer} {numerics(node)}"


def _stage(x: Experiment, kept: KeptStage) -> Stage:
    from midsl.plan.driver import Stage

    tables = {t.report: t for t in kept.tables}
    expects = [s for s in x.sinks if isinstance(s, ir.Expect)]
    checks = [
        CheckRow(
            c.experiment, c.text, c.message, c.passed, c.observed, s.span.source.line_col(s.span.start)[0]
        )
        for c, s in zip(kept.checks, expects, strict=True)
    ]
    reports = {s.digest: tables[s.name] for s in x.sinks if isinstance(s, ir.Report)}
    plots = [(s, reports[s.value.digest]) for s in x.sinks if isinstance(s, ir.Plot)]
    cell = CellRow("", x.name, "reuse", "reused", kept.run_uuid, 0.0, 0.0, 0, 0.0, 0, 0, 0)
    return Stage(x.name, list(tables.values()), checks, plots, cells=[cell])
