"""The built wheel, installed outside the checkout: it brings its grammar and library, and nothing else.

The clean environment sees the dependencies that are installed here through a ``.pth`` file, which
Python reads after the environment's own folder: so the wheel's midsl comes first, and the editable
install of the checkout, itself a ``.pth`` file, is not followed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import QUICKSTART, ROOT, environment

SMALL = Path(__file__).with_name("small.mi")


def call(*words: str | Path, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built by the builder that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    call(*pip, "-w", folder, ROOT, cwd=folder, env=dict(os.environ))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean environment that has the wheel."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip: list[str] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
    ]
    call(*pip, wheel, cwd=folder, env=dict(os.environ))
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def test_wheel_has_one_top_level_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names} == {"midsl", f"{wheel.name.split('-py3')[0]}.dist-info"}
    for folder in ("grammar", "stdlib", "examples"):
        here = {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*") if p.is_file()}
        assert {f"midsl/_data/{p}" for p in here} <= set(names)
    assert "midsl/_data/grammar/mi.lark" in names and "midsl/_data/stdlib/tasks.mi" in names
    assert not [n for n in names if "__pycache__" in n or n.startswith(("tests/", "shared/"))]


WHERE = """
import importlib.util, json, midsl
from midsl.resources import resource_dir
from midsl.syntax.parse import parse
names = ("grammar", "stdlib", "examples")
print(json.dumps({
    "midsl": midsl.__file__,
    "folders": [str(resource_dir(n)) for n in names],
    "top": [n for n in names if importlib.util.find_spec(n)],
}))
"""


def test_it_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    env = environment(tmp_path / "cache")
    env.pop("PYTHONPATH", None)
    told = json.loads(call(installed, "-c", WHERE, cwd=tmp_path, env=env))
    packages = Path(told["midsl"]).parents[1]
    assert packages.is_relative_to(installed.parents[1])
    assert [Path(f) for f in told["folders"]] == [
        packages / "midsl" / "_data" / n for n in ("grammar", "stdlib", "examples")
    ]
    assert told["top"] == []
    midsl = installed.with_name("midsl")
    assert call(midsl, "--version", cwd=tmp_path, env=env).startswith("midsl, version ")
    assert "heads.effect(layer, head" in call(midsl, "check", QUICKSTART, cwd=tmp_path, env=env)
    out = call(midsl, "run", SMALL, cwd=tmp_path, env=env)
    assert "1 of 1 expects hold" in out
    rows = call(midsl, "sql", "SELECT * FROM small.effect", "--json", cwd=tmp_path, env=env)
    assert len(json.loads(rows)) == 4
