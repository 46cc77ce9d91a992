"""The tables of ``results.duckdb``: one place that says which columns there are.

`measurements` is one long view with a typed column per common axis (NULL: does not apply); keys
without a column of their own go to `extra`. The table under it, `measured`, has columns for only those
axes that some run of the store has, for a column of NULLs costs as much to fill as any other. It has
no primary key: rows are replaced a run at a time, and a key would cost three times the time and four
times the bytes. Small things that are looked at rather than filtered are JSON.

The same definitions give the columns of a run's Parquet parts their types, so a part always fits the
table that it is imported into.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMA_VERSION = 5

AXES: dict[str, str] = {
    **dict.fromkeys(("layer", "head", "pos", "example", "batch", "feature", "neuron"), "BIGINT"),
    **{f"{end}_{axis}": "BIGINT" for end in ("src", "dst") for axis in ("layer", "head", "pos", "feature")},
    **dict.fromkeys(("step", "seed", "draw", "rank", "shift"), "BIGINT"),
    **dict.fromkeys(("site", "part", "split", "token", "control"), "VARCHAR"),
    "dose": "DOUBLE",
}
"""Axis columns of `measurements`, by type."""

# Written by the runs themselves, as Parquet parts; `run_id` is added by the importer.
PART_TABLES: dict[str, dict[str, str]] = {
    "reports": {
        "experiment": "VARCHAR",
        "report": "VARCHAR",
        "unit": "VARCHAR",
        "keys": "JSON",  # [{name, type, own}]; own: the key is a column of measurements, else in extra
        "rows": "BIGINT",
        "n_total": "BIGINT",
    },
    "measurements": {
        "experiment": "VARCHAR",
        "report": "VARCHAR",
        **AXES,
        "value": "DOUBLE",
        "n": "BIGINT",
        "se": "DOUBLE",
        "extra": "VARIANT",
    },
    "checks": {
        "experiment": "VARCHAR",
        "text": "VARCHAR",
        "message": "VARCHAR",
        "passed": "BOOLEAN",
        "observed": "VARCHAR",
        "line": "BIGINT",
        "kind": "VARCHAR",  # expect, or verify: what `midsl verify` found
    },
    "cells": {
        "stage": "VARCHAR",
        "node_key": "VARCHAR",
        "name": "VARCHAR",
        "kind": "VARCHAR",
        "status": "VARCHAR",
        "reused_from": "VARCHAR",
        "seconds": "DOUBLE",
        "cpu_seconds": "DOUBLE",
        "forwards": "BIGINT",
        "layer_tokens": "DOUBLE",
        "flops": "BIGINT",
        "bytes": "BIGINT",
        "peak_bytes": "BIGINT",
    },
    "losses": {  # how fits went: up to a few hundred steps of each, the first and the last among them
        "fit": "VARCHAR",
        "node_key": "VARCHAR",
        "step": "BIGINT",
        "loss": "DOUBLE",
    },
    "artifacts": {
        "kind": "VARCHAR",
        "name": "VARCHAR",
        "path": "VARCHAR",  # relative to the store
        "text": "VARCHAR",
        "sha256": "VARCHAR",
        "bytes": "BIGINT",
    },
    "diagnostics": {
        "severity": "VARCHAR",
        "code": "VARCHAR",
        "message": "VARCHAR",
        "file": "VARCHAR",
        "line": "BIGINT",
        "col": "BIGINT",
        "label": "VARCHAR",
        "help": "VARCHAR",
    },
}

# Filled from the run's manifest.
MANIFEST_TABLES: dict[str, dict[str, str]] = {
    "runs": {
        "run_uuid": "UUID",
        "spec_name": "VARCHAR",
        "spec_path": "VARCHAR",
        "spec_hash": "VARCHAR",
        "status": "VARCHAR",  # running done failed_checks failed partial interrupted verified differs
        "exit_code": "INTEGER",
        "error": "VARCHAR",
        "argv": "VARCHAR[]",
        "params": "JSON",
        "seed": "BIGINT",
        "numerics": "VARCHAR",
        "started_at": "TIMESTAMP",  # UTC
        "finished_at": "TIMESTAMP",
        "manifest_sha256": "VARCHAR",
    },
    "models": {
        "name": "VARCHAR",
        "ref": "VARCHAR",
        "args": "JSON",
        "arch": "VARCHAR",
        "weights_sha256": "VARCHAR",
        "tokenizer_fingerprint": "VARCHAR",
        "numerics": "VARCHAR",
    },
    "datasets": {
        "name": "VARCHAR",
        "ref": "VARCHAR",
        "args": "JSON",
        "fingerprint": "VARCHAR",
        "rows": "BIGINT",
        "rows_total": "BIGINT",
        "provenance": "VARCHAR",
        "ineligible": "JSON",
    },
    "environments": {
        "env_hash": "VARCHAR",
        "midsl": "VARCHAR",
        "torch": "VARCHAR",
        "python": "VARCHAR",
        "platform": "VARCHAR",
        "git_commit": "VARCHAR",
        "git_dirty": "BOOLEAN",
        "details": "JSON",
    },
    "plans": {
        "plan_hash": "VARCHAR",
        "ir": "VARCHAR",
        "passes": "JSON",
        "naive": "JSON",
        "optimised": "JSON",
        "explain": "VARCHAR",
    },
}

NUMBERED = ("reports", "measured")
"""Tables with a `report_id`: a number for each report of each run, by which rows are found and joined."""
DEFAULTS = {("checks", "kind"): "expect"}
"""What stands where a part was written before there was the column."""

MEASURED = "measured"
MEASURED_ALWAYS = ("experiment", "report", "value", "n", "se")
"""What holds the rows of ``measurements`` parts, and its columns before any run needs more."""

RUN_TABLES = (*MANIFEST_TABLES, *(t for t in PART_TABLES if t != "measurements"), MEASURED)
"""Every table that has a `run_id`."""


def table_of(part: str) -> str:
    """Return the table that a part's rows go to."""
    return MEASURED if part == "measurements" else part


def quote(name: str) -> str:
    """Return a name as an SQL identifier, whatever it holds.

    >>> quote('a "b"')
    '"a ""b\"""'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL string, whatever it holds.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def key_in_sql(key: Mapping[str, Any], table: str = "") -> str:
    """Return a key column of `measurements`, as a report's `keys` describe it, as an SQL expression.

    >>> key_in_sql({"name": "layer", "type": "BIGINT", "own": True}, "m")
    'm."layer"::BIGINT'
    """
    held = quote(key["name"]) if key["own"] else f"extra.{quote(key['name'])}"
    return f"{table}.{held}::{key['type']}" if table else f"{held}::{key['type']}"


def of_report(experiment: str, report: str) -> str:
    """Return the condition, in SQL, that a row is of a report."""
    return f"experiment = {literal(experiment)} AND report = {literal(report)}"


def create_table(name: str, columns: dict[str, str]) -> str:
    """Return the statement that makes a table."""
    filled = {c: f" DEFAULT {literal(text)}" for (table, c), text in DEFAULTS.items() if table == name}
    held = ", ".join(f"{quote(c)} {t}{filled.get(c, '')}" for c, t in columns.items())
    return f"CREATE TABLE {quote(name)} ({held})"


def ddl() -> list[str]:
    """Return the statements that make an empty store, the schema version last."""
    statements = [create_table("specs", {"spec_hash": "VARCHAR", "name": "VARCHAR", "source": "VARCHAR"})]
    for name, columns in (MANIFEST_TABLES | PART_TABLES).items():
        run_id = "INTEGER PRIMARY KEY" if name == "runs" else "INTEGER"
        if name == "measurements":
            columns = {c: columns[c] for c in MEASURED_ALWAYS}
        number = {"report_id": "INTEGER"} if table_of(name) in NUMBERED else {}
        statements.append(create_table(table_of(name), {"run_id": run_id, **number, **columns}))
    statements.append(create_table("meta", {"key": "VARCHAR", "value": "VARCHAR"}))
    statements.append(f"INSERT INTO meta VALUES ('schema_version', '{SCHEMA_VERSION}')")
    return statements
