"""midsl from Python: the plan, the store and the diagnostics of the command line, with results at hand.

``midsl.run(spec)`` takes the path of a `.mi` file or a text. A `Session` keeps models and their exported
graphs in memory from one text to the next, as a notebook wants it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from midsl.plan.driver import Compiled, compile_source
from midsl.plan.record import Landed, land_run
from midsl.sema.check import read_source
from midsl.show.results import DEFAULT_STORE
from midsl.show.values import Answer, Plot, Result
from midsl.source import SourceFile
from midsl.store.db import Store

__all__ = ["Answer", "Plot", "Result", "Session", "compile", "run"]


@dataclass
class Session:
    """What stays in memory between runs.

    Attributes:
        store: folder of the results store. trust: whether specs may run Python outside the standard library.
    """

    store: Path | str = DEFAULT_STORE
    trust: bool = False
    _last: Compiled | None = field(default=None, repr=False)

    def compile(
        self,
        spec: str | Path,
        params: Mapping[str, object] | None = None,
        *,
        off: Collection[str] = (),
        name: str = "spec",
    ) -> Compiled:
        """Check, bind and plan a spec; nothing runs.

        Args:
            spec: a text, or the path of a file: a `Path`, or a `str` of one line that ends in ``.mi``.
            params: values of the spec's parameters. off: passes to leave out.
            name: what results of a text are called by; a file has its own name. A text's paths are relative
                to the working folder.

        Raises:
            MiError: all that is wrong with the spec.
        """
        if isinstance(spec, Path) or (spec.endswith(".mi") and "\n" not in spec):
            source = read_source(Path(spec))
            folder = Path(spec).resolve().parent
        else:
            source, folder = SourceFile(f"{name}.mi", spec), Path.cwd()
        warm = self._last.binder if self._last is not None else None
        done = compile_source(source, folder, texts(params), off, self.trust, warm=warm)
        self._last = done
        return done

    def run(
        self,
        spec: str | Path,
        params: Mapping[str, object] | None = None,
        *,
        off: Collection[str] = (),
        name: str = "spec",
    ) -> Result:
        """Run a spec as `midsl run` does; experiments that the store has unchanged come from there.

        Raises:
            MiError: all that is wrong with the spec, or what stopped the run (exit code 4). An `expect` that
                does not hold raises nothing: see `Result.passed`.
        """
        store = Path(self.store).resolve()
        landed = land_run(self.compile(spec, params, off=off, name=name), store, texts(params), [])
        return _result(landed, Store(store))

    def sql(self, query: str) -> Answer:
        """Ask the store, read-only."""
        found = Store(Path(self.store)).query(query)
        return Answer(found.columns, found.rows)

    def forget(self) -> None:
        """Let go of all models, for one whose files have changed since it was loaded."""
        self._last = None


def run(
    spec: str | Path,
    params: Mapping[str, object] | None = None,
    *,
    store: Path | str = DEFAULT_STORE,
    trust: bool = False,
    off: Collection[str] = (),
    name: str = "spec",
) -> Result:
    """Run a spec, a text or a path, as `Session.run` does, in a session of its own."""
    return Session(store, trust).run(spec, params, off=off, name=name)


def compile(
    spec: str | Path,
    params: Mapping[str, object] | None = None,
    *,
    trust: bool = False,
    off: Collection[str] = (),
    name: str = "spec",
) -> Compiled:
    """Check, bind and plan a spec, a text or a path, as `Session.compile` does."""
    return Session(trust=trust).compile(spec, params, off=off, name=name)


def texts(params: Mapping[str, object] | None) -> dict[str, str]:
    """Parameters as the command line has them: ``-p name=value``."""
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in (params or {}).items()}


def _result(landed: Landed, store: Store) -> Result:
    stages = landed.execution.stages
    return Result(
        landed.run_uuid,
        store,
        landed.compiled.program.name,
        [t for s in stages for t in s.tables],
        [c for s in stages for c in s.checks],
        [*landed.compiled.bag, *landed.warnings],
        landed.execution.totals.as_dict(),
    )
