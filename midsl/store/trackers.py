"""A run as MLflow or Weights & Biases keep runs, in a folder on this machine; nothing is sent anywhere.

A report of one number is a metric, one along `step` alone is a curve, and all reports are tables beside them.
`mlflow ui --backend-store-uri FOLDER` shows the former; `wandb sync` of the run's folder sends the latter.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

from midsl.diagnostics.model import fail
from midsl.store.rows import ResultTable
from midsl.store.runs import StoredRun

Tracker = Literal["mlflow", "wandb"]


def export_tracked(run: StoredRun, tracker: Tracker, folder: Path, reports: tuple[str, ...] = ()) -> Path:
    """Write a run, or some of its reports, for a tracker; returns the folder that it made of it.

    Raises:
        MI0807: the run has no such report. MI0808: the tracker's package is missing.
    """
    titles = [t.title for t in run.tables]
    missing = next((r for r in reports if r not in titles), None)
    if missing is not None:
        has = f"its reports: {', '.join(titles) or 'none'}"
        raise fail("MI0807", f"{run.name} has no report `{missing}`", help=has)
    tables = [t for t in run.tables if t.title in (reports or titles)]
    writers: dict[Tracker, Callable[..., Path]] = {"mlflow": _mlflow, "wandb": _wandb}
    folder.mkdir(parents=True, exist_ok=True)
    return writers[tracker](_package(tracker), run, tables, folder.resolve())


def _package(tracker: str) -> ModuleType:
    try:
        return import_module(tracker)
    except ModuleNotFoundError:
        raise fail("MI0808", f"this needs the package {tracker}", help=f"pip install {tracker}") from None


def _metrics(run: StoredRun, tables: list[ResultTable]) -> Iterator[tuple[str, int, float]]:
    """Name, step and value of each number that is one."""
    for table in tables:
        if len(table) == 1 and not table.keys:
            yield table.title, 0, float(table.value[0])
        elif list(table.keys) == ["step"]:
            for step, value in zip(table.keys["step"], table.value, strict=True):
                yield table.title, int(step or 0), float(value)
    if run.checks:
        yield "expects.passed", 0, float(sum(c.passed for c in run.checks))
        yield "expects.failed", 0, float(sum(not c.passed for c in run.checks))


def _about(run: StoredRun) -> dict[str, str]:
    """What a run is, in words that can be searched for."""
    told = {"run": run.row["run_uuid"], "spec_sha256": run.row["spec_hash"], "status": run.row["status"]}
    told |= {f"model.{m['name']}": m["weights_sha256"] for m in run.rows("models")}
    told |= {f"data.{d['name']}": d["fingerprint"] for d in run.rows("datasets")}
    told |= {k: run.environment.get(k) for k in ("midsl", "torch", "python", "git_commit")}
    return {f"midsl.{k}": str(v) for k, v in told.items() if v}


def _mlflow(mlflow: ModuleType, run: StoredRun, tables: list[ResultTable], folder: Path) -> Path:
    with _environment(MLFLOW_ALLOW_FILE_STORE="true"):  # MLflow 3 asks to be told that files are meant
        client = mlflow.MlflowClient(tracking_uri=folder.as_uri())
        name = run.row["spec_name"]
        known = client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else client.create_experiment(name)
        made = client.create_run(experiment, run_name=run.name, tags=_about(run)).info.run_id
        for key, value in run.params.items():
            client.log_param(made, key, value)
        for title, step, value in _metrics(run, tables):
            if math.isfinite(value):
                client.log_metric(made, title, value, step=step)
        client.log_text(made, run.source, f"{name}.mi")
        for table in tables:
            client.log_text(made, _csv(table), f"reports/{table.title.replace('/', '_')}.csv")
        client.set_terminated(made, "FINISHED" if run.row["status"] == "done" else "FAILED")
    return Path(folder, experiment, made)


def _wandb(wandb: ModuleType, run: StoredRun, tables: list[ResultTable], folder: Path) -> Path:
    with _environment(WANDB_MODE="offline", WANDB_SILENT="true"):
        made = wandb.init(
            mode="offline",
            dir=str(folder),
            project=run.row["spec_name"],
            name=run.name,
            config={**run.params, **_about(run)},
            settings=wandb.Settings(silent=True, disable_git=True, disable_code=True),
        )
        steps: dict[int, dict[str, float]] = {}
        for title, step, value in _metrics(run, tables):
            steps.setdefault(step, {})[title] = value
        for step in sorted(steps):
            made.log(steps[step], step=step)
        for table in tables:
            rows = [list(r) for r in table.rows()]
            made.log({f"tables/{table.title}": wandb.Table(columns=table.columns, data=rows)})
        where = Path(made.dir).parent
        made.finish(exit_code=0 if run.row["status"] == "done" else 1)
    return where


def _csv(table: ResultTable) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([table.columns, *table.rows()])
    return out.getvalue()


@contextmanager
def _environment(**names: str) -> Iterator[None]:
    """Variables of the environment for a while."""
    before = {n: os.environ.get(n) for n in names}
    os.environ |= names
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
