"""`midsl run --jobs N`: experiments of one spec in processes of their own, then one run that has them all.

What they share, trained models and fits, is made first. Each process stores its experiments; the run that
follows takes them from the store, and does what is left itself, so that a process that dies costs only time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from midsl.plan.driver import Compiled, Execution


def shares(compiled: Compiled, jobs: int) -> list[list[str]]:
    """The experiments of each process, dealt in turn."""
    names = [x.name for x in compiled.program.experiments]
    found: list[list[str]] = [[] for _ in range(min(jobs, len(names)))]
    for i, name in enumerate(names):
        found[i % len(found)].append(name)
    return found


def run_apart(compiled: Compiled, jobs: int, words: Sequence[str], store: Path) -> int:
    """Run all experiments, at most `jobs` processes at once; return how many processes failed.

    Args:
        words: the command line of a run, without what this adds to it.
    """
    Execution(compiled).load()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = []
    try:
        for names in shares(compiled, jobs):
            chosen = [w for name in names for w in ("--select", name)]
            command = [
                sys.executable,
                "-m",
                "midsl.cli",
                "run",
                *words,
                *chosen,
                "--store",
                str(store),
                "--json",
            ]
            started.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
        return sum(p.wait() not in (0, 3) for p in started)
    except BaseException:
        for p in started:
            p.terminate()
        raise
