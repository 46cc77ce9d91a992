"""Reports back from where they are stored: from a run's parts, or from the database."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from midsl.store.rows import ResultTable
from midsl.store.schema import key_in_sql, of_report, quote

REPORT = ("experiment", "report", "unit", "keys", "n_total")
"""What describes a report, in the order in which `read_table` takes it."""


def read_table(
    con: duckdb.DuckDBPyConnection,
    source: str,
    experiment: str,
    report: str,
    unit: str | None,
    keys: str,
    n_total: int | None,
) -> ResultTable:
    """Return a report's rows in the order in which they were written; `source` is what SQL selects from."""
    schema = json.loads(keys)
    picked = [f"{key_in_sql(key)} AS k{i}" for i, key in enumerate(schema)]
    found = con.execute(
        f"SELECT {', '.join([*picked, 'value', 'n', 'se'])} FROM {source} "
        f"WHERE {of_report(experiment, report)}"
    ).fetchnumpy()
    return ResultTable(
        experiment,
        report,
        {key["name"]: found[f"k{i}"].tolist() for i, key in enumerate(schema)},
        _floats(found["value"]),
        np.asarray(found["n"], dtype=np.int64),
        _floats(found["se"]),
        unit or "",
        n_total,
    )


def described(con: duckdb.DuckDBPyConnection, source: str) -> list[tuple[Any, ...]]:
    """Return what describes each report of a source, as `read_table` takes it."""
    return con.execute(f"SELECT {', '.join(map(quote, REPORT))} FROM {source}").fetchall()


def _floats(column: NDArray[Any]) -> NDArray[np.float64]:
    return np.ma.filled(column.astype(np.float64), np.nan)
