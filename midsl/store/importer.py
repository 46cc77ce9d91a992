"""Run folders -> ``results.duckdb``.

The database is an index: everything in it can be made again from the folders, and this is the only
code that opens it for writing. Importing is idempotent: a run is imported again, whole and in one
transaction, when its manifest has changed, and taken out when its folder is gone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from midsl.diagnostics.model import Diagnostic, fail
from midsl.store.lock import is_locked
from midsl.store.record import digest, json_text
from midsl.store.schema import MEASURED, PART_TABLES, RUN_TABLES, SCHEMA_VERSION, ddl, quote, table_of
from midsl.store.views import columns_of, forget_views, make_views, views_are_current
from midsl.store.writer import LOCK, MANIFEST, MANIFEST_FORMAT

_PARTS = "read_parquet($files, union_by_name = true)"
"""Parts of one table; each has the columns that its rows fill."""

DIED = "the process ended before the run did"


@dataclass(frozen=True)
class Found:
    """A run's folder as it stands: `state` changes whenever there is something to import."""

    folder: Path
    manifest: dict[str, Any]
    state: str

    @property
    def uuid(self) -> str:
        return self.folder.name


def scan(runs: Path) -> tuple[dict[str, Found], list[Diagnostic]]:
    """Return the runs found under a folder by uuid, and a warning for each that cannot be read."""
    found: dict[str, Found] = {}
    warnings = []
    for path in sorted(runs.glob(f"*/{MANIFEST}")):
        folder = path.parent
        # The lock before the manifest: a run that ends in between is then still taken for running,
        # and its changed manifest brings it back at the next import.
        alive = is_locked(folder / LOCK)
        try:
            text = path.read_bytes()
            manifest = json.loads(text)
            if manifest["format"] > MANIFEST_FORMAT:
                raise ValueError(f"it was written by a newer midsl (format {manifest['format']})")
            if manifest["record"]["run_uuid"] != folder.name:
                raise ValueError(f"it belongs to run {manifest['record']['run_uuid']}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.append(damaged(folder, f"{MANIFEST}: {error}"))
            continue
        if manifest["status"] == "running" and not alive:
            manifest |= {"status": "interrupted", "error": DIED}
        state = hashlib.sha256(text + manifest["status"].encode()).hexdigest()
        found[folder.name] = Found(folder, manifest, state)
    return found, warnings


def damaged(folder: Path, why: str) -> Diagnostic:
    """Return the warning for a run folder that cannot be imported."""
    return Diagnostic(
        "MI0805",
        f"run folder {folder} cannot be imported: {why}",
        help="its rows are missing from the results; delete the folder if it is not needed",
        severity="warning",
    )


def schema_version(con: duckdb.DuckDBPyConnection) -> int | None:
    """Return the version of the schema in an open database; None if it is empty.

    Raises:
        MI0806: the database is no results store, or a newer midsl has written it.
    """
    tables = {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        return None
    row = None
    if "meta" in tables:
        row = con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if row is None:
        raise fail("MI0806", "the database has no schema version: no results store of midsl")
    version = int(row[0])
    if version > SCHEMA_VERSION:
        raise fail(
            "MI0806",
            f"the results store has schema version {version}; this midsl knows none after {SCHEMA_VERSION}",
            help="upgrade midsl, or use another folder with --store",
        )
    return version


@dataclass(frozen=True)
class Pending:
    """What a database lacks: runs to import, ids of runs whose folder is gone, its views."""

    new: list[Found]
    gone: list[int]
    views: bool

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.views)


def pending(con: duckdb.DuckDBPyConnection, found: dict[str, Found]) -> Pending:
    """Compare an open database of the current schema with the run folders."""
    known = {
        uuid: (run_id, state)
        for uuid, run_id, state in con.execute(
            "SELECT run_uuid::VARCHAR, run_id, manifest_sha256 FROM runs"
        ).fetchall()
    }
    new = [f for uuid, f in found.items() if uuid not in known or known[uuid][1] != f.state]
    gone = [run_id for uuid, (run_id, _) in known.items() if uuid not in found]
    return Pending(new, gone, not views_are_current(con))


def sync(con: duckdb.DuckDBPyConnection, found: dict[str, Found]) -> tuple[int, list[Diagnostic]]:
    """Bring an open database up to the folders; returns the number of runs imported, and warnings."""
    if schema_version(con) is None:
        con.execute("BEGIN")
        for statement in ddl():
            con.execute(statement)
        con.execute("COMMIT")
    todo = pending(con, found)
    if not todo:
        return 0, []
    warnings, count = [], 0
    for run in todo.new:
        try:
            with con.cursor() as transaction:
                transaction.execute("BEGIN")
                forget_views(transaction)
                _import(transaction, run)
                transaction.execute("COMMIT")
            count += 1
        except (duckdb.Error, ValueError, KeyError) as error:
            warnings.append(damaged(run.folder, str(error)))
    con.execute("BEGIN")
    forget_views(con)
    for run_id in todo.gone:
        _delete(con, run_id)
    make_views(con)
    con.execute("COMMIT")
    return count, warnings


def _delete(con: duckdb.DuckDBPyConnection, run_id: int) -> None:
    for table in RUN_TABLES:
        con.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])


def _insert(con: duckdb.DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    names, marks = ", ".join(row), ", ".join(f"${name}" for name in row)
    con.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)


def _import(con: duckdb.DuckDBPyConnection, run: Found) -> None:
    old = con.execute("SELECT run_id FROM runs WHERE run_uuid = ?", [run.uuid]).fetchone()
    last = con.execute("SELECT coalesce(max(run_id), 0) FROM runs").fetchone()
    run_id = old[0] if old else (last[0] if last else 0) + 1
    if old:
        _delete(con, run_id)
    _import_manifest(con, run_id, run)
    files: dict[str, list[str]] = {}
    expected: dict[str, int] = {}
    for stage in run.manifest["stages"]:
        for part in stage["parts"]:
            files.setdefault(part["table"], []).append(str(run.folder / "parts" / part["file"]))
            expected[part["table"]] = expected.get(part["table"], 0) + part["rows"]
    for part_table, paths in sorted(files.items(), key=lambda f: f[0] != "reports"):  # these have the numbers
        if part_table not in PART_TABLES:
            raise ValueError(f"it has a part for an unknown table `{part_table}`")
        table = table_of(part_table)
        if table == MEASURED:
            _widen(con, paths)
        con.execute(
            f"INSERT INTO {table} BY NAME {_numbered(table, run_id)}",
            {"files": paths},
        )
        got = con.execute(f"SELECT count(*) FROM {table} WHERE run_id = {run_id}").fetchone()
        if got is None or got[0] != expected[part_table]:
            says = f"{got and got[0]} rows where its manifest says {expected[part_table]}"
            raise ValueError(f"`{part_table}` has {says}")


def _numbered(table: str, run_id: int) -> str:
    """Parts with the run's number, and that of the report where the table has it."""
    if table == MEASURED:
        of_run = f"(SELECT report_id, experiment, report FROM reports WHERE run_id = {run_id})"
        rows = f"{_PARTS} p JOIN {of_run} r USING (experiment, report)"
        return f"SELECT {run_id} AS run_id, r.report_id, p.* FROM {rows}"
    if table == "reports":
        next_ = "((SELECT coalesce(max(report_id), 0) FROM reports) + row_number() OVER ())::INTEGER"
        return f"SELECT {run_id} AS run_id, {next_} AS report_id, * FROM {_PARTS}"
    return f"SELECT {run_id} AS run_id, * FROM {_PARTS}"


def _widen(con: duckdb.DuckDBPyConnection, paths: list[str]) -> None:
    """Give the table a column for each axis that these parts have and no run before had."""
    found = con.execute(f"DESCRIBE SELECT * FROM {_PARTS}", {"files": paths}).fetchall()
    for name in {row[0] for row in found} - columns_of(con, MEASURED):
        if name not in PART_TABLES["measurements"]:
            raise ValueError(f"it has measurements along an unknown axis `{name}`")
        con.execute(f"ALTER TABLE {MEASURED} ADD COLUMN {quote(name)} {PART_TABLES['measurements'][name]}")


def _import_manifest(con: duckdb.DuckDBPyConnection, run_id: int, run: Found) -> None:
    m, record = run.manifest, run.manifest["record"]
    con.execute(
        "INSERT INTO specs SELECT $hash, $name, $source "
        "WHERE NOT EXISTS (FROM specs WHERE spec_hash = $hash AND name = $name)",
        {"hash": record["spec_hash"], "name": record["spec_name"], "source": record["spec_source"]},
    )
    plain = ("spec_name", "spec_path", "spec_hash", "argv", "seed", "numerics")
    ended = ("status", "exit_code", "error", "started_at", "finished_at")
    row = {"run_id": run_id, "run_uuid": run.uuid, "manifest_sha256": run.state}
    row |= {k: record[k] for k in plain} | {k: m[k] for k in ended}
    _insert(con, "runs", row | {"params": json_text(record["params"])})
    for model in record["models"]:
        _insert(con, "models", {"run_id": run_id, **model, "args": json_text(model["args"])})
    for data in record["datasets"]:
        as_json = {k: json_text(data[k]) for k in ("args", "ineligible")}
        _insert(con, "datasets", {"run_id": run_id, **data, **as_json})
    env, plan = record["environment"], record["plan"]
    picked = ("midsl", "torch", "python", "platform", "git_commit", "git_dirty")
    of_env = {"run_id": run_id, "env_hash": digest(env), "details": json_text(env)}
    _insert(con, "environments", of_env | {k: env.get(k) for k in picked})
    of_plan = {"run_id": run_id, "plan_hash": digest(plan), "ir": plan["ir"], "explain": plan["explain"]}
    _insert(con, "plans", of_plan | {k: json_text(plan[k]) for k in ("passes", "naive", "optimised")})
