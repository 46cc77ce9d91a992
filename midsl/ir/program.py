"""A whole spec as IR: its experiments and what each of them asks for.

`groups` is how runs are to be executed; passes fill it in, the planner reads it (see
``midsl.passes.groups``). `models` and `datas` keep the names that the spec gave its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from midsl.ir import nodes as ir
from midsl.ir.types import Axis


@dataclass(frozen=True)
class Experiment:
    """One experiment: named intermediate values (`lets`) and sinks, in the order written.

    `at_once`: how many rows (lanes times examples) its runs may have at once; 0 leaves that to the planner.
    """

    name: str
    lets: tuple[tuple[str, ir.Node], ...]
    sinks: tuple[ir.Node, ...]
    at_once: int = 0

    @property
    def roots(self) -> tuple[ir.Node, ...]:
        return (*self.sinks, *(n for _, n in self.lets))


@dataclass(frozen=True)
class Program:
    """The logical IR of a spec."""

    name: str
    experiments: tuple[Experiment, ...]
    models: tuple[tuple[str, ir.Node], ...] = ()
    datas: tuple[tuple[str, ir.Node], ...] = ()
    fits: tuple[tuple[str, ir.Node], ...] = ()

    def rewrite(self, f: Any) -> Program:
        """Apply a node function bottom-up to every root; `models` and `datas` stay."""
        memo: dict[str, ir.Node] = {}
        done = []
        for x in self.experiments:
            sinks = tuple(ir.rewrite(s, f, memo) for s in x.sinks)
            lets = tuple((n, ir.rewrite(v, f, memo)) for n, v in x.lets)
            done.append(Experiment(x.name, lets, sinks, x.at_once))
        return replace(self, experiments=tuple(done))

    @property
    def sinks(self) -> tuple[ir.Node, ...]:
        return tuple(s for x in self.experiments for s in x.sinks)

    @property
    def roots(self) -> tuple[ir.Node, ...]:
        return tuple(r for x in self.experiments for r in x.roots)


RESERVED_COLUMNS = ("value", "n", "se")


def left_axes(report: ir.Report) -> tuple[Axis, ...]:
    """The axes of a report that belong to no sweep: they become key columns after the sweeps'."""
    swept = {(a.name, a.owner) for s in report.sweeps for a in s.axes}
    return tuple(a for a in report.value.tensor_type.axes if (a.name, a.owner) not in swept)


def swept_columns(report: ir.Report, sweep: ir.Sweep) -> tuple[int, ...]:
    """Which columns of a sweep a report still has: a reduction may have taken some of its axes away."""
    have = {(a.name, a.owner) for a in report.value.tensor_type.axes}
    if len(sweep.axes) != len(sweep.columns):
        (axis,) = sweep.axes
        return tuple(range(len(sweep.columns))) if (axis.name, axis.owner) in have else ()
    return tuple(i for i, a in enumerate(sweep.axes) if (a.name, a.owner) in have)


def saved_axes(save: ir.Save) -> tuple[str, ...]:
    """The axes of a saved tensor, in order: the sweeps', then the value's own."""
    report = save.as_report
    names = []
    for s in save.sweeps:
        kept = swept_columns(report, s)
        kept = kept if len(s.axes) == len(s.columns) else kept[:1]
        names += [s.axes[i].name for i in kept]
    return (*names, *(a.name for a in left_axes(report)))


def key_columns(report: ir.Report) -> tuple[str, ...]:
    """The key columns of a report's table, in order: `batch` is called `example`; those beside come last."""
    names = [s.columns[i] for s in report.sweeps for i in swept_columns(report, s)]
    names += ["example" if a.name == "batch" else a.name for a in left_axes(report)]
    return (*names, *(name for name, _ in report.beside))
