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
import numpy as np

from midsl.store.parts import CONFIG
from midsl.store.rows import CheckRow, ResultTable
from midsl.store.schema import key_in_sql, literal, quote
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
            tables = [_table(con, files, *row) for row in _rows(con, files, "reports", _REPORT)]
            checks = [CheckRow(*row) for row in _rows(con, files, "checks", _CHECK)]
        except duckdb.Error:
            return None
    return KeptStage(folder.name, tables, checks)


_REPORT = ("experiment", "report", "unit", "keys", "n_total")
_CHECK = ("experiment", "text", "message", "passed", "observed", "line")


def _rows(
    con: duckdb.DuckDBPyConnection, files: Mapping[str, Path], table: str, columns: tuple[str, ...]
) -> list[tuple[Any, ...]]:
    if table not in files:
        return []
    picked = ", ".join(map(quote, columns))
    return con.execute(f"SELECT {picked} FROM read_parquet({literal(str(files[table]))})").fetchall()


def _table(
    con: duckdb.DuckDBPyConnection,
    files: Mapping[str, Path],
    experiment: str,
    report: str,
    unit: str,
    keys: str,
    n_total: int | None,
) -> ResultTable:
    """A report's rows, in the order in which they were written."""
    schema = json.loads(keys)
    picked = map(key_in_sql, schema)
    rows = []
    if "measurements" in files:
        rows = con.execute(
            f"SELECT {', '.join([*picked, 'value', 'n', 'se'])} "
            f"FROM read_parquet({literal(str(files['measurements']))}) "
            f"WHERE experiment = {literal(experiment)} AND report = {literal(report)}"
        ).fetchall()
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * (len(schema) + 3)
    value, n, se = columns[-3:]
    return ResultTable(
        experiment,
        report,
        {key["name"]: list(column) for key, column in zip(schema, columns[:-3], strict=True)},
        np.array([np.nan if v is None else v for v in value], dtype=np.float64),
        np.array(n, dtype=np.int64),
        np.array([np.nan if v is None else v for v in se], dtype=np.float64),
        unit or "",
        n_total,
    )
