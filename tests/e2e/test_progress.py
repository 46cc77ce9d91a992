"""What a run says while it works, to a terminal; and how it goes on after ^C."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time

from midsl.store.db import Store
from tests.e2e.conftest import Home, _default_interrupt, environment

SPEC = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import nll
model m = models.toy(layers: 4, heads: 4, d_model: 64, vocab: 64, ctx: 64, seed: 0)
data  d = induction(m.tokenizer, n: 256, period: 30, seed: 0)
## allow(L05): random weights do no task
experiment e {
  sweep h in m.blocks[*].attn.z[head: *], k in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2]
  report loss = mean(nll(run m on d.clean do { h := k * self }), over: [batch, pos])
}
"""
PLAIN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def watched(home: Home, *args: object, until: str = "", seconds: float = 400) -> tuple[int, str]:
    """Run with stderr on a terminal; ^C once `until` is there. The exit code and what stderr said."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "midsl.cli", *map(str, args)],
        cwd=home.folder,
        env={**environment(home.cache), "TERM": "xterm", "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        preexec_fn=_default_interrupt,
    )
    os.close(theirs)
    said, end = "", time.monotonic() + seconds
    stopped = not until
    try:
        while time.monotonic() < end:
            try:
                more = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            said += more.decode(errors="replace")
            if not stopped and re.search(until, PLAIN.sub("", said)):
                stopped = True
                run.send_signal(signal.SIGINT)
        return run.wait(60), PLAIN.sub("", said)
    finally:
        run.kill()
        os.close(ours)


def test_a_terminal_sees_progress_and_how_to_go_on(home: Home) -> None:
    """Stage, count, time that is left, tokens per second; ^C leaves a run that goes on by what it prints."""
    (home.folder / "many.mi").write_text(SPEC, encoding="utf-8")
    code, said = watched(home, "run", "many.mi", until=r"[1-9][\d,]* tokens/s")
    assert code == 130, said
    assert re.search(r"\d+/\d+ \S", said) and re.search(r"-?:--|\d:\d\d:\d\d", said), said
    (again,) = re.findall(r"To go on: (midsl .*?)\r?\n", said)
    assert shlex.split(again) == ["midsl", "run", "many.mi"]
    (run,) = Store(home.store).runs()
    assert run["status"] == "interrupted"
