"""Several processes at one store, and processes that are killed: nothing is lost, nothing is half there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from midsl.diagnostics.model import MiError
from midsl.store.db import Store
from tests.store.samples import Ran, table

START = """
import sys, time
from pathlib import Path
import numpy as np
from midsl.store import importer, writer
from midsl.store.db import Store
from midsl.store.record import RunRecord
from midsl.store.rows import ResultTable

store = Store(Path(sys.argv[1]))

def begin(name):
    return store.begin(RunRecord(spec_path="s.mi", spec_name=name, spec_source="", spec_hash=name))

def rows(report, n=500):
    nan = np.full(n, np.nan)
    return ResultTable("e", report, {"layer": list(range(n))}, np.ones(n), np.ones(n, dtype=int), nan)

def hang(*_):
    print("here", flush=True)
    time.sleep(60)
"""


def start(store: Store, code: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", START + code, str(store.root), *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@contextmanager
def held(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Wait until the process says where it is; kill it at the end."""
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "here\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


BEFORE_THE_MANIFEST = """
w = begin("s")
w.stage("one", [rows("a")])
writer.write_text = hang
w.stage("two", [rows("b")])
"""
IN_THE_MIDDLE_OF_THE_PARTS = """
w = begin("s")
w.stage("one", [rows("a")])
from midsl.store import parts
parts.commit = hang
w.stage("two", [rows("b")])
"""
BETWEEN_STAGES = """
w = begin("s")
w.stage("one", [rows("a")])
hang()
"""


@pytest.mark.parametrize(
    "where",
    [BEFORE_THE_MANIFEST, IN_THE_MIDDLE_OF_THE_PARTS, BETWEEN_STAGES],
    ids=["before the manifest", "in the middle of the parts", "between stages"],
)
def test_a_run_killed_at_a_bad_moment_keeps_its_finished_stages(store: Store, where: str) -> None:
    with held(start(store, where)):
        assert store.import_runs() == 1
        assert [r["status"] for r in store.runs()] == ["running"]
    (run,) = store.runs()
    assert (run["status"], run["reports"]) == ("interrupted", ["e.a"])
    assert "ended before" in run["error"]
    assert store.query("SELECT report, count(*) FROM measurements GROUP BY ALL").rows == [("a", 500)]
    assert store.query("FROM results").rows == []


def test_a_run_killed_at_any_moment_keeps_what_it_was_told_is_kept(store: Store) -> None:
    """The child says how many stages have returned; those and at most one more are there, all whole."""
    code = """
w = begin("s")
for i in range(1000):
    w.stage(f"s{i}", [rows(f"r{i}")])
    print(i + 1, flush=True)
"""
    pick = random.Random(1)
    told = []
    for _ in range(4):
        process = start(store, code)
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        time.sleep(pick.uniform(0, 0.2))
        process.kill()
        process.wait()
        told.append(_last(process))
    store.import_runs()
    answer = store.query(
        "SELECT count(DISTINCT report), count(*) FROM runs JOIN measurements USING (run_id) "
        "GROUP BY run_uuid ORDER BY run_uuid"
    )
    for said, (stages, count) in zip(told, answer.rows, strict=True):
        assert count == stages * 500 and stages - said in (0, 1)
    assert {r["status"] for r in store.runs()} == {"interrupted"}


def _last(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    lines = [line for line in process.stdout.read().split("\n")[:-1] if line]
    process.stdout.close()
    return int(lines[-1]) if lines else 1


IN_THE_TRANSACTION = """
real = importer._import
def half(con, run):
    real(con, run)
    hang()
importer._import = half
store.import_runs()
"""
BEFORE_THE_VIEWS = """
importer.make_views = hang
store.import_runs()
"""


@pytest.mark.parametrize(
    "where", [IN_THE_TRANSACTION, BEFORE_THE_VIEWS], ids=["in the transaction", "before the views"]
)
@pytest.mark.parametrize("first", [True, False])
def test_an_import_killed_half_way_is_done_again(store: Store, ran: Ran, where: str, first: bool) -> None:
    if not first:
        ran(table("old"))
        store.import_runs()
    ran(table("new"))
    with held(start(store, where)):
        pass
    store.import_runs()
    assert len(store.query("FROM new.effect").rows) == 4
    assert len(store.query("FROM measurements").rows) == (4 if first else 8)


def test_processes_that_write_and_import_at_once_lose_nothing(store: Store) -> None:
    code = """
store.patience = 120
for i in range(2):
    w = begin(sys.argv[2])
    w.stage("one", [rows("a")])
    w.finish("done", 0)
    store.import_runs()
    assert len(store.query(f'SELECT value FROM "{sys.argv[2]}/e".a').rows) == 500
"""
    workers = [start(store, code, f"spec{i}") for i in range(8)]
    assert [w.wait(timeout=300) for w in workers] == [0] * 8
    for w in workers:
        assert w.stdout is not None
        w.stdout.close()
    assert store.import_runs() == 0
    assert store.query("SELECT count(*), count(DISTINCT run_id) FROM measurements").rows == [(8000, 16)]
    assert store.query("SELECT count(*) FROM latest_results").rows == [(4000,)]


OPEN = "import duckdb; con = duckdb.connect(store.path, read_only={}); hang()"


def test_a_database_that_somebody_keeps_open(store: Store, ran: Ran) -> None:
    ran(table("a"))
    store.import_runs()
    ran(table("b"))
    impatient = Store(store.root, patience=0.2)
    with held(start(store, OPEN.format(True))) as viewer:
        with pytest.raises(MiError) as error:
            impatient.import_runs()
        assert error.value.diagnostics[0].code == "MI0801"
        assert str(viewer.pid) in error.value.diagnostics[0].message
        answer = impatient.query("FROM a.effect")  # old results can be read, and the lack is told
        assert len(answer.rows) == 4
        assert [d.code for d in answer.notes] == ["MI0801"] and "1 new" in answer.notes[0].message
    with held(start(store, OPEN.format(False))), pytest.raises(MiError) as error:
        impatient.query("FROM a.effect")
    assert error.value.diagnostics[0].code == "MI0801"
    assert len(impatient.query("FROM b.effect").rows) == 4


def test_an_importer_that_waits_gets_its_turn(store: Store, ran: Ran) -> None:
    ran(table("a"))
    store.import_runs()
    ran(table("b"))
    code = "import duckdb; con = duckdb.connect(store.path); print('here', flush=True); time.sleep(1)"
    with held(start(store, code)):
        assert store.import_runs() == 1


def test_the_lock_of_another_importer_is_waited_for_and_named(store: Store, ran: Ran, tmp_path: Path) -> None:
    ran()
    code = "from midsl.store.lock import try_lock; fd = try_lock(store.root / 'import.lock'); hang()"
    with held(start(store, code)), pytest.raises(MiError) as error:
        Store(store.root, patience=0.2).import_runs()
    assert error.value.diagnostics[0].code == "MI0801" and "import.lock" in str(error.value)
