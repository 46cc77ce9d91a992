"""Runs found by name, compared, and exported."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import duckdb
import pytest

from midsl.diagnostics.model import MiError
from midsl.store.compare import Comparison, compare
from midsl.store.db import Store
from midsl.store.export import Format, export_query, export_reports
from midsl.store.record import ModelRecord
from midsl.store.rows import CheckRow, Key
from midsl.store.runs import find_run
from tests.store.samples import Ran, record, table


def compared(store: Store, a: str, b: str, top: int = 5) -> Comparison:
    with store.reading() as (con, _):
        return compare(find_run(con, a), find_run(con, b), top)


# ---------------------------------------------------------------- names


def test_what_a_run_is_called(store: Store, ran: Ran) -> None:
    first, second, other = ran(), ran(), ran(spec="other")
    names = {
        "1": first,
        "3": other,
        "quickstart": second,
        "examples/quickstart.mi": second,
        "quickstart~1": first,
        "latest": other,
        "latest~2": first,
        other: other,
        first[-8:]: first,
    }
    with store.reading() as (con, _):
        assert {n: find_run(con, n).row["run_uuid"] for n in names} == names


@pytest.mark.parametrize(
    "name, word",
    [
        ("quikstart", "did you mean `quickstart`?"),
        ("quickstart~2", "there are 2 runs"),
        ("quickstart~x", "no run"),
        ("17", "no run"),
        ("0", "no run"),
    ],
)
def test_what_no_run_is_called(store: Store, ran: Ran, name: str, word: str) -> None:
    ran(), ran()
    with store.reading() as (con, _), pytest.raises(MiError) as error:
        find_run(con, name)
    (d,) = error.value.diagnostics
    assert d.code == "MI0807" and word in d.message + d.help


def test_an_id_that_two_runs_share(store: Store, ran: Ran) -> None:
    a, b = ran(), ran()
    assert a[:4] == b[:4], "ids begin with the time"
    with store.reading() as (con, _), pytest.raises(MiError) as error:
        find_run(con, a[:4])
    assert "2 runs are called" in str(error.value) and a in error.value.diagnostics[0].help


def test_a_run_as_it_was_recorded(store: Store, ran: Ran) -> None:
    keys: dict[str, list[Key]] = {"layer": [1, 0, 2], "word": ["b", None, "a"], "alpha": [0.5, None, 1.0]}
    ran(table("e", "r", keys, [3.0, math.nan, math.inf], unit="logit", n_total=9), params={"seed": "4"})
    with store.reading() as (con, _):
        run = find_run(con, "latest")
        (back,) = run.tables
        assert run.params == {"seed": "4"} and run.source == "edition 2026\n"
    assert dict(back.keys) == keys and back.unit == "logit" and back.n_total == 9
    assert back.rows() == [
        (1, "b", 0.5, 3.0, 7, None),
        (0, None, None, None, 7, None),
        (2, "a", 1.0, math.inf, 7, None),
    ]


# ---------------------------------------------------------------- compare


def test_rows_are_joined_on_their_axes(store: Store, ran: Ran) -> None:
    ran(table("e", "r", {"layer": [0, 1, 2, None], "word": ["a", "a", "b", "c"]}, [1.0, 2.0, 3.0, math.nan]))
    ran(table("e", "r", {"word": ["c", "a", "a", "x"], "layer": [None, 1, 0, 7]}, [4.0, 2.5, 1.0, 9.0]))
    done = compared(store, "1", "2")
    (t,) = done.tables
    assert (t.both, t.only_a, t.only_b, t.differ, t.largest) == (3, 1, 1, 2, 0.5)
    assert t.columns == ["layer", "word", "a", "b", "b - a"]
    assert t.rows == [[None, "c", None, 4.0, None], [1, "a", 2.0, 2.5, 0.5]], "what has no value comes first"
    assert not done.same_results
    assert [len(compared(store, "1", "2", top).tables[0].rows) for top in (0, 1)] == [0, 1]


def test_a_run_is_as_itself(store: Store, ran: Ran) -> None:
    ran(table("e", "r", value=[math.inf, math.nan, 1.0, 2.0]), table("e", "one", {}, [1.0]))
    done = compared(store, "1", "1")
    assert done.same_results and not done.spec and not done.changes
    assert [(t.both, t.differ) for t in done.tables] == [(4, 0), (1, 0)]


def test_keys_of_other_types_and_other_keys(store: Store, ran: Ran) -> None:
    ran(table("e", "r", {"dose": [1, 2]}), table("e", "s", {"layer": [0]}), table("e", "gone"))
    ran(table("e", "r", {"dose": [1.0, 2.5]}), table("e", "s", {"head": [0]}), table("e", "new"))
    done = compared(store, "1", "2")
    r, s = done.tables
    assert (r.both, r.only_a, r.only_b) == (1, 1, 1)
    assert s.apart == "its rows are by layer but by head" and not s.same
    assert (done.only_a, done.only_b) == (["e.gone"], ["e.new"])


def test_what_runs_were_made_with(store: Store) -> None:
    for n, holds in ((1, True), (2, False)):
        about = record(
            params={"seed": str(n)}, environment={"torch": f"2.{n}", "packages": {"numpy": f"{n}"}}
        )
        text = f"let a = 1\nlet b = {n}\n"
        model = ModelRecord(name="m", ref="toy", weights_sha256=f"w{n}")
        about = about.model_copy(update={"spec_source": text, "spec_hash": f"h{n}", "models": [model]})
        writer = store.begin(about)
        checks = [CheckRow("e", "x > 1", "", holds, "2 and 1", 3), CheckRow("e", "x > 1", "", True, "", 4)]
        writer.stage("e", [table("e", "r")], checks)
        writer.finish("done", 0)
    done = compared(store, "1", "2")
    assert done.spec == ["@@ -2 +2 @@", "-let b = 1", "+let b = 2"]
    told = {c.what: (c.a, c.b) for c in done.changes}
    assert told == {
        "param seed": ("1", "2"),
        "model m: weights_sha256": ("w1", "w2"),
        "environment: torch": ("2.1", "2.2"),
        "package numpy": ("1", "2"),
    }
    assert [(c.what, c.a, c.b) for c in done.checks] == [("e: expect x > 1", "holds", "fails (2 and 1)")]
    assert not done.same_results and all(t.same for t in done.tables)


# ---------------------------------------------------------------- export


def test_reports_as_files(store: Store, ran: Ran, tmp_path: Path) -> None:
    rows: dict[str, list[Key]] = {"layer": [0, 1], "word": ["a", 'b,"'], "alpha": [0.5, None]}
    ran(table("e", "r", rows, [1.5, math.nan]), table("e", "other"))
    wanted = [(0, "a", 0.5, 1.5, 7, None), (1, 'b,"', None, None, 7, None)]
    forms: tuple[Format, ...] = ("parquet", "csv")
    for form in forms:
        (file,) = export_reports(store, form, tmp_path / form, "latest", ("e.r",))
        assert file.name == f"e.r.{form}"
        assert duckdb.execute(f"FROM '{file}'").fetchall() == wanted
    with (tmp_path / "csv" / "e.r.csv").open() as f:
        assert next(csv.reader(f)) == ["layer", "word", "alpha", "value", "n", "se"]
    assert len(export_reports(store, "csv", tmp_path / "all")) == 2


def test_arrow_files(store: Store, ran: Ran, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    ran(table("e", "r", {"layer": [0, 1], "word": ["a", None]}, [1.5, math.nan]))
    (file,) = export_reports(store, "arrow", tmp_path)
    with pa.memory_map(str(file)) as source:
        rows = pa.ipc.open_file(source).read_all().to_pylist()
    assert rows[1] == {"layer": 1, "word": None, "value": None, "n": 7, "se": None}


def test_an_answer_is_exported_and_nothing_else_reached(store: Store, ran: Ran, tmp_path: Path) -> None:
    ran()
    file = export_query(store, "csv", "SELECT count(*) AS rows FROM measurements;", tmp_path / "a" / "n.csv")
    assert file.read_text() == "rows\n4\n"
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for sql in (f"FROM '{secret}'", "DROP TABLE runs", "SELECT 1; SELECT 2", "SELECT nothing"):
        with pytest.raises(MiError) as error:
            export_query(store, "csv", sql, tmp_path / "x.csv")
        assert error.value.diagnostics[0].code == "MI0802"
    assert {p.name for p in tmp_path.iterdir()} == {"results", "a", "secret.csv"}, (
        "no half-written file is left"
    )


def test_a_report_that_the_run_lacks(store: Store, ran: Ran, tmp_path: Path) -> None:
    ran(table("e", "effect"))
    with pytest.raises(MiError) as error:
        export_reports(store, "csv", tmp_path, "latest", ("e.efect",))
    assert "e.effect" in error.value.diagnostics[0].help
