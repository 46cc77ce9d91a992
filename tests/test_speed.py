"""How long `check` and `--help` may take, in CPU seconds of a process of their own, best of a few.

Both are what a person waits for at every edit. The usual way to lose this is an import: `check` must not
load torch, numpy or the store.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

SPEC = Path(__file__).with_name("speed.mi")
TRIES = 10


def cpu(words: list[str], env: dict[str, str], enough: float) -> float:
    """The least CPU seconds (user and system) of a command in a few tries; stops at `enough`."""
    best = float("inf")
    for _ in range(TRIES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "midsl.cli", *words], env=env, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stdout + done.stderr
        best = min(best, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        if best <= enough:
            break
    return best


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "MIDSL_CACHE_DIR": str(tmp_path)}


def test_check_takes_no_time(env: dict[str, str]) -> None:
    assert 55 <= SPEC.read_text(encoding="utf-8").count("\n") <= 70
    cpu(["check", str(SPEC)], env, enough=float("inf"))  # makes the grammar tables
    assert cpu(["check", str(SPEC)], env, enough=0.4) <= 0.4


def test_help_takes_no_time(env: dict[str, str]) -> None:
    assert cpu(["--help"], env, enough=0.2) <= 0.2


def test_check_imports_only_what_it_needs(env: dict[str, str]) -> None:
    program = (
        "import sys\nfrom midsl.cli import main\n"
        "try:\n    main(['check', sys.argv[1]])\nexcept SystemExit as done:\n    assert done.code == 0\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'duckdb', 'networkx', 'rich', 'lark'}\n"
        "print({m.split('.')[0] for m in sys.modules} & heavy)"
    )
    for _ in range(2):  # the second time, the grammar tables are there, and lark is not needed to make them
        done = subprocess.run(
            [sys.executable, "-c", program, str(SPEC)], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
