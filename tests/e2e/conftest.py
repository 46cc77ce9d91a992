"""What the end-to-end tests share: a home of their own, and one full run of the quickstart.

Commands run in a process of their own where that is the point (no torch, signals, a fresh start);
elsewhere in this one, which saves the seconds that torch takes to load.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from midsl.store.lock import locked

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart.mi"


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def expect(self, code: int) -> Done:
        """Fail with everything that was said unless the exit code is this one."""
        assert self.code == code, f"exit code {self.code}, not {code}\n{self.out}\n{self.err}"
        return self


def environment(cache: Path) -> dict[str, str]:
    """An environment with its own cache, and nothing of the terminal that runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MIDSL_", "XDG_"))}
    return {**kept, "MIDSL_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


def _default_interrupt() -> None:
    """A shell that runs things in the background lets them ignore ^C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Home:
    """A working folder and a cache: runs commands there."""

    folder: Path
    cache: Path

    @property
    def store(self) -> Path:
        return self.folder / "midsl-results"

    def start(self, *args: str | Path, talks: bool = False, **more: str) -> subprocess.Popen[str]:
        """Start a command in a process of its own; one that `talks` is asked on stdin."""
        return subprocess.Popen(
            [sys.executable, "-m", "midsl.cli", *map(str, args)],
            cwd=self.folder,
            env={**environment(self.cache), **more},
            stdin=subprocess.PIPE if talks else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_default_interrupt,
        )

    def process(self, *args: str | Path, **more: str) -> Done:
        """Run a command in a process of its own."""
        started = self.start(*args, talks=False, **more)
        out, err = started.communicate(timeout=500)
        return Done(started.returncode, out, err)


def shared(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a parallel test session share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of all end-to-end tests."""
    return shared(tmp_path_factory) / "e2e-cache"


@pytest.fixture
def home(tmp_path: Path, cache: Path) -> Home:
    """An empty folder to work in."""
    return Home(tmp_path, cache)


@pytest.fixture
def cli(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Done]]:
    """A function that runs a command in this process, in the home folder."""
    monkeypatch.chdir(home.folder)
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(home.cache))
    monkeypatch.delenv("MIDSL_MEMORY", raising=False)

    def run(*args: str | Path) -> Done:
        from midsl.cli import main

        words = [str(a) for a in args]
        monkeypatch.setattr(sys, "argv", ["midsl", *words])
        done = CliRunner().invoke(main, words, prog_name="midsl")
        return Done(done.exit_code, done.stdout, done.stderr)

    yield run


@dataclass(frozen=True)
class Quickstart:
    """The one full run of the quickstart: where it was, and what it said."""

    home: Home
    done: Done


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Quickstart:
    """Run the quickstart once for all workers, with nothing cached."""
    folder = shared(tmp_path_factory) / "e2e-quickstart"
    record = folder / "done.json"
    home = Home(folder / "work", cache)
    home.folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", 600):
        if not record.exists():
            done = home.process("run", QUICKSTART)
            record.write_text(json.dumps([done.code, done.out, done.err]), encoding="utf-8")
    return Quickstart(home, Done(*json.loads(record.read_text(encoding="utf-8"))))
