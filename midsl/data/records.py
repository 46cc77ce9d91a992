"""Tables from files: CSV with a header, JSON lines, Parquet. Each row is a dictionary by column name."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from midsl.data.build import need
from midsl.data.failures import read_text
from midsl.diagnostics.model import fail
from midsl.reach import may_read
from midsl.unpack import RATIO, SMALL

Record = dict[str, Any]


class Table(str):
    """A table in memory, in the place of the path of one: its text tells it from a table of other rows."""

    rows: list[Record]

    def __new__(cls, name: str, rows: list[Record]) -> Table:
        made = super().__new__(cls, name)
        made.rows = rows
        return made


def read_records(path: str, n: int = 0) -> list[Record]:
    """Return the rows of a ``.csv`` (with a header), ``.jsonl`` or ``.parquet`` file, or the first `n`.

    Raises:
        MiError: MI0504 if it cannot be read, MI0511 if it is none of these by its name, a line is damaged
            or there is no row.
    """
    need(n >= 0, f"n is {n}", "n is 0 for all rows, or how many to take")
    if isinstance(path, Table):
        need(bool(path.rows), f"{path} has no rows")
        return path.rows[:n] if n else path.rows
    file = Path(path)
    kinds = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    need(file.suffix in kinds, f"{path} is neither .csv nor .jsonl nor .parquet", "convert it to one of them")
    found = kinds[file.suffix](file)
    need(bool(found), f"{path} has no rows")
    return found[:n] if n else found


def pick(records: list[Record], columns: dict[str, str], path: str) -> list[dict[str, str]]:
    """Return each row's cells as text, by what they are for: `columns` says which column holds what.

    Raises:
        MiError: MI0511 if a row lacks a column.
    """
    for key, column in columns.items():
        lacking = next((i for i, r in enumerate(records) if r.get(column) is None), None)
        if lacking is not None:
            known = ", ".join(records[lacking])
            need(False, f"row {lacking} of {path} has no column `{column}` for `{key}`", f"it has: {known}")
    return [{key: str(r[column]) for key, column in columns.items()} for r in records]


def _csv(path: Path) -> list[Record]:
    reader = csv.DictReader(io.StringIO(read_text(path)))
    return [{k: v for k, v in row.items() if k is not None and v is not None} for row in reader]


def _jsonl(path: Path) -> list[Record]:
    out = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            need(isinstance(record, dict), f"line {number} of {path} is not a JSON object")
            out.append(record)
    return out


def _parquet(path: Path) -> list[Record]:
    import duckdb

    if not may_read(path).is_file():
        raise fail("MI0504", f"cannot read {path}: there is no such file", help="check the path")
    try:
        with duckdb.connect() as db:
            shape = (
                "SELECT num_rows * (SELECT count(*) FROM parquet_schema($1)) FROM parquet_file_metadata($1)"
            )
            cells = (db.execute(shape, [str(path)]).fetchone() or (0,))[0]
            need(
                cells * 8 <= max(SMALL, RATIO * path.stat().st_size),
                f"{path} unpacks to {cells:,} cells, far more than its size",
                "take what is needed of it into a file of its own",
            )
            done = db.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [d[0] for d in done.description or []]
            rows = done.fetchall()
    except duckdb.Error as error:
        raise fail(
            "MI0504",
            f"cannot read {path}: {str(error).splitlines()[0]}",
            help="paths are relative to the folder of the spec; .csv, .jsonl and .parquet can be read",
        ) from error
    return [{k: v for k, v in zip(names, row, strict=True) if v is not None} for row in rows]
