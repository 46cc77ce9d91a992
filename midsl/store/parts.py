"""Python rows -> numpy arrays -> Parquet files.

DuckDB reads a dict of numpy arrays and writes Parquet by itself, so that neither pyarrow nor
pandas is needed; `executemany`, a thousand times slower, is used nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from midsl.store.lock import commit
from midsl.store.record import json_text
from midsl.store.rows import Key, ResultTable
from midsl.store.schema import AXES, PART_TABLES, literal, quote

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # DuckDB shares the process with torch, and must never reach for the network.
    "threads": min(4, os.cpu_count() or 1),
    "memory_limit": "4GB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}

_DTYPES: dict[str, type[np.generic]] = {"BIGINT": np.int64, "DOUBLE": np.float64, "BOOLEAN": np.bool_}


def array_of(values: Sequence[Any], sql_type: str) -> NDArray[Any]:
    """Return values as an array that DuckDB reads as `sql_type`, None as NULL: [rows]."""
    if sql_type not in _DTYPES:
        out = np.empty(len(values), dtype=object)
        out[:] = [None if v is None else str(v) for v in values]
        return out
    dtype = _DTYPES[sql_type]
    if None not in values:
        return np.asarray(values, dtype=dtype)
    mask = np.fromiter((v is None for v in values), bool, len(values))
    return np.ma.masked_array(np.asarray([0 if v is None else v for v in values], dtype=dtype), mask=mask)


def key_type(name: str, values: Sequence[Key]) -> str:
    """Return the SQL type of a key column: the narrowest that holds all its values as they are.

    >>> key_type("pos", [1, None]), key_type("dose", [0, 0.5]), key_type("pos", [1, "subject"])
    ('BIGINT', 'DOUBLE', 'VARCHAR')
    """
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return AXES.get(name, "VARCHAR")
    if all(issubclass(k, (bool, np.bool_)) for k in kinds):
        return "BOOLEAN"
    if any(issubclass(k, (str, bool, np.bool_)) for k in kinds):
        return "VARCHAR"
    return "DOUBLE" if any(issubclass(k, (float, np.floating)) for k in kinds) else "BIGINT"


def key_schema(table: ResultTable) -> list[dict[str, Any]]:
    """Return name, SQL type and place of each key; `own` if it has a column in `measurements`."""
    schema = []
    for name, values in table.keys.items():
        of = key_type(name, values)
        own = AXES.get(name) == of or (AXES.get(name) == "DOUBLE" and of == "BIGINT")
        schema.append({"name": name, "type": of, "own": own})
    return schema


class Parts:
    """The rows of one stage, by table, as selections from arrays; nothing is copied before they are written.

    A part has only the columns that its rows fill: those it lacks are NULL once it is imported.
    """

    def __init__(self) -> None:
        self._con = duckdb.connect(":memory:", config=CONFIG)
        self._frames = 0
        self._selects: dict[str, list[str]] = {}
        self._rows: dict[str, int] = {}

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._con.close()

    def add(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        """Add rows whose entries are in the order of the table's columns."""
        if not rows:
            return
        columns = PART_TABLES[table]
        frame = {
            name: array_of(values, of)
            for (name, of), values in zip(columns.items(), zip(*rows, strict=True), strict=True)
        }
        picked = [f"{quote(name)}::{of} AS {quote(name)}" for name, of in columns.items()]
        self._select(table, frame, picked, len(rows))

    def add_result(self, table: ResultTable) -> None:
        """Add one report: its rows to `measurements`, what describes it to `reports`."""
        schema = key_schema(table)
        described = (table.experiment, table.report, table.unit, json_text(schema), len(table), table.n_total)
        self.add("reports", [described])
        if not len(table):
            return
        frame: dict[str, NDArray[Any]] = {
            "value": np.ma.masked_array(table.value, mask=np.isnan(table.value)),
            "n": np.asarray(table.n, dtype=np.int64),
            "se": np.ma.masked_array(table.se, mask=np.isnan(table.se)),
        }
        picked = [f"{literal(table.experiment)} AS experiment", f"{literal(table.report)} AS report"]
        extra = []
        for i, (key, values) in enumerate(zip(schema, table.keys.values(), strict=True)):
            frame[f"k{i}"] = array_of(values, key["type"])
            if key["own"]:
                picked.append(f"k{i}::{AXES[key['name']]} AS {quote(key['name'])}")
            else:
                extra.append(f"{quote(key['name'])} := k{i}")
        picked += ["value", "n", "se"]
        if extra:
            picked.append(f"struct_pack({', '.join(extra)})::VARIANT AS extra")
        self._select("measurements", frame, picked, len(table))

    def write(self, folder: Path, prefix: str, metadata: dict[str, str]) -> list[dict[str, Any]]:
        """Write each table that has rows to ``folder/prefix-table.parquet``; returns table, file, rows.

        `metadata` goes into the files' key-value metadata, so that a stray part says whose it is.
        """
        written = []
        about = ", ".join(f"{quote(k)}: {literal(v)}" for k, v in metadata.items())
        for table, selects in self._selects.items():
            final = folder / f"{prefix}-{table}.parquet"
            tmp = final.with_name(f".{final.name}.{os.getpid()}.tmp")
            self._con.execute(
                f"COPY ({' UNION ALL BY NAME '.join(selects)}) TO {literal(str(tmp))} "
                f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{about}}})"
            )
            commit(tmp, final)
            written.append({"table": table, "file": final.name, "rows": self._rows[table]})
        return written

    def _select(self, table: str, frame: dict[str, NDArray[Any]], picked: list[str], rows: int) -> None:
        self._frames += 1
        self._con.register(f"frame{self._frames}", frame)
        self._selects.setdefault(table, []).append(f"SELECT {', '.join(picked)} FROM frame{self._frames}")
        self._rows[table] = self._rows.get(table, 0) + rows
