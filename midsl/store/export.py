"""Results as files for other tools: Parquet and CSV by DuckDB itself, Arrow files by pyarrow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

import duckdb

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.store.db import Store
from midsl.store.lock import commit
from midsl.store.runs import find_run
from midsl.store.schema import key_in_sql, literal, of_report, quote

Format = Literal["parquet", "csv", "arrow"]
_COPY = {"parquet": "FORMAT parquet, COMPRESSION zstd", "csv": "FORMAT csv, HEADER"}


def export_reports(
    store: Store, form: Format, folder: Path, run: str = "latest", reports: tuple[str, ...] = ()
) -> list[Path]:
    """Write reports of a run, each to ``folder/experiment.report.form``; return the files.

    Raises:
        MI0807: no such run, or the run has no such report. MI0808: pyarrow is missing.
    """
    with store.reading() as (con, _):
        found = find_run(con, run)
        titles = {f"{r['experiment']}.{r['report']}": r for r in found.rows("reports")}
        for title in reports:
            if title not in titles:
                has = ", ".join(titles) or "none"
                near = did_you_mean(title, titles)
                raise fail(
                    "MI0807", f"{found.name} has no report `{title}`", help=near or f"its reports: {has}"
                )
        selects = {
            title: _select(found.run_id, row) for title, row in titles.items() if title in (reports or titles)
        }
    return [
        export_query(store, form, select, folder / f"{title.replace('/', '_')}.{form}")
        for title, select in selects.items()
    ]


def export_query(store: Store, form: Format, sql: str, path: Path) -> Path:
    """Write the answer to an SQL question to a file, whole or not at all; nothing else can be reached.

    Raises:
        MI0802: DuckDB refuses the statement. MI0808: pyarrow is missing.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if form == "arrow":
            _write_arrow(store, sql, tmp)
        else:
            with store.reading(write_to=tmp) as (con, _):
                con.execute(f"COPY ({_one_select(con, sql)}) TO {literal(str(tmp))} ({_COPY[form]})")
        commit(tmp, path)
    except duckdb.Error as error:
        raise fail("MI0802", str(error)) from error
    finally:
        tmp.unlink(missing_ok=True)
    return path


def _select(run_id: int, report: dict[str, str]) -> str:
    keys = [f"{key_in_sql(k)} AS {quote(k['name'])}" for k in json.loads(report["keys"])]
    return (
        f"SELECT {', '.join([*keys, 'value', 'n', 'se'])} FROM measurements WHERE run_id = {run_id} "
        f"AND {of_report(report['experiment'], report['report'])}"
    )


def _one_select(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The statement, if it is one and only asks."""
    statements = con.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise fail("MI0802", "only the answer to one SELECT can be exported")
    return statements[0].query.strip().rstrip(";")


def _write_arrow(store: Store, sql: str, tmp: Path) -> None:
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        raise fail(
            "MI0808", "Arrow files need pyarrow", help='pip install "midsl[export]", or export parquet'
        ) from None
    with store.reading() as (con, _):
        batches = con.cursor().sql(_one_select(con, sql)).to_arrow_reader(100_000)
        with pa.OSFile(str(tmp), "wb") as sink, pa.ipc.new_file(sink, batches.schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
