"""Two runs side by side: what was asked, what with, and what came out.

Reports are joined on their keys inside the database, so that runs of millions of rows can be compared.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from midsl.store.runs import StoredRun, dicts
from midsl.store.schema import key_in_sql, of_report

LEAVES = ("packages", "threads", "imports")
"""Entries of an environment that are told one by one, or that say nothing of results."""


@dataclass(frozen=True)
class Change:
    """Something that was one thing in one run and another in the other; None where it was not there."""

    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class TableChange:
    """A report in both runs.

    Attributes:
        both, only_a, only_b: rows by their keys. differ: rows of both whose values are not equal.
        largest: the greatest difference by size; None where no row differs by a number.
        rows: keys and values of the rows that differ most, as `columns` names them.
        apart: why rows cannot be told to be of one point; nothing is joined then.
    """

    title: str
    both: int = 0
    only_a: int = 0
    only_b: int = 0
    differ: int = 0
    largest: float | None = None
    columns: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    apart: str = ""

    @property
    def same(self) -> bool:
        return not (self.apart or self.only_a or self.only_b or self.differ)


@dataclass(frozen=True)
class Comparison:
    """What differs between runs `a` and `b`; `spec` holds the changed lines of the text, as a diff."""

    a: str
    b: str
    spec: list[str]
    changes: list[Change]
    checks: list[Change]
    tables: list[TableChange]
    only_a: list[str]
    only_b: list[str]

    @property
    def same_results(self) -> bool:
        """Whether all reports and verdicts are the same."""
        missing = self.only_a or self.only_b or self.checks
        return not missing and all(t.same for t in self.tables)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"same_results": self.same_results}


def compare(a: StoredRun, b: StoredRun, top: int = 5) -> Comparison:
    """Compare two runs of one store; `top` rows of each report are told."""
    reports = [{(r["experiment"], r["report"]): r for r in x.rows("reports")} for x in (a, b)]
    shared = [k for k in reports[0] if k in reports[1]]
    return Comparison(
        a.name,
        b.name,
        _lines(a.source, b.source),
        _changes(_about(a), _about(b)),
        _changes(_verdicts(a), _verdicts(b)),
        [_table(a, b, reports[0][k], reports[1][k], top) for k in shared],
        [".".join(k) for k in reports[0] if k not in reports[1]],
        [".".join(k) for k in reports[1] if k not in reports[0]],
    )


def _lines(a: str, b: str) -> list[str]:
    """The lines that were taken out and put in, each part under its ``@@`` line."""
    return list(difflib.unified_diff(a.splitlines(), b.splitlines(), lineterm="", n=0))[2:]


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    names = dict.fromkeys([*a, *b])
    return [Change(n, a.get(n), b.get(n)) for n in names if a.get(n) != b.get(n)]


def _about(run: StoredRun) -> dict[str, Any]:
    """Everything but text and results that decides a run, flat."""
    told: dict[str, Any] = {f"param {k}": v for k, v in run.params.items()}
    told |= {k: run.row[k] for k in ("status", "seed", "numerics")}
    for m in run.rows("models"):
        told |= {
            f"model {m['name']}: {k}": m[k]
            for k in ("ref", "arch", "weights_sha256", "tokenizer_fingerprint")
        }
        told[f"model {m['name']}: arguments"] = json.loads(m["args"])
    for d in run.rows("datasets"):
        told |= {f"data {d['name']}: {k}": d[k] for k in ("ref", "fingerprint", "rows", "rows_total")}
        told[f"data {d['name']}: arguments"] = json.loads(d["args"])
    env = run.environment
    told |= {f"environment: {k}": v for k, v in env.items() if k not in LEAVES}
    told |= {
        f"import {k}": hashlib.sha256(v.encode()).hexdigest()[:12] for k, v in env.get("imports", {}).items()
    }
    return told | {f"package {k}": v for k, v in env.get("packages", {}).items()}


def _verdicts(run: StoredRun) -> dict[str, str]:
    """How each expect came out; those of one text are numbered."""
    told: dict[str, str] = {}
    for c in run.checks:
        name = f"{c.experiment}: expect {c.text}"
        name += f" ({sum(k.startswith(name) for k in told) + 1})" if name in told else ""
        told[name] = "holds" if c.passed else f"fails ({c.observed})" if c.observed else "fails"
    return told


def _table(a: StoredRun, b: StoredRun, in_a: dict[str, Any], in_b: dict[str, Any], top: int) -> TableChange:
    title = f"{in_a['experiment']}.{in_a['report']}"
    keys, others = ({k["name"]: k for k in json.loads(r["keys"])} for r in (in_a, in_b))
    if set(keys) != set(others):
        words = " but by ".join(", ".join(k) or "nothing" for k in (keys, others))
        return TableChange(title, apart=f"its rows are by {words}")
    types = [_type(keys[n]["type"], others[n]["type"]) for n in keys]

    def rows(run: StoredRun, of: Mapping[str, Any], schema: Mapping[str, dict[str, Any]]) -> str:
        picked = [
            f"({key_in_sql(schema[n])})::{t} AS k{i}"
            for i, (n, t) in enumerate(zip(keys, types, strict=True))
        ]
        return (
            f"(SELECT {', '.join([*picked, 'value', 'true AS here'])} FROM measurements "
            f"WHERE run_id = {run.run_id} AND {of_report(of['experiment'], of['report'])})"
        )

    on = " AND ".join(f"a.k{i} IS NOT DISTINCT FROM b.k{i}" for i in range(len(keys))) or "true"
    joined = f"{rows(a, in_a, keys)} a FULL JOIN {rows(b, in_b, others)} b ON {on}"
    differ = "a.here AND b.here AND a.value IS DISTINCT FROM b.value"
    size = "abs(b.value - a.value)"
    counts = dicts(
        a.con,
        "SELECT count(*) FILTER (a.here AND b.here) AS both, count(*) FILTER (b.here IS NULL) AS only_a, "
        f"count(*) FILTER (a.here IS NULL) AS only_b, count(*) FILTER ({differ}) AS differ, "
        f"max({size}) FILTER ({differ}) AS largest FROM {joined}",
    )[0]
    told = []
    if counts["differ"]:
        picked = ", ".join(
            [*(f"a.k{i}" for i in range(len(keys))), "a.value", "b.value", "b.value - a.value"]
        )
        told = a.con.execute(
            f"SELECT {picked} FROM {joined} WHERE {differ} ORDER BY {size} DESC NULLS FIRST LIMIT {top}"
        ).fetchall()
    return TableChange(title, **counts, columns=[*keys, "a", "b", "b - a"], rows=[list(r) for r in told])


def _type(a: str, b: str) -> str:
    """What holds keys of both types as they are."""
    if a == b:
        return a
    return "VARCHAR" if "VARCHAR" in (a, b) or "BOOLEAN" in (a, b) else "DOUBLE"
