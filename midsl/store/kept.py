"""Finding and reading stages that earlier runs left in a store, by fingerprint.

A stage's fingerprint stands in its run's manifest beside the parts that it wrote. Any run's committed stage
will do, whatever became of the run afterwards: an interrupted run is resumed by taking what it had.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
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
    fingerprints: dict[str, str] = field(default_factory=dict)


def find(root: Path, wanted: Mapping[str, str]) -> dict[str, KeptStage]:
    """Return the newest stage with each fingerprint, by experiment; what cannot be read is not there."""
    found: dict[str, KeptStage] = {}
    open_ = {name: fingerprint for name, fingerprint in wanted.items()}
    for folder, manifest in _manifests(root):
        for stage in manifest["stages"]:
            names = [n for n, f in open_.items() if f == stage.get("fingerprint")]
            kept = _read(folder, stage) if names else None
            if kept is not None:
                found |= dict.fromkeys(names, kept)
                for name in names:
                    del open_[name]
        if not open_:
            break
    return found


def latest(root: Path, spec: str, names: Collection[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Return the run and the fingerprints of the newest stage of each experiment of a spec, by name."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for folder, manifest in _manifests(root) if names else ():
        if manifest["record"].get("spec_name") == spec:
            for stage in manifest["stages"]:
                if stage["name"] in names and stage.get("fingerprints"):
                    found.setdefault(stage["name"], (folder.name, stage["fingerprints"]))
        if len(found) == len(names):
            break
    return found


def _manifests(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The runs of a store that can be read, newest first; importing says what is wrong with others."""
    for path in sorted((root / "runs").glob(f"*/{MANIFEST}"), reverse=True):  # ids sort by age
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(manifest["stages"], list) and isinstance(manifest["record"], dict):
                yield path.parent, manifest
        except (OSError, ValueError, KeyError, TypeError):
            continue


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
    return KeptStage(folder.name, tables, checks, stage.get("fingerprints") or {})


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
