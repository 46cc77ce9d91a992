"""The runnable corpus: each spec is checked, bound and exported once, then planned in many ways.

The oracle's answer to a spec does not depend on passes or chunks, so it is computed once too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from midsl.ir import nodes as ir
from midsl.oracle.interp import Oracle
from midsl.passes.pipeline import OPTIONAL, optimise
from midsl.plan.build import build
from midsl.plan.driver import Compiled, Execution, compile_spec
from midsl.plan.memory import Budget
from midsl.plan.session import Session
from midsl.plan.verify import Lifted, OracleInputs, places_of, spelled
from midsl.reach import trusting, working_in
from midsl.store.rows import ResultTable

FOLDER = Path(__file__).parents[1] / "corpus" / "run"
ELSEWHERE: dict[str, Path] = {}
"""Specs that a test wrote, by the name under which they go here."""
TRUSTED: set[str] = set()
"""Those of them that bring Python of their own."""
SPECS = sorted(p.stem for p in FOLDER.glob("*.mi"))

SUBSETS: dict[str, tuple[str, ...]] = {"all passes": (), "none": OPTIONAL}
"""Name to the passes that are off."""
SUBSETS |= {f"without {p}": (p,) for p in OPTIONAL}
SUBSETS |= {f"only {p}": tuple(q for q in OPTIONAL if q != p) for p in OPTIONAL}

ALWAYS = ("all passes", "none")


def some_subsets(name: str) -> list[str]:
    """All passes, none, and a fourth of the others, other ones for the next spec; the rest is `slow`."""
    others = [s for s in SUBSETS if s not in ALWAYS]
    return [*ALWAYS, *others[SPECS.index(name) % 4 :: 4]]


CHUNKS: tuple[int | None, ...] = (None, 1, 2, 7)
"""Rows at once: all; one; a part of the rows; several lanes."""

Cells = dict[tuple[object, ...], tuple[float, int, float]]
"""Key columns of a row to its value, n and se."""


@cache
def load(name: str) -> Compiled:
    """A spec of the corpus with all passes on; later calls give the same models and data."""
    return compile_spec(ELSEWHERE.get(name, FOLDER / f"{name}.mi"), trust=trusting(name in TRUSTED))


def planned(name: str, off: Collection[str] = ()) -> Compiled:
    """The same spec planned without some passes."""
    return without(load(name), off)


def without(base: Compiled, off: Collection[str]) -> Compiled:
    """A compiled spec, planned without some passes."""
    optimised = optimise(base.program, base.binder, off)
    return replace(base, optimised=optimised, plan=build(optimised.program, optimised.schedule))


def exact_session(compiled: Compiled) -> Session:
    """A session whose models are in float64."""
    return Session(compiled.plan, Lifted(compiled.binder), compiled.optimised.program.roots)


@contextmanager
def chunked(rows: int | None) -> Iterator[None]:
    """At most `rows` rows (lanes x examples) at once."""
    if rows is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Budget, "rows", lambda self, *rest: rows)
        yield


def tables(execution: Execution) -> dict[str, ResultTable]:
    """Report name, with its experiment, to its table."""
    return {f"{t.experiment}.{t.report}": t for s in execution.stages for t in s.tables}


def cells(table: ResultTable) -> Cells:
    """The rows of a table by their keys."""
    columns = [list(c) for c in table.keys.values()]
    keys = list(zip(*columns, strict=True)) if columns else [()] * len(table.value)
    assert len(set(keys)) == len(keys), f"{table.report}: two rows have the same keys"
    return {
        k: (float(v), int(n), float(se))
        for k, v, n, se in zip(keys, table.value, table.n, table.se, strict=True)
    }


@dataclass(frozen=True)
class Truth:
    """What the oracle says: reports by name, verdicts of expects in order."""

    reports: dict[str, dict[tuple[object, ...], float]]
    expects: tuple[bool, ...]


@cache
def truth(name: str) -> Truth:
    """Every point of every report of a spec of the corpus."""
    return truth_of(planned(name, OPTIONAL))


def truth_of(compiled: Compiled) -> Truth:
    """Every point of every report of a spec that is planned without passes; computed domains are replayed."""
    session = exact_session(compiled)
    Execution(compiled).run(session=session)  # only for its choices
    program = compiled.optimised.program
    reports: dict[str, dict[tuple[object, ...], float]] = {}
    expects: list[bool] = []
    with working_in(compiled.binder.reach):
        oracle = Oracle(
            OracleInputs(compiled.binder, session.bound),
            dict(session.evaluator.domains.points),
            chosen=places_of(session),
        )
        for sink in program.sinks:
            oracle.register(sink)
        for sink in program.sinks:
            if isinstance(sink, ir.Report):
                keys, values = spelled(sink, *oracle.report(sink), session)
                columns = [list(c) for c in keys.values()]
                rows = list(zip(*columns, strict=True)) if columns else [()] * len(values)
                reports[f"{sink.experiment}.{sink.name}"] = dict(
                    zip(rows, map(float, np.asarray(values)), strict=True)
                )
            elif isinstance(sink, ir.Expect):
                expects.append(oracle.expect(sink))
    return Truth(reports, tuple(expects))
