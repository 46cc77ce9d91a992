"""What the README shows is true: its specs check, its commands exist, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from midsl.cli import PASSES, main
from midsl.sema.check import check_text
from tests.e2e.conftest import ROOT, Home, Quickstart

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)
SPECS = [text for kind, text in BLOCKS if kind == "mi"]
SHELL = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", README, re.M | re.S)
    assert found, f"no section {title!r}"
    return found.group(1)


@pytest.mark.parametrize("text", SPECS)
def test_its_specs_check(text: str) -> None:
    assert check_text(text, "README.mi").items == []


def test_its_spec_runs_like_the_quickstart(quickstart: Quickstart, home: Home) -> None:
    """The same training from the same seed: it is taken from the quickstart's cache."""
    (home.folder / "readme.mi").write_text(SPECS[0], encoding="utf-8")
    quickstart.done.expect(0)
    done = home.process("run", "readme.mi").expect(0)
    assert "2 of 2 expects hold" in done.out
    assert home.process("sql", "SELECT DISTINCT status FROM cells WHERE kind = 'train'", "--json").json() == [
        {"status": "reused"}
    ]


def test_what_it_prints_is_what_is_printed(quickstart: Quickstart) -> None:
    """Line by line, up to the last digits of numbers, which another torch may round otherwise."""

    def shape(line: str) -> str:
        return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "0", re.sub(" +", " ", line)).strip()

    printed = {shape(line) for line in quickstart.done.expect(0).out.splitlines()}
    shown = next(t for kind, t in BLOCKS if kind == "text" and t.startswith("heads.effect"))
    missing = [line for line in shown.splitlines() if line != "..." and shape(line) not in printed]
    assert not missing


def test_its_two_commands_set_everything_up(tmp_path: Path) -> None:
    """They are on the first screen, and .ci/run finds the one that runs the tests."""
    first, second = SHELL
    assert README.index(second) < README.index("\n## ")
    for command in (first, second):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert first.endswith("midsl run examples/quickstart.mi")
    pattern = re.search(r"grep -m 1 -E '(.*?)' README.md", (ROOT / ".ci" / "run").read_text())
    assert pattern
    found = [line for line in README.splitlines() if re.search(pattern.group(1), line)]
    assert found == [second]


@pytest.mark.slow
def test_its_first_command_runs_from_a_clean_clone(tmp_path: Path) -> None:
    """As it is printed, in a copy of what is committed; the second is what `.ci/run` runs."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    alone = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "VIRTUAL_ENV")}
    alone["MIDSL_CACHE_DIR"] = str(tmp_path / "cache")
    done = subprocess.run(["bash", "-c", SHELL[0]], cwd=clone, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(\d+) of \1 expects hold", done.stdout)


def test_its_commands_are_those_there_are() -> None:
    commands = section("Commands")
    assert set(re.findall(r"^\| `midsl ([\w-]+)", commands, re.M)) == set(main.commands)
    flags = set(re.findall(r"--no-[a-z-]+", commands))
    assert flags == {f"--no-{p.replace('_', '-')}" for p in PASSES}


def test_its_counts_are_those_there_are() -> None:
    from midsl.plan.totals import Totals

    assert re.findall(r"^\| `(\w+)` \|", section("What the counts mean"), re.M) == list(Totals().as_dict())


def test_its_links_lead_somewhere() -> None:
    links = [*re.findall(r"\]\(([^)#:]+)\)", README), *re.findall(r'^  click \w+ "(.+)"$', README, re.M)]
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_picture_has_every_folder() -> None:
    """Each folder of the package is a box of the flowchart, but for what all of them use."""
    clicked = set(re.findall(r'^  click \w+ "midsl/(\w+)"$', README, re.M))
    folders = {p.parent.name for p in (ROOT / "midsl").glob("*/__init__.py")}
    assert folders - clicked == {"diagnostics"}
