"""Runs the `test` blocks of a file: what the standard library says of itself, shown to be so.

All blocks of a file are one program, as experiments are, so that the model they share is made once
and the runs they share are run once. Nothing is written to a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from midsl.diagnostics.model import Bag, Diagnostic, MiError
from midsl.plan.driver import Compiled, Execution, compile_spec
from midsl.plan.verify import Verdict, verify
from midsl.reach import NO_TRUST, Trust
from midsl.resources import resource_dir
from midsl.sema.check import read_source
from midsl.store.rows import CheckRow
from midsl.syntax import ast
from midsl.syntax.parse import parse


@dataclass(frozen=True)
class Tested:
    """One `test` block: its claims, and how it compares with the oracle where that was asked for."""

    title: str
    checks: tuple[CheckRow, ...]
    verdicts: tuple[Verdict, ...] = ()

    @property
    def passed(self) -> bool:
        return all(c.passed for c in self.checks) and all(v.agrees for v in self.verdicts)


@dataclass
class FileTested:
    """The blocks of one file, or why there are none: `code` is the exit code that an error leads to."""

    path: Path
    done: list[Tested] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    code: int = 0


def titles(path: Path) -> tuple[str, ...]:
    """The titles of a file's `test` blocks, in order.

    Raises:
        MiError: MI0504 if it cannot be read, 01xx if it cannot be parsed.
    """
    bag = Bag()
    tree = parse(read_source(path), bag)
    if tree is None or bag.errors:
        raise MiError(*bag.errors)
    return tuple(d.title for d in tree.decls if isinstance(d, ast.Test))


def library() -> tuple[Path, ...]:
    """The files of the standard library that have tests."""
    return tuple(p for p in sorted(resource_dir("stdlib").rglob("*.mi")) if titles(p))


def run_tests(
    path: Path,
    word: str = "",
    trust: Trust = NO_TRUST,
    against_oracle: bool = False,
    params: Mapping[str, str] | None = None,
) -> FileTested:
    """Run the blocks of a file that have `word` in their titles; what is refused is told, not raised."""
    told = FileTested(path)

    def wanted(title: str) -> bool:
        return word in title

    try:
        if not any(map(wanted, titles(path))):
            return told
        compiled = compile_spec(path, params, trust=trust, tests=wanted)
        told.diagnostics += compiled.bag
        execution = Execution(compiled)
        execution.run()
        checks = {s.experiment: tuple(s.checks) for s in execution.stages}
        verdicts = _verdicts(compiled) if against_oracle else {}
    except MiError as err:
        told.diagnostics += err.diagnostics
        told.code = err.exit_code
        return told
    told.done = [
        Tested(x.name, checks[x.name], verdicts.get(x.name, ())) for x in compiled.program.experiments
    ]
    return told


def _verdicts(compiled: Compiled) -> dict[str, tuple[Verdict, ...]]:
    found: dict[str, tuple[Verdict, ...]] = {}
    for v in verify(compiled, None).verdicts:
        names = (x.name for x in compiled.program.experiments)
        title = max((n for n in names if v.name.startswith((f"{n}: ", f"{n}."))), key=len)
        found[title] = (*found.get(title, ()), v)
    return found
