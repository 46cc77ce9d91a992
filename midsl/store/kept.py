"""Finding and reading stages that earlier runs left in a store, by fingerprint.

A stage's fingerprint stands in its run's manifest beside the parts that it wrote. Any run's committed stage
will do, whatever became of the run afterwards: an interrupted run is resumed by taking what it had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from midsl.store.parts import CONFIG
from midsl.store.rows import CheckRow, ResultTable
from midsl.store.schema import PART_TABLES, literal, quote
from midsl.store.tables import described, read_table
from midsl.store.writer import MANIFEST


@dataclass(frozen=True)
class KeptStage:
    """One experiment as a run left it."""

    run_uuid: str
    tables: list[ResultTable]
    checks: list[CheckRow]


def find(root: Path, wanted: Mapping[str, str]) -> dict[str, KeptStage]:
    """Return the newest stage with each fingerprint, by experiment; what cannot be read is not there."""
    found: dict[str, KeptStage] = {}
    open_ = {fingerprint: name for name, fingerprint in wanted.items()}
    for path in sorted((root / "runs").glob(f"*/{MANIFEST}"), reverse=True):  # ids sort by age
        try:
            stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # importing says what is wrong with it
        for stage in stages:
            name = open_.get(stage.get("fingerprint") or "")
            if name is None or name in found or name != stage["name"]:
                continue
            kept = _read(path.parent, stage)
            if kept is not None:
                found[name] = kept
        if len(found) == len(wanted):
            break
    return found


def _read(folder: Path, stage: dict[str, Any]) -> KeptStage | None:
    files = {p["table"]: folder / "parts" / p["file"] for p in stage["parts"]}
    if not all(f.is_file() for f in files.values()):
        return None
    with duckdb.connect(":memory:", config=CONFIG) as con:
        try:
            tables = []
            if "reports" in files:
                rows = _parquet(files["measurements"]) if "measurements" in files else _NO_ROWS
                tables = [read_table(con, rows, *row) for row in described(con, _parquet(files["reports"]))]
            checks = [CheckRow(*row) for row in _rows(con, files, "checks", _CHECK)]
        except duckdb.Error:
            return None
    return KeptStage(folder.name, tables, checks)


_NO_ROWS = (
    "(SELECT "
    + ", ".join(f"NULL::{of} AS {quote(c)}" for c, of in PART_TABLES["measurements"].items())
    + " WHERE false)"
)
_CHECK = ("experiment", "text", "message", "passed", "observed", "line")


def _rows(
    con: duckdb.DuckDBPyConnection, files: Mapping[str, Path], table: str, columns: tuple[str, ...]
) -> list[tuple[Any, ...]]:
    if table not in files:
        return []
    picked = ", ".join(map(quote, columns))
    return con.execute(f"SELECT {picked} FROM {_parquet(files[table])}").fetchall()


def _parquet(file: Path) -> str:
    return f"read_parquet({literal(str(file))})"
