"""The whole record of a run, the importer, questions, and stores in a bad state."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pytest

from midsl.diagnostics.model import Bag, Diagnostic, MiError
from midsl.source import SourceFile, Span
from midsl.store.db import Store
from midsl.store.record import DatasetRecord, ModelRecord, PlanRecord, environment, uuid7
from midsl.store.rows import Artifact, CellRow, CheckRow
from midsl.store.schema import SCHEMA_VERSION
from tests.store.samples import Ran, record, table


def code(error: pytest.ExceptionInfo[MiError]) -> str:
    return error.value.diagnostics[0].code


def test_everything_of_a_run_is_in_its_tables(store: Store, tmp_path: Path) -> None:
    tensors = tmp_path / "basis.safetensors"
    tensors.write_bytes(b"12345")
    writer = store.begin(
        record(
            params={"k": 3, "name": "it's"},
            argv=["midsl", "run", "a b.mi"],
            models=[
                ModelRecord(name="m", ref="std.models:toy", args={"seed": 1}, arch="toy", weights_sha256="ab")
            ],
            datasets=[
                DatasetRecord(
                    name="d",
                    ref="std.tasks:ioi",
                    rows=2,
                    rows_total=3,
                    provenance="synthetic",
                    ineligible=[{"row": 1, "reason": "two tokens"}],  # type: ignore[list-item]
                )
            ],
            environment=environment(),
            plan=PlanRecord(
                ir="ir", passes=["cse"], naive={"forwards": 9}, optimised={"forwards": 3}, explain="e"
            ),
            seed=4,
        )
    )
    source = SourceFile("a.mi", "x\nyy")
    writer.stage(
        "s",
        [table(unit="logit", n_total=9)],
        [CheckRow("patching", "gap > 0", "why", False, "gap = -1", 12)],
        [CellRow("key", "lane", "Lane", "done", None, 1.5, 1.0, 3, 4.5, 10**15, 6, 7)],
        [Artifact("plot", "effect", text="{}"), Artifact("tensor", "my basis", path=tensors)],
        [
            Diagnostic("MI0512", "some rows", Span(source, 3, 4), severity="warning"),
            Diagnostic("MI0604", "no"),
        ],
    )
    writer.finish("failed_checks", 3, "an expect")
    store.import_runs()

    def one(sql: str) -> tuple[object, ...]:
        (row,) = store.query(sql).rows
        return tuple(row)

    assert one("SELECT status, exit_code, error, argv, params->>'name', seed FROM runs") == (
        "failed_checks",
        3,
        "an expect",
        ["midsl", "run", "a b.mi"],
        "it's",
        4,
    )
    assert one("SELECT name, source FROM specs") == ("quickstart", "edition 2026\n")
    assert one("SELECT name, args->>'seed', arch, weights_sha256 FROM models") == ("m", "1", "toy", "ab")
    assert one("SELECT rows, rows_total, ineligible->>'$[0].reason' FROM datasets") == (2, 3, "two tokens")
    assert one("SELECT ir, naive->'forwards', optimised->>'forwards', explain FROM plans") == (
        "ir",
        "9",
        "3",
        "e",
    )
    assert one("SELECT unit, rows, n_total FROM reports") == ("logit", 4, 9)
    assert one("SELECT text, message, passed, observed, line FROM checks") == (
        "gap > 0",
        "why",
        False,
        "gap = -1",
        12,
    )
    assert one("SELECT stage, kind, reused_from, seconds, flops FROM cells") == (
        "s",
        "Lane",
        None,
        1.5,
        10**15,
    )
    assert store.query("SELECT code, file, line, col, severity FROM diagnostics ORDER BY code").rows == [
        ("MI0512", "a.mi", 2, 2, "warning"),
        ("MI0604", None, None, None, "error"),
    ]
    plot, tensor = store.query("SELECT kind, path, text, bytes FROM artifacts ORDER BY kind").rows
    assert plot == ("plot", None, "{}", 2)
    assert (store.root / tensor[1]).read_bytes() == b"12345"
    python = one("SELECT python, torch, details->'packages'->>'numpy' FROM environments")
    assert python == (sys.version.split()[0], environment()["torch"], np.__version__)
    (run,) = store.runs()
    assert (run["spec_name"], run["checks"], run["checks_failed"]) == ("quickstart", 1, 1)
    assert run["reports"] == ["patching.effect"] and run["seconds"] >= 0


def test_importing_is_idempotent_and_follows_the_folders(store: Store, ran: Ran) -> None:
    first, second = ran(table("a")), ran(table("b"))
    assert store.import_runs() == 2
    assert store.import_runs() == 0
    shutil.rmtree(store.root / "runs" / first)
    assert store.import_runs() == 0
    assert [r["run_uuid"] for r in store.runs()] == [second]
    assert {row[0] for row in store.query("SELECT experiment FROM measurements").rows} == {"b"}
    with pytest.raises(MiError):
        store.query("FROM a.effect")


def test_rebuild_makes_the_same_again(store: Store, ran: Ran) -> None:
    for spec in ("one", "two"):
        ran(spec=spec)
    before = store.query("FROM results").rows
    assert store.rebuild() == 2
    assert store.query("FROM results").rows == before


def test_a_query_takes_in_what_was_not_imported(store: Store, ran: Ran) -> None:
    ran(table("a"))
    assert len(store.query("FROM a.effect").rows) == 4
    ran(table("b"))
    assert len(store.query("FROM b.effect").rows) == 4


def test_a_live_run_is_running_and_its_rows_are_not_in_the_views(store: Store) -> None:
    writer = store.begin(record())
    writer.stage("one", [table("a")])
    assert [r["status"] for r in store.runs()] == ["running"]
    assert store.query("SELECT count(*) FROM measurements").rows == [(4,)]
    assert store.query("FROM results").rows == []
    writer.stage("two", [table("b")])
    writer.finish("done", 0)
    assert [r["status"] for r in store.runs()] == ["done"]
    assert store.query("SELECT count(*) FROM results").rows == [(8,)]
    with pytest.raises(MiError):
        writer.stage("three", [table("c")])


def test_a_stage_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    writer = store.begin(record())
    with pytest.raises(FileNotFoundError):
        writer.stage("x", [table("a")], artifacts=[Artifact("tensor", "t", path=tmp_path / "absent")])
    writer.stage("x", [table("a")])
    writer.finish("done", 0)
    assert store.query("SELECT count(*) FROM measurements").rows == [(4,)]


def test_a_run_cannot_begin_twice(store: Store) -> None:
    store.begin(record(run_uuid="one"))
    with pytest.raises(MiError):
        store.begin(record(run_uuid="one"))


# ---------------------------------------------------------------- questions


def test_duckdbs_own_words_reach_the_user(store: Store, ran: Ran) -> None:
    ran()
    with pytest.raises(MiError) as error:
        store.query("SELECT valeu FROM patching.effect")
    assert code(error) == "MI0802"
    assert 'Candidate bindings: "value"' in error.value.diagnostics[0].message
    assert "^" in error.value.diagnostics[0].message


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT content FROM read_text('pyproject.toml')",
        "COPY runs TO 'leak.csv'",
        "ATTACH 'other.duckdb'",
        "DELETE FROM runs",
        "DROP VIEW results",
        "INSERT INTO meta VALUES ('a', 'b')",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM a_python_variable",
    ],
)
def test_sql_reaches_nothing_but_the_results_and_changes_nothing(store: Store, ran: Ran, sql: str) -> None:
    a_python_variable = {"x": np.arange(3)}
    assert a_python_variable
    ran()
    before = store.query("FROM runs").rows
    with pytest.raises(MiError) as error:
        store.query(sql)
    assert code(error) == "MI0802"
    assert store.query("FROM runs").rows == before


def test_no_store(store: Store) -> None:
    for ask in (lambda: store.query("SELECT 1"), store.import_runs, store.runs, store.rebuild):
        with pytest.raises(MiError) as error:
            ask()
        assert code(error) == "MI0803"
    assert not store.root.exists()


def test_a_time_with_a_zone_is_refused_with_what_to_do(store: Store, ran: Ran) -> None:
    ran()
    with pytest.raises(MiError) as error:
        store.query("SELECT now() AS t")
    assert code(error) == "MI0802" and "`t`" in str(error.value)
    assert len(store.query("SELECT now()::TIMESTAMP AS t, started_at FROM runs").rows) == 1


def test_a_statement_without_rows(store: Store, ran: Ran) -> None:
    ran()
    assert store.query("SELECT 1; SELECT 2 AS b").rows == [(2,)]
    assert store.query("").rows == []


# ---------------------------------------------------------------- stores in a bad state


def set_version(store: Store, version: int) -> None:
    with duckdb.connect(store.path) as con:
        con.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(version)])


def test_a_newer_store_is_refused(store: Store, ran: Ran) -> None:
    ran()
    store.import_runs()
    set_version(store, 99)
    for ask in (lambda: store.query("SELECT 1"), store.import_runs):
        with pytest.raises(MiError) as error:
            ask()
        assert code(error) == "MI0806" and "version 99" in str(error.value)


def test_a_store_as_schema_1_left_it_migrates(store: Store, ran: Ran) -> None:
    """The folders of format 1 are kept as they were written then; the database is made again from them."""
    here = Path(__file__).parent
    shutil.copytree(here / "format1", store.root / "runs")
    with duckdb.connect(store.path) as con:
        con.execute((here / "schema1.sql").read_text())
    assert [r["status"] for r in store.runs()] == ["done"]
    assert store.query("FROM e.effect ORDER BY ALL").rows == [
        (layer, head, 2.0 * layer + head, 7, None) for layer in (0, 1) for head in (0, 1)
    ]
    assert store.query("FROM e.dosed").rows == [(0, 0.5, 0.0, 7, None), (1, None, 1.0, 7, None)]
    assert store.query("SELECT passed, observed FROM checks").rows == [(True, "2 and 1")]
    assert store.query("SELECT value FROM meta WHERE key = 'schema_version'").rows == [(str(SCHEMA_VERSION),)]
    ran(table("new", keys={"dose": [0.5], "src_pos": [3]}, value=[1.0]))  # axes that no run had so far
    assert store.query(
        "SELECT dose, src_pos, layer, value FROM measurements WHERE experiment = 'new'"
    ).rows == [(0.5, 3, None, 1.0)]
    assert len(store.query("FROM measurements").rows) == 7


def test_an_older_store_is_made_again(store: Store, ran: Ran) -> None:
    ran()
    store.import_runs()
    with duckdb.connect(store.path) as con:
        con.execute("DROP TABLE cells")
    set_version(store, 0)
    assert len(store.query("FROM patching.effect").rows) == 4
    assert store.query("FROM cells").rows == []


@pytest.mark.parametrize("content", ["garbage", "another database"])
def test_a_database_of_somebody_else_is_left_alone(store: Store, ran: Ran, content: str) -> None:
    ran()
    if content == "garbage":
        store.path.write_bytes(b"not a database" * 1000)
    else:
        with duckdb.connect(store.path) as con:
            con.execute("CREATE TABLE t (a INTEGER)")
    before = store.path.read_bytes()
    for ask in (store.import_runs, lambda: store.query("SELECT 1")):
        with pytest.raises(MiError) as error:
            ask()
        assert code(error) == "MI0806"
    assert store.path.read_bytes() == before


def damage(folder: Path, how: str) -> None:
    part = next((folder / "parts").glob("*measurements*"))
    manifest = folder / "manifest.json"
    if how == "part cut short":
        part.write_bytes(part.read_bytes()[:-20])
    elif how == "part gone":
        part.unlink()
    elif how == "rows missing":
        text = json.loads(manifest.read_text())
        next(p for p in text["stages"][0]["parts"] if p["table"] == "measurements")["rows"] += 1
        manifest.write_text(json.dumps(text))
    elif how == "newer format":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    elif how == "moved":
        folder.rename(folder.with_name("elsewhere"))
    else:
        manifest.write_text("{")


@pytest.mark.parametrize(
    "how", ["part cut short", "part gone", "rows missing", "newer format", "moved", "manifest cut short"]
)
def test_a_damaged_run_keeps_no_other_out_and_is_named(store: Store, ran: Ran, how: str) -> None:
    good, bad = ran(table("a")), ran(table("b"))
    damage(store.root / "runs" / bad, how)
    later = ran(table("c"))
    warnings = Bag()
    assert store.import_runs(warnings) == 2
    assert [d.code for d in warnings] == ["MI0805"] and warnings.items[0].severity == "warning"
    answer = store.query("SELECT run_uuid::VARCHAR FROM runs ORDER BY run_id")
    assert answer.rows == [(good,), (later,)]
    assert [d.code for d in answer.notes] == ["MI0805"]
    assert store.query("SELECT DISTINCT experiment FROM measurements ORDER BY ALL").rows == [("a",), ("c",)]
    with pytest.raises(MiError) as error:
        store.import_runs()
    assert code(error) == "MI0805"


# ---------------------------------------------------------------- small things


def test_uuids_sort_by_age() -> None:
    ids = []
    for _ in range(5):
        ids.append(str(uuid7()))
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert {(i[14], i[19] in "89ab") for i in ids} == {("7", True)}


def test_the_store_does_not_import_torch() -> None:
    modules = "midsl.store.db, midsl.store.record, midsl.show.results, midsl.show.vega"
    check = f"import sys, {modules}; midsl.store.record.environment(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_hundred_thousand_rows(store: Store) -> None:
    n = 100_000
    rng = np.random.default_rng(0)
    keys = {
        "layer": rng.integers(0, 12, n).tolist(),
        "example": rng.integers(0, 64, n).tolist(),
        "word": [f"word {i % 50}" for i in range(n)],
    }
    big = table(keys=keys, value=rng.normal(size=n).tolist())
    start = time.process_time()
    writer = store.begin(record())
    writer.stage("big", [big])
    writer.finish("done", 0)
    store.import_runs()
    seconds = time.process_time() - start
    assert store.query("SELECT count(*), count(DISTINCT word) FROM patching.effect").rows == [(n, 50)]
    assert seconds < 2
