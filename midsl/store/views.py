"""The views that specs' results are asked through; see grammar/decisions/0002-result-views.md.

Each report is a view ``experiment.report``: the keys in their order and with their types, `value`,
`n` and `se`, from the latest completed run that holds the experiment. ``"spec/experiment".report``
is the same for one spec, whichever other specs call an experiment alike. Reports ``table.column`` are
the columns of a table: ``experiment.table`` has them side by side, without `n` and `se`.
"""

from __future__ import annotations

import json

import duckdb

from midsl.store.rows import VALUE_COLUMNS
from midsl.store.schema import AXES, MEASURED, PART_TABLES, key_in_sql, literal, quote

COMPLETED = ("done", "failed_checks", "partial")
"""Statuses whose rows the views show; rows of other runs stay in `measurements`."""

RESERVED = frozenset({"main", "temp", "system", "memory", "information_schema", "pg_catalog", "results"})
"""Schema names that mean something else to DuckDB in a file called ``results.duckdb``."""


def schema_of(spec: str, experiment: str) -> str:
    """Return the schema of an experiment's views, unquoted: the short one where there is one."""
    return f"{spec}/{experiment}" if experiment.casefold() in RESERVED else experiment


def view_name(spec: str, experiment: str, report: str) -> str:
    """Return how SQL calls a report's view; quoted only where it has to be.

    >>> view_name("quickstart", "head_patching", "effect")
    'head_patching.effect'
    >>> view_name("quickstart", "main", "order")
    '"quickstart/main"."order"'
    """
    return f"{name_in_sql(schema_of(spec, experiment))}.{name_in_sql(report)}"


def name_in_sql(name: str) -> str:
    """Return a name as SQL needs it: quoted only if it is a keyword or not a plain word."""
    plain = name.isascii() and name.isidentifier() and name.casefold() not in _keywords()
    return name if plain else quote(name)


_KEYWORDS: set[str] = set()


def _keywords() -> set[str]:
    """Words that DuckDB does not take everywhere as a name; asked of DuckDB once."""
    if not _KEYWORDS:
        with duckdb.connect(":memory:") as con:
            rows = con.execute(
                "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
            )
            _KEYWORDS.update(word for (word,) in rows.fetchall())
    return _KEYWORDS


def _shared() -> list[str]:
    axes = ", ".join(f"m.{quote(a)}" for a in AXES)
    told = "c.run_id, c.run_uuid, c.spec, c.params, c.experiment, c.report, c.unit"
    completed = ", ".join(f"'{s}'" for s in COMPLETED)
    return [
        "CREATE OR REPLACE VIEW completed AS SELECT p.report_id, r.run_id, r.run_uuid, r.spec_name AS spec, "
        "r.params, p.experiment, p.report, p.unit "
        f"FROM runs r JOIN reports p USING (run_id) WHERE r.status IN ({completed})",
        f"CREATE OR REPLACE VIEW results AS SELECT {told}, {axes}, m.value, m.n, m.se, m.extra "
        "FROM measurements m JOIN completed c USING (report_id)",
        "CREATE OR REPLACE VIEW latest_runs AS SELECT r.spec_name AS spec, p.experiment, "
        "max_by(r.run_id, row(r.finished_at, r.run_uuid)) AS run_id "
        f"FROM runs r JOIN reports p USING (run_id) WHERE r.status IN ({completed}) GROUP BY ALL",
        # One join of the rows, by number; all else is joined before, where it is small.
        f"CREATE OR REPLACE VIEW latest_results AS SELECT {told}, {axes}, m.value, m.n, m.se, m.extra "
        "FROM measurements m JOIN (SELECT c.* FROM completed c JOIN latest_runs "
        "USING (run_id, spec, experiment)) c USING (report_id)",
    ]


def _measurements(con: duckdb.DuckDBPyConnection) -> str:
    """The view that has a column for every axis, whichever of them the table has."""
    held = columns_of(con, MEASURED)
    picked = [
        quote(c) if c in held else f"NULL::{kind} AS {quote(c)}"
        for c, kind in PART_TABLES["measurements"].items()
    ]
    columns = ", ".join(["run_id", *picked, "report_id"])
    return f"CREATE OR REPLACE VIEW measurements AS SELECT {columns} FROM {MEASURED}"


def columns_of(con: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    """Return the names of a table's columns."""
    rows = con.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = ?", [table]).fetchall()
    return {name for (name,) in rows}


def make_views(con: duckdb.DuckDBPyConnection) -> None:
    """Drop all views and make those that the runs in the store call for.

    Call it inside a transaction; it also records that the views are current (see `forget_views`).
    """
    for (schema,) in con.execute(
        "SELECT schema_name FROM duckdb_schemas() WHERE NOT internal AND database_name = current_database()"
    ).fetchall():
        if schema != "main":
            con.execute(f"DROP SCHEMA {quote(schema)} CASCADE")
    for statement in (_measurements(con), *_shared()):
        con.execute(statement)
    reports = con.execute(
        "SELECT l.spec, p.experiment, p.report, p.keys, p.run_id, p.report_id "
        "FROM latest_runs l JOIN reports p USING (run_id, experiment) JOIN runs r USING (run_id) "
        "ORDER BY r.finished_at, r.run_uuid"  # so that the latest of all specs gets the short name
    ).fetchall()
    short: dict[str, int] = {}
    for _, experiment, _, _, run, _ in reports:
        short[experiment.casefold()] = run
    views = [
        (spec, x, r, _select(json.loads(keys), number), run) for spec, x, r, keys, run, number in reports
    ]
    tables: dict[tuple[str, str, str, int], list[tuple[str, str]]] = {}
    for spec, experiment, report, keys, run, _ in reports:
        table, is_column, _ = report.partition(".")
        if is_column:
            tables.setdefault((spec, experiment, table, run), []).append((report, keys))
    views += [(spec, x, t, _wide(x, columns, run), run) for (spec, x, t, run), columns in tables.items()]
    for spec, experiment, report, select, run in views:
        names = [f"{spec}/{experiment}"]
        if experiment.casefold() not in RESERVED and short[experiment.casefold()] == run:
            names.append(experiment)
        for schema in names:
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
            con.execute(f"CREATE OR REPLACE VIEW {quote(schema)}.{quote(report)} AS {select}")
    con.execute("INSERT INTO meta VALUES ('views', 'current')")


def forget_views(con: duckdb.DuckDBPyConnection) -> None:
    """Record that the views are out of date, in the transaction that makes them so."""
    con.execute("DELETE FROM meta WHERE key = 'views'")


def views_are_current(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the views are those that the runs in the store call for."""
    return con.execute("SELECT 1 FROM meta WHERE key = 'views'").fetchone() is not None


def _wide(experiment: str, columns: list[tuple[str, str]], run: int) -> str:
    """The columns of a table side by side: a row for each point, in the order in which points came in."""
    picked = [f"{key_in_sql(key, 'm')} AS {quote(key['name'])}" for key in json.loads(columns[0][1])]
    picked += [
        f"any_value(m.value) FILTER (m.report = {literal(report)}) AS {quote(report.partition('.')[2])}"
        for report, _ in columns
    ]
    reports = ", ".join(literal(report) for report, _ in columns)
    rows = (
        f"SELECT *, row_number() OVER () AS came FROM main.measurements WHERE run_id = {run} "
        f"AND experiment = {literal(experiment)} AND report IN ({reports})"
    )
    return f"SELECT {', '.join(picked)} FROM ({rows}) AS m GROUP BY ALL ORDER BY min(m.came)"


def _select(keys: list[dict[str, str]], number: int) -> str:
    picked = [f"{key_in_sql(key, 'm')} AS {quote(key['name'])}" for key in keys]
    picked += [f"m.{name}" for name in VALUE_COLUMNS]
    return f"SELECT {', '.join(picked)} FROM main.measurements AS m WHERE m.report_id = {number}"
