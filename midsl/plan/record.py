"""Running with a store: what is recorded of a run, and how its stages land."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from midsl.diagnostics.model import Bag, MiError
from midsl.diagnostics.render import render_json, render_text
from midsl.ir import nodes as ir
from midsl.plan.driver import Compiled, Execution, Stage, ir_text, spec_hash
from midsl.plan.explain import Explanation, explain, si
from midsl.plan.numerics import model_numerics, numerics
from midsl.plan.plots import drawn
from midsl.plan.remembered import Remembered
from midsl.plan.reuse import reuse_from
from midsl.plan.speed import shown
from midsl.show.results import PlotOf, render_results, render_views, sql_hint
from midsl.show.vega import to_json
from midsl.store.db import Store
from midsl.store.record import (
    DatasetRecord,
    IneligibleRecord,
    ModelRecord,
    PlanRecord,
    RunRecord,
    environment,
)
from midsl.store.rows import Artifact

DONE, FAILED_EXPECT = 0, 3


@dataclass(frozen=True)
class Landed:
    """A run that is stored: exit code (0 done, 3 an expect failed), id, and what came out."""

    code: int
    run_uuid: str
    compiled: Compiled
    execution: Execution
    explained: Explanation
    warnings: Bag


def run_and_store(
    compiled: Compiled, folder: Path, params: Mapping[str, str], argv: list[str], as_json: bool
) -> int:
    """Run as `land_run` does, and print what came out; returns the exit code."""
    done = land_run(compiled, folder, params, argv)
    if as_json:
        told = _json(done.compiled, done.execution, done.explained, done.code, done.run_uuid, done.warnings)
        click_json(told)
    else:
        _print(done.compiled, done.execution, done.explained, folder, done.warnings)
    return done.code


def land_run(
    compiled: Compiled,
    folder: Path,
    params: Mapping[str, str],
    argv: list[str],
    remembered: Remembered | None = None,
) -> Landed:
    """Execute a plan, and store each experiment as it completes.

    `remembered`: what earlier plans have left in memory, which is then not run.

    Raises:
        MiError: with exit code 4 where resources ran out or a run failed; what was complete is kept.
    """
    store = Store(folder.resolve())  # the spec runs in its own folder
    reused = reuse_from(store.root, compiled, model_numerics(compiled))
    compiled = reused.compiled
    explained = explain(compiled, reused.states)  # also refuses what does not fit, with nothing written
    execution = Execution(compiled, remembered=remembered)
    writer = store.begin(record_of(compiled, params, argv, explained))
    told = 0

    def land(stage: Stage) -> None:
        nonlocal told
        of = reused.fingerprints.get(stage.experiment)
        fresh, told = list(compiled.bag)[told:], len(compiled.bag)
        plots = [
            Artifact(
                "plot", f"{p.experiment}.{p.kind}.{t.report}", text=to_json(drawn(p, t, execution.bound))
            )
            for p, t in stage.plots
        ]
        with tempfile.TemporaryDirectory(dir=store.root / "runs", prefix=".saving-") as beside_runs:
            saves = [s.artifact(Path(beside_runs)) for s in stage.saves]
            writer.stage(
                stage.experiment,
                stage.tables,
                stage.checks,
                stage.cells,
                [*plots, *saves, *(v.artifact() for v in stage.views)],
                fresh,
                of.key if of else None,
                stage.losses,
                of.as_dict() if of else None,
            )

    try:
        execution.load()
        writer.amend(record_of(compiled, params, argv, explained))  # what was trained has weights now
        for stage in reused.stages:
            land(stage)
        execution.run(land)
        order = [x.name for x in compiled.program.experiments]
        execution.stages = sorted(
            [*reused.stages, *execution.stages], key=lambda s: order.index(s.experiment)
        )
    except KeyboardInterrupt:
        writer.finish("interrupted", 130)
        raise
    except MiError as err:
        writer.finish("partial" if execution.stages else "failed", err.exit_code, str(err))
        store.import_runs(Bag())
        raise
    except Exception as err:
        writer.finish("failed", 1, repr(err))
        raise
    failed = [c for s in execution.stages for c in s.checks if not c.passed]
    code = FAILED_EXPECT if failed else DONE
    writer.finish("failed_checks" if failed else "done", code)
    warnings = Bag()
    store.import_runs(warnings)
    return Landed(code, writer.run_uuid, compiled, execution, explained, warnings)


def click_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def _print(
    compiled: Compiled, execution: Execution, explained: Explanation, folder: Path, warnings: Bag
) -> None:
    console = Console()
    tables = [t for s in execution.stages for t in s.tables]
    checks = [c for s in execution.stages for c in s.checks]
    plots = [PlotOf(p.kind, t, dict(p.channels)) for s in execution.stages for p, t in s.plots]
    hint = sql_hint(tables, compiled.program.name, folder) if tables else ""
    for s in execution.stages:
        for x in s.saves:
            console.print(f"saved {x.about()}", highlight=False)
    for s in execution.stages:
        for c in s.cells:
            if c.kind == "reuse":
                how = "unchanged since" if c.status == "reused" else "metadata-only, rows of"
                console.print(f"{s.experiment}: {how} run {c.reused_from}", style="dim", highlight=False)
    console.print(beside(execution, explained), style="dim", highlight=False, soft_wrap=True)
    render_views([v for s in execution.stages for v in s.views], console)
    render_results(tables, checks, plots, console, hint, spec=compiled.program.name, store=folder)
    if len(warnings):
        sys.stderr.write(render_text(list(warnings)))


def beside(execution: Execution, explained: Explanation) -> str:
    """What was predicted and what was done, in a line."""
    done, said = execution.totals, explained.optimised
    ran = sum(c.seconds for s in execution.stages for c in s.cells if c.kind in ("run", "roll"))
    least = f"{si(explained.least.flops)}.." if explained.least.flops != said.flops else ""
    about = shown(explained.seconds)
    return (
        f"predicted {said.forwards} forwards, {least}{si(said.flops)}FLOP, about {about}; "
        f"executed {done.forwards} forwards, {si(done.flops)}FLOP in {shown(ran)}"
    )


def _json(
    compiled: Compiled, execution: Execution, explained: Any, code: int, run: str, warnings: Bag
) -> dict[str, Any]:
    reports = []
    for s in execution.stages:
        for t in s.tables:
            reports.append(
                {
                    "experiment": t.experiment,
                    "report": t.report,
                    "columns": list(t.columns),
                    "rows": [list(r) for r in t.rows()],
                    "unit": t.unit,
                }
            )
    checks = [
        {
            "experiment": c.experiment,
            "expect": c.text,
            "message": c.message,
            "passed": c.passed,
            "observed": c.observed,
            "line": c.line,
        }
        for s in execution.stages
        for c in s.checks
    ]
    saved = [
        {"name": x.title, "axes": list(x.axes), "shape": list(x.value.shape), "unit": x.unit}
        for s in execution.stages
        for x in s.saves
    ]
    return {
        "run": run,
        "exit_code": code,
        "reports": reports,
        "checks": checks,
        "saved": saved,
        "views": [v.as_json() for s in execution.stages for v in s.views],
        "counts": {
            "predicted": explained.optimised.as_dict(),
            "predicted_least": explained.least.as_dict(),
            "planned": execution.predicted.as_dict(),
            "executed": execution.totals.as_dict(),
        },
        "diagnostics": render_json([*compiled.bag, *warnings]),
    }


def record_of(compiled: Compiled, params: Mapping[str, str], argv: list[str], explained: Any) -> RunRecord:
    """What the store keeps of a run beside its results."""
    binder = compiled.binder
    models = []
    for name, node in compiled.program.models:
        loaded = binder.models.get(node.digest)
        models.append(
            ModelRecord(
                name=name,
                ref=node.ref if isinstance(node, ir.Model) else "train",
                args=_args(node),
                arch=loaded.arch if loaded else "",
                weights_sha256=loaded.weights_sha256 if loaded else "",
                tokenizer_fingerprint=loaded.tokenizer.fingerprint if loaded and loaded.tokenizer else "",
                numerics=numerics(loaded) if loaded else "",
            )
        )
    datasets = []
    for name, node in compiled.program.datas:
        rows = binder.dataset(node)
        datasets.append(
            DatasetRecord(
                name=name,
                ref=node.ref if isinstance(node, ir.Data) else "",
                args=_args(node),
                fingerprint=rows.fingerprint,
                rows=len(next(iter(rows.sides.values()))),
                rows_total=rows.rows_total,
                provenance=rows.provenance,
                ineligible=[IneligibleRecord(row=r.row, reason=r.reason) for r in rows.ineligible],
            )
        )
    plan = PlanRecord(
        ir=ir_text(compiled),
        passes=explained.passes,
        naive=explained.naive.as_dict(),
        optimised=explained.optimised.as_dict(),
        explain=explained.as_text(),
    )
    return RunRecord(
        spec_path=str(compiled.source.path or compiled.source.name),
        spec_name=compiled.program.name,
        spec_source=compiled.source.text,
        spec_hash=spec_hash(compiled.source),
        params=dict(params),
        argv=argv,
        models=models,
        datasets=datasets,
        environment=environment(binder.reach.folder)
        | {
            "torch_threads": torch.get_num_threads(),
            "imports": compiled.imports,
            "off": list(compiled.off),
            "compile": compiled.compile,
            "bound": list(compiled.bound),
            "limit": binder.limit,
            "experiments": [x.name for x in compiled.program.experiments],
        },
        plan=plan,
        numerics=", ".join(sorted({m.numerics for m in models if m.numerics})),
    )


def _args(node: ir.Node) -> dict[str, Any]:
    pairs = node.options if isinstance(node, ir.Train) else getattr(node, "args", ())
    return {k: _shown(v) for k, v in pairs}


def _shown(value: Any) -> Any:
    if isinstance(value, ir.Node):
        return f"<{type(value).__name__.lower()} {value.digest[:8]}>"
    if isinstance(value, tuple):
        return [_shown(v) for v in value]
    return value
