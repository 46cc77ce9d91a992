"""What an experiment depends on, in four hashes: what decides its rows, and what is said of them.

Two of them decide rows: `data` (what is reported and claimed) and `parents_data` (weights, tokenizers, rows
of data, trainings and fits, numerics). The other two do not: `metadata` (names of reports, plots, messages,
comments) and `parents_metadata` (names of models and data, comments elsewhere). Where only the latter differ,
a stored experiment is written anew with what is said of it now, and nothing runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from midsl import __version__
from midsl.ir import nodes as ir
from midsl.ir.program import Experiment, Program
from midsl.passes.pipeline import OPTIONAL, optimise
from midsl.passes.reuse import held_back
from midsl.plan.fits import fitted_path
from midsl.plan.train import trained_path
from midsl.syntax.remarks import remarks

if TYPE_CHECKING:
    from midsl.plan.driver import Compiled

FORMAT = 2
"""Raised whenever the same experiment would give other rows."""


@dataclass(frozen=True)
class Fingerprint:
    """The four hashes of an experiment."""

    data: str
    metadata: str
    parents_data: str
    parents_metadata: str

    @property
    def key(self) -> str:
        """What decides its rows."""
        return _hash([self.data, self.parents_data])

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def fingerprints(compiled: Compiled, numerics: Callable[[ir.Node], str]) -> dict[str, Fingerprint]:
    """The hashes of each experiment, by name; those that may not be reused are left out."""
    inputs_of = inputs(compiled, numerics)
    said = remarks(compiled.source)
    found = {}
    for x in _named_apart(compiled).experiments:
        if held_back(x.sinks):
            continue
        found[x.name] = Fingerprint(
            _hash([FORMAT, __version__, *_decides(x)]),
            _hash([x.name, *_says(x), *said.get(x.name, [])]),
            _hash(inputs_of(*x.sinks)),
            _hash([*_names(compiled.program, x), *said.get("", []), *compiled.imports.values()]),
        )
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
            known[node.digest] = f"{node.digest} {_hash(inputs_of(node))}"
        return known[node.digest]

    return key


def _decides(x: Experiment) -> list[str]:
    """The reports and claims, in order, without what they are called and what is said of them."""
    plain: list[ir.Node] = []
    for s in x.sinks:
        if isinstance(s, ir.Report):
            plain.append(replace(s, experiment="", name=""))
        elif isinstance(s, ir.Expect):
            plain.append(replace(s, experiment="", message="", text=""))
    return [s.digest for s in plain]


def _says(x: Experiment) -> list[object]:
    """Names, messages and plots."""
    reports = [s.digest for s in x.sinks if isinstance(s, ir.Report)]
    out: list[object] = []
    for s in x.sinks:
        if isinstance(s, ir.Report):
            out.append(s.name)
        elif isinstance(s, ir.Expect):
            out.append([s.message, s.text])
        elif isinstance(s, ir.Plot):
            out.append([s.kind, s.channels, reports.index(s.value.digest)])
    return out


def _names(program: Program, x: Experiment) -> list[str]:
    """What the models and data under an experiment are called."""
    under = {n.digest for n in ir.walk(*x.sinks)}
    return sorted(name for name, node in (*program.models, *program.datas) if node.digest in under)


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


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
