"""The main road: a spec file through checking, binding, passes and plan, to `explain` or `run`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from midsl.diagnostics.model import Bag, Diagnostic, MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.ir.text import print_program
from midsl.ops.extern import HANDED
from midsl.passes.pipeline import Optimised, optimise
from midsl.plan.bind import Binder, check_bound
from midsl.plan.bound import Bound
from midsl.plan.build import build
from midsl.plan.choose import choose_points
from midsl.plan.execute import Executor
from midsl.plan.fingerprints import content_keys
from midsl.plan.fits import Fitter
from midsl.plan.handed import Handed
from midsl.plan.loads import fits_of
from midsl.plan.memory import out_of_memory
from midsl.plan.numerics import numerics
from midsl.plan.remembered import Known, Remembered
from midsl.plan.results import Results
from midsl.plan.rollouts import predict, roll
from midsl.plan.saved import Saved
from midsl.plan.session import Session
from midsl.plan.steps import (
    ChooseStep,
    FitStep,
    FreeStep,
    LoadStep,
    Plan,
    RollStep,
    RunStep,
    SinkStep,
    TrainStep,
    WeighStep,
)
from midsl.plan.totals import Totals
from midsl.plan.train import Trainer
from midsl.plan.viewed import viewed
from midsl.plan.weigh import weigh
from midsl.reach import NO_TRUST, Reach, Trust, working_in
from midsl.sema.check import read_source
from midsl.sema.stdfiles import is_std
from midsl.show.progress import progress
from midsl.source import SourceFile, Span
from midsl.store.rows import CellRow, CheckRow, LossRow, ResultTable, Viewed


@dataclass
class Compiled:
    """A spec that is ready to run: its program as written and optimised, its plan, its inputs."""

    source: SourceFile
    program: Program
    optimised: Optimised
    plan: Plan
    binder: Binder
    trainer: Trainer
    fitter: Fitter
    bag: Bag
    off: tuple[str, ...] = ()
    """The passes that were left out."""
    compile: str = "never"
    """Whether segments are compiled: auto, always, never."""
    imports: dict[str, str] = field(default_factory=dict)
    """The texts of the files that it imports, by path; the library's are left out."""
    bound: tuple[str, ...] = ()
    """Names that stand for objects of the caller's."""

    def session(self) -> Session:
        """A fresh state to execute or to count the plan in."""
        return Session(self.plan, self.binder, self.optimised.program.roots, mode=self.compile_mode)

    @property
    def compile_mode(self) -> str:
        """How segments are compiled; never, where the pass is left out."""
        return self.compile if self.optimised.schedule.compile else "never"


def compile_spec(
    path: Path,
    params: Mapping[str, str] | None = None,
    off: Collection[str] = (),
    trust: Trust = NO_TRUST,
    tests: Callable[[str], bool] | None = None,
    compile: str = "never",
    select: Collection[str] = (),
    limit: int = 0,
) -> Compiled:
    """Check, bind and plan the spec of a file, as `compile_source` does its text.

    `select`: the experiments to plan, where it is not all of them (MI0807 for one that there is not).
    """
    narrow = partial(selected, select=select) if select else None
    folder = path.resolve().parent
    return compile_source(
        read_source(path), folder, params, off, trust, tests, compile, narrow=narrow, limit=limit
    )


def selected(program: Program, select: Collection[str]) -> Program:
    """The program of some of its experiments (MI0807 for one that there is not)."""
    names = [x.name for x in program.experiments]
    unknown = next((n for n in select if n not in names), None)
    if unknown is not None:
        help = did_you_mean(unknown, names) or f"experiments: {', '.join(names)}"
        raise fail("MI0807", f"the spec has no experiment `{unknown}`", help=help)
    return replace(program, experiments=tuple(x for x in program.experiments if x.name in select))


def compile_source(
    source: SourceFile,
    folder: Path,
    params: Mapping[str, str] | None = None,
    off: Collection[str] = (),
    trust: Trust = NO_TRUST,
    tests: Callable[[str], bool] | None = None,
    compile: str = "never",
    warm: Binder | None = None,
    handed: Handed | None = None,
    narrow: Callable[[Program], Program] | None = None,
    limit: int = 0,
) -> Compiled:
    """Check, bind and plan a spec; nothing runs and nothing is written.

    `folder` is what its paths are relative to. `warm`: a binder whose models and graphs are at hand already.
    `handed`: what the caller gives names to. `compile`: whether segments are compiled (auto, always, never).
    `tests`: plan those of its `test` blocks whose titles are wanted, in place of its experiments.
    `narrow`: what to plan of the program. `limit`: rows to take of each data set, save those that something
    is trained or fitted on; 0 takes all.

    Raises:
        MiError: every error that checking or binding found.
    """
    trainer, fitter = Trainer(), Fitter()
    bag = Bag()
    reach = Reach(folder, trust, params or {})
    binder = Binder(reach=reach, bag=bag, trainer=trainer, fitter=fitter, limit=limit)
    if warm is not None:
        binder.keep_models_of(warm)
    if handed is not None:
        binder.models.update(handed.models)
        binder.functions = handed.functions
        HANDED.update(handed.functions)
    with working_in(binder.reach):
        checked = check_bound(source, binder, params, tests, handed.given if handed else None)
        program = checked.require()
        if narrow is not None:
            program = narrow(program)
        bag.extend(checked.bag)
        fitter.planned = fits_of(*program.roots)
        trainer.planned = [n for n in ir.walk(*program.roots) if isinstance(n, ir.Train)]
        optimised = optimise(program, binder, off)
        plan = build(optimised.program, optimised.schedule)
    imports = {s.name: s.text for s in checked.ctx.trees if s is not source and not is_std(s)}
    _tell_trusted(program, reach, bag)
    bound = handed.given.names if handed is not None else ()
    return Compiled(
        source,
        program,
        optimised,
        plan,
        binder,
        trainer,
        fitter,
        bag,
        tuple(off),
        compile,
        imports,
        bound,
    )


def _tell_trusted(program: Program, reach: Reach, bag: Bag) -> None:
    """Name what a spec has done or will do by leave of its user alone (MI0607)."""
    refs = dict.fromkeys(str(getattr(n, "ref", "")) for n in ir.walk(*program.roots))
    used = [f"Python `{r}`" for r in refs if r and not r.startswith(("midsl.", "bind:"))] + reach.used
    if used:
        help = "`--allow PATH` lets it read, and no more"
        bag.add(Diagnostic("MI0607", f"trusted with {', '.join(used)}", help=help, severity="note"))


@dataclass
class Stage:
    """What one experiment gave."""

    experiment: str
    tables: list[ResultTable] = field(default_factory=list)
    checks: list[CheckRow] = field(default_factory=list)
    plots: list[tuple[ir.Plot, ResultTable]] = field(default_factory=list)
    saves: list[Saved] = field(default_factory=list)
    views: list[Viewed] = field(default_factory=list)
    cells: list[CellRow] = field(default_factory=list)
    losses: list[LossRow] = field(default_factory=list)


@dataclass
class Execution:
    """Executes a plan: `totals` counts what was done, `predicted` what each run should have cost once its

    points were known, `stages` holds what came out.
    """

    compiled: Compiled
    totals: Totals = field(default_factory=Totals)
    predicted: Totals = field(default_factory=Totals)
    remembered: Remembered | None = None
    """Values of earlier plans; what is at hand there is not run."""
    keep: bool = False
    """Let nothing go, for those who look at kept values afterwards."""
    stages: list[Stage] = field(default_factory=list)
    loaded: dict[int, CellRow] = field(default_factory=dict)
    losses: list[LossRow] = field(default_factory=list)
    """How the fits of the plan went."""
    known: Known = field(init=False)
    bound: Bound = field(init=False)
    """The inputs; once it has run, with the rows that were written."""

    def __post_init__(self) -> None:
        self.bound = self.compiled.binder

    def load(self) -> None:
        """Load and train what the plan needs; done once, before anything runs."""
        with working_in(self.compiled.binder.reach):
            for step in self.compiled.plan.steps:
                if isinstance(step, (LoadStep, TrainStep)) and id(step) not in self.loaded:
                    began, cpu = time.perf_counter(), time.process_time()
                    self.compiled.binder.engine(step.model)
                    self.loaded[id(step)] = self._cell(step, step.model.digest, began, cpu, Totals())
                elif isinstance(step, FitStep) and id(step) not in self.loaded:
                    began, cpu = time.perf_counter(), time.process_time()
                    self.compiled.binder.fitted(step.fit)
                    self.loaded[id(step)] = self._cell(step, step.fit.digest, began, cpu, Totals())
                    self.losses += [
                        LossRow(step.name, step.fit.digest, at, loss)
                        for at, loss in self.compiled.fitter.done[step.fit.digest].losses
                    ]

    def run(self, on_stage: Callable[[Stage], None] | None = None, session: Session | None = None) -> None:
        """Run all steps; `on_stage` is called with each experiment's `Stage` once it is complete."""
        self.load()
        session = session or self.compiled.session()
        session.generous = self.remembered.room // 4 if self.remembered is not None else 0
        self.bound = session.bound
        executor = Executor(session, self.compiled.bag.add)
        memory = self.remembered
        if memory is not None:
            executor.also = partial(memory.reads, session)
            self.known = content_keys(self.compiled, lambda m: numerics(self.compiled.binder.loaded(m)))
        results = Results(session.evaluator)
        cells, losses = list(self.loaded.values()), list(self.losses)
        tables: dict[str, ResultTable] = {}
        current: Stage | None = None

        def close() -> None:
            nonlocal current
            if current is not None:
                self.stages.append(current)
                if on_stage is not None:
                    on_stage(current)
            current = None

        with working_in(self.compiled.binder.reach):
            for step in self.compiled.plan.steps:
                if isinstance(step, RunStep):
                    close()  # the sinks of an experiment come last
                    if session.idle(step):
                        continue
                    if memory is not None and memory.recall(session, step, self.known):
                        cells.append(replace(self._nothing(step), status="in memory"))
                        continue
                    cells.append(self._run(executor, step))
                    if memory is not None:
                        memory.keep(session, step, executor.noted, self.known)
                elif isinstance(step, WeighStep):
                    weigh(session, step)
                elif isinstance(step, RollStep):
                    close()
                    cells.append(self._roll(session, step))
                elif isinstance(step, FreeStep):
                    if not self.keep:
                        for node in step.nodes:
                            session.evaluator.store.pop(node.digest, None)
                elif isinstance(step, ChooseStep):
                    close()
                    choose_points(session, step.sweep)
                elif isinstance(step, SinkStep):
                    sink = step.sink
                    assert isinstance(sink, (ir.Report, ir.Expect, ir.Plot, ir.Save, ir.View))
                    if current is None or current.experiment != sink.experiment:
                        close()
                        current = Stage(sink.experiment, cells=cells, losses=losses)
                        cells, losses = [], []
                    if isinstance(sink, ir.Report):
                        tables[sink.digest] = results.report(sink)
                        current.tables.append(tables[sink.digest])
                    elif isinstance(sink, ir.View):
                        current.views.append(viewed(sink, results, session.bound))
                    elif isinstance(sink, ir.Save):
                        current.saves.append(results.save(sink))
                    elif isinstance(sink, ir.Expect):
                        current.checks.append(results.expect(sink))
                    else:
                        current.plots.append((sink, tables[sink.value.digest]))
            close()

    def _roll(self, session: Session, step: RollStep) -> CellRow:
        began, cpu = time.perf_counter(), time.process_time()
        done = Totals()
        rows = session.bound.part(step.rollout.room)
        try:
            with progress(step.name, len(rows) * step.rollout.room.data.steps) as advance:
                for n in roll(session, step, done):
                    advance(n, "")
        except (MemoryError, RuntimeError) as err:
            if not out_of_memory(err):
                raise
            raise _out_of_memory(f"the rollout {step.name}", step.rollout.span, err) from None
        emitted = session.written.rows[step.rollout.digest].columns["emitted"].values
        self.predicted.add(predict(session, step, np.asarray(emitted, np.int64)))
        self.totals.add(done)
        return self._cell(step, step.rollout.digest, began, cpu, done)

    def _run(self, executor: Executor, step: RunStep) -> CellRow:
        began, cpu = time.perf_counter(), time.process_time()
        done = Totals()
        p = executor.session.prepare(step)
        self.predicted.add(executor.session.predict(step))
        try:
            runs = self.compiled.plan.runs
            stage = f"{next((i for i, s in enumerate(runs, 1) if s is step), 0)}/{len(runs)} {step.name}"
            with progress(stage, p.lanes * len(p.part), p.length) as advance:
                for n in executor.run(step, done):
                    advance(n, "")
        except (MemoryError, RuntimeError) as err:
            if not out_of_memory(err):
                raise
            raise _out_of_memory(f"the run {step.name}", step.run.span, err) from None
        self.totals.add(done)
        return self._cell(step, step.run.digest, began, cpu, done)

    def _nothing(self, step: RunStep) -> CellRow:
        return self._cell(step, step.run.digest, time.perf_counter(), time.process_time(), Totals())

    def _cell(self, step: object, key: str, began: float, cpu: float, done: Totals) -> CellRow:
        trained = self.compiled.trainer.done.get(key) or self.compiled.fitter.done.get(key)
        status = "reused" if trained is not None and trained.cached else "done"
        return CellRow(
            node_key=key,
            name=getattr(step, "name", ""),
            kind=type(step).__name__.removesuffix("Step").lower(),
            status=status,
            reused_from=None,
            seconds=time.perf_counter() - began,
            cpu_seconds=time.process_time() - cpu,
            forwards=done.forwards,
            layer_tokens=done.layer_tokens,
            flops=done.flops,
            bytes=done.bytes,
            peak_bytes=done.peak_bytes,
        )


def _out_of_memory(where: str, span: Span, err: BaseException) -> MiError:
    return fail(
        "MI0702",
        f"memory ran out in {where}",
        span,
        label=str(err).splitlines()[0][:120] if str(err) else "no memory is left",
        help="set MIDSL_MEMORY to fewer bytes than there are, so that chunks are smaller",
        exit_code=4,
    )


def spec_hash(source: SourceFile) -> str:
    """sha256 of the text."""
    return hashlib.sha256(source.text.encode()).hexdigest()


def ir_text(compiled: Compiled, after: str | None = None) -> str:
    """The optimised program as text, or the program as a pass left it.

    Raises:
        KeyError: if that pass was left out.
    """
    if after is None:
        return print_program(compiled.optimised.program)
    return print_program(dict(compiled.optimised.after)[after])
