"""One run of a store, found by what people call it, with all that was recorded of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from midsl.diagnostics.model import MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.store.rows import CheckRow, ResultTable, Viewed
from midsl.store.schema import quote
from midsl.store.tables import described, read_table

VERIFYING = ("verified", "differs")
"""The status of runs that `midsl verify` made: they have checks and no results."""
_RUN = "SELECT r.* EXCLUDE (run_uuid, manifest_sha256), r.run_uuid::VARCHAR AS run_uuid FROM runs r"


@dataclass(frozen=True)
class StoredRun:
    """A run in an open database.

    Attributes:
        row: its row in `runs`, as a dict.
    """

    con: duckdb.DuckDBPyConnection
    row: dict[str, Any]

    @property
    def run_id(self) -> int:
        return int(self.row["run_id"])

    @property
    def name(self) -> str:
        """What it is called in a title: spec, number and the end of its id."""
        return f"{self.row['spec_name']} #{self.run_id} ({self.row['run_uuid'][-8:]})"

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Its rows in one of the run tables."""
        return dicts(
            self.con, f"SELECT * EXCLUDE (run_id) FROM {quote(table)} WHERE run_id = $run", self.run_id
        )

    def one(self, table: str) -> dict[str, Any]:
        """Its row in a table that has one for each run."""
        return self.rows(table)[0]

    @cached_property
    def source(self) -> str:
        """The text of its spec."""
        found = self.con.execute(
            "SELECT source FROM specs WHERE spec_hash = ? AND name = ?",
            [self.row["spec_hash"], self.row["spec_name"]],
        ).fetchone()
        return str(found[0]) if found else ""

    @cached_property
    def environment(self) -> dict[str, Any]:
        return dict(json.loads(self.one("environments")["details"]))

    @cached_property
    def params(self) -> dict[str, Any]:
        return dict(json.loads(self.row["params"]))

    @cached_property
    def tables(self) -> list[ResultTable]:
        """Its reports, in the order in which they were written."""
        of_run = f"WHERE run_id = {self.run_id}"
        measured = f"(FROM measurements {of_run})"
        return [read_table(self.con, measured, *r) for r in described(self.con, f"(FROM reports {of_run})")]

    @cached_property
    def checks(self) -> list[CheckRow]:
        """Its expects and how they came out."""
        return [CheckRow(**row) for row in self.rows("checks")]

    @cached_property
    def views(self) -> list[Viewed]:
        """What its `view`s showed."""
        return [Viewed.of(row["text"]) for row in self.rows("artifacts") if row["kind"] == "view"]

    @cached_property
    def verified(self) -> StoredRun | None:
        """The latest run of `midsl verify` on the same text, parameters, weights and rows."""
        others = dicts(
            self.con,
            f"{_RUN} JOIN runs mine ON mine.run_id = $run WHERE r.status IN {VERIFYING} "
            "AND r.spec_hash = mine.spec_hash AND r.params::VARCHAR = mine.params::VARCHAR "
            "ORDER BY r.started_at DESC, r.run_uuid DESC",
            self.run_id,
        )
        return next((r for row in others if (r := StoredRun(self.con, row))._made_of == self._made_of), None)

    @property
    def _made_of(self) -> tuple[object, ...]:
        models = [(m["name"], m["weights_sha256"]) for m in self.rows("models")]
        data = [(d["name"], d["fingerprint"]) for d in self.rows("datasets")]
        return sorted(models), sorted(data), self.environment.get("imports")

    @cached_property
    def plots(self) -> list[tuple[str, ResultTable, dict[str, str], dict[str, Any]]]:
        """Its plots: kind, report, channels, and the Vega-Lite specification."""
        by_title = {t.title: t for t in self.tables}
        found = []
        for row in self.rows("artifacts"):
            if row["kind"] != "plot":
                continue
            spec = json.loads(row["text"])
            experiment, kind, report = row["name"].split(".", 2)
            about = spec.get("usermeta", {}).get("midsl", {})  # runs of 0.1.0 had none
            found.append((kind, by_title[f"{experiment}.{report}"], dict(about.get("channels", {})), spec))
        return found

    @cached_property
    def reused(self) -> dict[str, str]:
        """Experiments whose rows another run had: experiment -> that run's id."""
        return {c["name"]: c["reused_from"] for c in self.rows("cells") if c["kind"] == "reuse"}


def dicts(con: duckdb.DuckDBPyConnection, sql: str, run: int | None = None) -> list[dict[str, Any]]:
    """Answer with rows as dicts."""
    con.execute(sql, {"run": run} if run is not None else None)
    columns = [d[0] for d in con.description or []]
    return [dict(zip(columns, row, strict=True)) for row in con.fetchall()]


def find_run(con: duckdb.DuckDBPyConnection, name: str) -> StoredRun:
    """Return the run that a name means.

    Args:
        name: its number, the first or last letters (four or more) of its id, the name or the file of its
            spec, or ``latest``; ``~2`` behind a spec or ``latest`` goes back by two runs.

    Raises:
        MI0807: no run or several are called so.
    """
    runs = dicts(con, f"{_RUN} ORDER BY started_at, run_uuid")
    with_results = [r for r in runs if r["status"] not in VERIFYING]
    if not runs:
        raise fail("MI0807", "the store has no runs", help="`midsl run SPEC` makes one")
    word, _, back = name.partition("~")
    if back and not back.isdigit():
        raise _unknown(name, runs)
    stem = Path(word).stem if word.endswith(".mi") else word
    of_spec = [r for r in with_results if word in ("", "latest") or r["spec_name"] == stem]
    if of_spec:
        if int(back or 0) >= len(of_spec):
            raise fail("MI0807", f"there is no run `{name}`", help=f"there are {len(of_spec)} runs of it")
        return StoredRun(con, of_spec[-1 - int(back or 0)])
    if back:
        raise _unknown(name, runs)
    exact = [r for r in runs if word == str(r["run_id"])]
    ends = [
        r for r in runs if len(word) >= 4 and (r["run_uuid"].startswith(word) or r["run_uuid"].endswith(word))
    ]
    found = exact or ends
    if len(found) > 1:
        ids = ", ".join(r["run_uuid"] for r in found[:4])
        raise fail("MI0807", f"{len(found)} runs are called `{name}`", help=f"give more of the id: {ids}")
    if not found:
        raise _unknown(name, runs)
    return StoredRun(con, found[0])


def _unknown(name: str, runs: list[dict[str, Any]]) -> MiError:
    specs = sorted({r["spec_name"] for r in runs})
    near = did_you_mean(name, specs)
    return fail("MI0807", f"there is no run `{name}`", help=near or f"specs with runs: {', '.join(specs)}")
