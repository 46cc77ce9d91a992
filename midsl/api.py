"""midsl from Python: the plan, the store and the diagnostics of the command line, with results at hand.

``midsl.run(spec)`` takes the path of a `.mi` file or a text. A `Session` keeps models, their exported graphs
and what runs have left in memory from one text to the next, as a notebook wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from midsl.ir.program import Program
from midsl.plan.bind import Binder
from midsl.plan.driver import Compiled, compile_source
from midsl.plan.handed import Door, Handed
from midsl.plan.look import Looked, LookedRows, asked, look, only_it, rows_of
from midsl.plan.record import Landed, land_run
from midsl.plan.remembered import Remembered
from midsl.plan.train import Trainer
from midsl.reach import Reach, Trust, trusting, working_in
from midsl.sema.check import read_source
from midsl.show.results import DEFAULT_STORE
from midsl.show.values import Answer, Plot, Result
from midsl.source import SourceFile
from midsl.store.db import Store

__all__ = ["Answer", "Plot", "Result", "Session", "compile", "run"]

Params = Mapping[str, object]
Bind = Mapping[str, Any]


@dataclass
class Session:
    """What stays in memory between runs.

    Attributes:
        store: folder of the results store. trust: whether specs may run Python outside the standard library.
        allow: files and folders that specs may read, besides their own folder and what parameters name.
        memory: what earlier runs have left; a step of which all values are there is not run again.
    """

    store: Path | str = DEFAULT_STORE
    trust: bool | Trust = False
    allow: Collection[str | Path] = ()
    memory: Remembered = field(default_factory=Remembered, repr=False)
    _door: Door = field(default_factory=Door, repr=False)
    _last: Compiled | None = field(default=None, repr=False)

    @property
    def trusted(self) -> Trust:
        """What specs may do beyond what any may."""
        return trusting(self.trust, self.allow)

    def compile(
        self,
        spec: str | Path,
        params: Params | None = None,
        *,
        off: Collection[str] = (),
        name: str = "spec",
        bind: Bind | None = None,
    ) -> Compiled:
        """Check, bind and plan a spec; nothing runs.

        Args:
            spec: a text, or the path of a file: a `Path`, or a `str` of one line that ends in ``.mi``.
            params: values of the spec's parameters. off: passes to leave out.
            name: what results of a text are called by; a file has its own name. A text's paths are relative
                to the working folder.
            bind: what names of the spec stand for: a torch module (or a pair of one and its tokenizer) as a
                model, a table (Arrow, pandas, a list of dictionaries) where the path of one may stand, a
                function as the `extern fn` of that name. It takes the place of a declaration of the name.

        Raises:
            MiError: all that is wrong with the spec, or with what is bound.
        """
        source, folder = _source(spec, name)
        return self._compile(source, folder, params, off, self._door.take(bind or {}))

    def _compile(
        self,
        source: SourceFile,
        folder: Path,
        params: Params | None,
        off: Collection[str],
        handed: Handed,
        narrow: Callable[[Program], Program] | None = None,
    ) -> Compiled:
        warm = self._last.binder if self._last is not None else None
        done = compile_source(
            source, folder, texts(params), off, self.trusted, warm=warm, handed=handed, narrow=narrow
        )
        self._last = done
        return done

    def run(
        self,
        spec: str | Path,
        params: Params | None = None,
        *,
        off: Collection[str] = (),
        name: str = "spec",
        bind: Bind | None = None,
    ) -> Result:
        """Run a spec as `midsl run` does; experiments that the store has unchanged come from there.

        Arguments are those of `compile`.

        Raises:
            MiError: all that is wrong with the spec, or what stopped the run (exit code 4). An `expect` that
                does not hold raises nothing: see `Result.passed`.
        """
        store = Path(self.store).resolve()
        compiled = self.compile(spec, params, off=off, name=name, bind=bind)
        landed = land_run(compiled, store, texts(params), [], self.memory)
        show = partial(self.show, spec, params=params, name=name, bind=bind)
        return _result(landed, Store(store), lambda expression: show(expression).value.value)

    def show(
        self,
        spec: str | Path,
        expression: str,
        params: Params | None = None,
        *,
        experiment: str = "",
        name: str = "spec",
        bind: Bind | None = None,
    ) -> Looked:
        """One value of a spec, worked out as if its experiment saved it; nothing goes to the store.

        Args:
            expression: of the names of the experiment: ``mean(clean[z], over: batch)``.
            experiment: whose names; without one, the first that has a body.

        Raises:
            MiError: as `run` does; MI0312 for what is no tensor, MI0807 if there is no such experiment.
        """
        source, folder = _source(spec, name)
        text, where = asked(source, expression, experiment)
        handed = self._door.take(bind or {})
        return look(self._compile(text, folder, params, (), handed, only_it(where)), self.memory)

    def rows(
        self,
        spec: str | Path,
        expression: str,
        params: Params | None = None,
        *,
        name: str = "spec",
        bind: Bind | None = None,
    ) -> LookedRows | None:
        """The rows that an expression stands for, if it is data by the names of the file; else None."""
        source, folder = _source(spec, name)
        handed = self._door.take(bind or {})
        binder = Binder(
            reach=Reach(folder, self.trusted, texts(params)), trainer=Trainer(), functions=handed.functions
        )
        if self._last is not None:
            binder.keep_models_of(self._last.binder)
        binder.models.update(handed.models)
        with working_in(binder.reach):
            return rows_of(source, expression, binder, texts(params), handed.given)

    def sql(self, query: str) -> Answer:
        """Ask the store, read-only."""
        found = Store(Path(self.store)).query(query)
        return Answer(found.columns, found.rows)

    def forget(self) -> None:
        """Let go of all models and values, for a model whose files have changed since it was loaded."""
        self._last = None
        self.memory.forget()


def run(
    spec: str | Path,
    params: Params | None = None,
    *,
    store: Path | str = DEFAULT_STORE,
    trust: bool = False,
    allow: Collection[str | Path] = (),
    off: Collection[str] = (),
    name: str = "spec",
    bind: Bind | None = None,
) -> Result:
    """Run a spec, a text or a path, as `Session.run` does, in a session of its own."""
    return Session(store, trust, allow).run(spec, params, off=off, name=name, bind=bind)


def compile(
    spec: str | Path,
    params: Params | None = None,
    *,
    trust: bool = False,
    allow: Collection[str | Path] = (),
    off: Collection[str] = (),
    name: str = "spec",
    bind: Bind | None = None,
) -> Compiled:
    """Check, bind and plan a spec, a text or a path, as `Session.compile` does."""
    return Session(trust=trust, allow=allow).compile(spec, params, off=off, name=name, bind=bind)


def texts(params: Params | None) -> dict[str, str]:
    """Parameters as the command line has them: ``-p name=value``."""
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in (params or {}).items()}


def _source(spec: str | Path, name: str) -> tuple[SourceFile, Path]:
    """The text of a spec, and the folder that its paths are relative to."""
    if isinstance(spec, Path) or (spec.endswith(".mi") and "\n" not in spec):
        return read_source(Path(spec)), Path(spec).resolve().parent
    return SourceFile(f"{name}.mi", spec), Path.cwd()


def _result(landed: Landed, store: Store, look: Callable[[str], Any]) -> Result:
    stages = landed.execution.stages
    return Result(
        landed.run_uuid,
        store,
        landed.compiled.program.name,
        [t for s in stages for t in s.tables],
        [c for s in stages for c in s.checks],
        [*landed.compiled.bag, *landed.warnings],
        landed.execution.totals.as_dict(),
        [v for s in stages for v in s.views],
        look,
    )
