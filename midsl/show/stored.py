"""What `midsl show` prints: a run as it was recorded, and its results as `midsl run` printed them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from midsl.show.plain import Text
from midsl.show.results import PlotOf, render_results, render_views
from midsl.store.runs import StoredRun


def print_run(run: StoredRun, console: Console, store: Path) -> None:
    """Print one run."""
    console.print(Text(run.name, style="bold"), soft_wrap=True)
    for what, value in facts(run):
        console.print(Text(f"{what:>11}  {value}"), soft_wrap=True)
    console.print()
    render_views(run.views, console)
    plots = [PlotOf(kind, table, channels) for kind, table, channels, _ in run.plots]
    render_results(run.tables, run.checks, plots, console, spec=run.row["spec_name"], store=store)


def verdict(verified: StoredRun) -> str:
    """What a run of `midsl verify` found, in a line."""
    agree = sum(c.passed for c in verified.checks)
    return f"{agree} of {len(verified.checks)} agree with the oracle in float64 (run {verified.run_id})"


def facts(run: StoredRun) -> list[tuple[str, str]]:
    """What is known of a run beside its results, in lines."""
    r = run.row
    ended = f" to {r['finished_at']:%H:%M:%S}" if r["finished_at"] else ""
    told = [
        ("run", r["run_uuid"]),
        ("spec", r["spec_path"]),
        ("status", r["status"] + (f": {r['error']}" if r["error"] else "")),
        ("time", f"{r['started_at']:%Y-%m-%d %H:%M:%S}{ended} UTC"),
    ]
    if run.params:
        told.append(("parameters", ", ".join(f"{k} = {v}" for k, v in run.params.items())))
    for m in run.rows("models"):
        sha = f", weights {m['weights_sha256'][:12]}" if m["weights_sha256"] else ""
        told.append(("model", f"{m['name']}: {m['ref']}{sha}, {m['numerics']}".rstrip(", ")))
    for d in run.rows("datasets"):
        told.append(("data", f"{d['name']}: {d['ref']}, {d['rows']} of {d['rows_total']} rows"))
    env = run.environment
    commit = f", commit {str(env['git_commit'])[:10]}{' (changed)' if env.get('git_dirty') else ''}"
    versions = f"midsl {env.get('midsl')}, torch {env.get('torch')}, Python {env.get('python')}"
    told.append(("made with", versions + (commit if env.get("git_commit") else "")))
    if (by := run.verified) is not None and by.row != run.row:
        told.append(("verified", verdict(by)))
    for experiment, other in run.reused.items():
        told.append(("reused", f"{experiment}: unchanged since run {other}"))
    return told


def run_json(run: StoredRun) -> dict[str, Any]:
    """One run as data."""
    keep = ("run_id", "run_uuid", "spec_name", "spec_path", "spec_hash", "status", "exit_code", "error")
    return {
        **{k: run.row[k] for k in keep},
        "started_at": str(run.row["started_at"]),
        "finished_at": str(run.row["finished_at"]),
        "params": run.params,
        "models": run.rows("models"),
        "datasets": run.rows("datasets"),
        "environment": run.environment,
        "reused": run.reused,
        "spec": run.source,
        "reports": [
            {
                "experiment": t.experiment,
                "report": t.report,
                "unit": t.unit,
                "columns": t.columns,
                "rows": t.rows(),
            }
            for t in run.tables
        ],
        "checks": run.rows("checks"),
        "views": [v.as_json() for v in run.views],
    }
