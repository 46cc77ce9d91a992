"""Runs killed with SIGKILL at random moments: what had landed stays, and the same command does the rest."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from midsl.store.db import Store
from tests.e2e.conftest import environment

PARTS = 6
SPEC = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import logit_diff
model  m  = models.toy(layers: 2, heads: 2, d_model: 8, vocab: 16, ctx: 16)
data   d  = induction(m.tokenizer, n: 4, period: 5, corrupt: "cue", seed: 0)
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
""" + "".join(
    f"""experiment e{i} {{
  ## allow(L05): random weights do no task
  sweep h in m.blocks[*].attn.z[head: *]
  let cut = run m on d.clean do {{ h := {i}.5 * self }}
  report effect = mean(ld(cut), over: batch)
  expect all(abs(effect) < 1000.0)
}}
"""
    for i in range(PARTS)
)

SERVER = """
import os, sys, time
from midsl.cli import main
from midsl.plan import record
from midsl.plan.driver import compile_spec
from midsl.store.writer import RunWriter

stage = RunWriter.stage
def told(self, name, *args, **more):
    stage(self, name, *args, **more)
    os.write(landed, name.encode() + b" ")
RunWriter.stage = told
quiet = os.open(os.devnull, os.O_WRONLY)

for line in sys.stdin:  # each: the store, and after how many seconds the run is killed
    store, seconds = line.split()
    ends, landed = os.pipe()
    began = time.time()
    child = os.fork()
    if child == 0:
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.argv = ["midsl", "run", sys.argv[1], "--store", store]
        try:
            main(sys.argv[1:])
        except SystemExit as done:
            os._exit(done.code or 0)
    os.close(landed)
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while time.time() < began + float(seconds) and not os.waitid(os.P_PID, child, look):
        time.sleep(0.002)
    os.kill(child, 9)
    _, status = os.waitpid(child, 0)
    said = os.read(ends, 10**6).decode().split()
    os.close(ends)
    print(os.waitstatus_to_exitcode(status), round(time.time() - began, 3), *said, flush=True)
"""


class Server:
    """A process with everything imported, that forks a run for each line it is given, and kills it."""

    def __init__(self, folder: Path, cache: Path) -> None:
        spec = folder / "six.mi"
        spec.write_text(SPEC)
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(spec)],
            env=environment(cache) | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, store: Path, seconds: float) -> tuple[int, float, list[str]]:
        """Exit code (-9: killed), how long it took, and the experiments that had landed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{store} {seconds}\n")
        self.process.stdin.flush()
        code, took, *landed = self.process.stdout.readline().split()
        return int(code), float(took), landed

    def close(self) -> None:
        self.process.communicate()


def rows(store: Store, run: str) -> dict[str, list[tuple[Any, ...]]]:
    """What a run has of each experiment."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    sql = (
        "SELECT experiment, layer, head, value, n, se FROM measurements JOIN runs USING (run_id) "
        "WHERE run_uuid = $run ORDER BY experiment, layer, head"
    )
    for experiment, *row in store.query(sql, {"run": run}).rows:
        found.setdefault(experiment, []).append(tuple(row))
    return found


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_what_had_landed_is_kept_and_only_the_rest_is_run(tmp_path: Path, cache: Path, kills: int) -> None:
    server, pick = Server(tmp_path, cache), random.Random(kills)
    try:
        assert server.run(tmp_path / "warm", 300)[0] == 0
        code, whole, landed = server.run(tmp_path / "whole", 300)
        assert (code, landed) == (0, [f"e{i}" for i in range(PARTS)])
        (run,) = Store(tmp_path / "whole").runs()
        wanted = rows(Store(tmp_path / "whole"), run["run_uuid"])
        assert len(wanted) == PARTS
        died = 0
        for i in range(kills):
            store = Store(tmp_path / f"killed{i}")
            code, _, landed = server.run(store.root, pick.uniform(0.1, 1.0) * whole)
            died += code == -9
            kept: list[str] = []
            if (store.root / "runs").is_dir():
                for first in store.runs():
                    assert first["status"] == (
                        "interrupted" if code == -9 and first["exit_code"] is None else "done"
                    )
                    has = rows(store, first["run_uuid"])
                    kept = list(has)
                    assert has == {name: wanted[name] for name in has}, "nothing is half there"
            assert kept[: len(landed)] == landed and len(kept) - len(landed) in (0, 1), (
                "at most one more had landed"
            )
            code, _, again = server.run(store.root, 300)
            assert code == 0 and set(again) == set(wanted)
            last = store.runs()[-1]
            assert last["status"] == "done" and rows(store, last["run_uuid"]) == wanted
            sql = "SELECT name FROM cells JOIN runs USING (run_id) WHERE kind = 'reuse' AND run_uuid = $run"
            reused = {name for (name,) in store.query(sql, {"run": last["run_uuid"]}).rows}
            assert reused == set(kept), "what was kept was not run again"
        assert died > kills // 3, "the moments were within the run"
    finally:
        server.close()
