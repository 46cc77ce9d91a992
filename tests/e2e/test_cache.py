"""`midsl cache`: what is kept is listed and bounded, and the oldest goes first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from midsl.cachedir import GRACE, collect, entries, kept
from tests.e2e.conftest import Done

Cli = Callable[..., Done]
OLD = GRACE + 1000


def put(root: Path, name: str, size: int, age: float) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    then = time.time() - age
    os.utime(path, (then, then))
    if path.parent != root:
        os.utime(path.parent, (then, then))
    return path


@pytest.fixture
def full(tmp_path: Path) -> Path:
    root = tmp_path / "cache"
    put(root, "grammar-1.json", 10, OLD + 5)
    put(root, "trained/a.safetensors", 100, OLD + 30)
    put(root, "trained/b.safetensors", 100, OLD + 20)
    put(root, "fitted/c.safetensors", 50, 5)
    put(root, "inductor/x/y.so", 1000, OLD + 10)
    put(root, "segments/k", 0, OLD + 10)
    for folder in ("inductor/x", "inductor", "segments"):
        os.utime(root / folder, (1, 1))
    return root


def test_the_longest_unused_goes_first_until_the_rest_fits(full: Path) -> None:
    assert [e.name for e in entries(full)] == [
        "a.safetensors",
        "b.safetensors",
        "inductor",
        "grammar-1.json",
        "c.safetensors",
    ]
    assert collect(10_000, full) == []
    assert [e.name for e in collect(1160, full, dry=True)] == ["a.safetensors"]
    assert sum(e.bytes for e in entries(full)) == 1260, "nothing is gone yet"
    assert [e.name for e in collect(1160, full)] == ["a.safetensors"]
    assert kept(full / "trained" / "b.safetensors"), "used again: others go before it"
    assert not kept(full / "trained" / "a.safetensors")
    assert [e.name for e in collect(0, full)] == ["inductor", "grammar-1.json"]
    assert not (full / "segments").exists(), "marks of what was compiled go with it"
    assert [e.name for e in entries(full)] == ["c.safetensors", "b.safetensors"], "just used: they stay"
    assert [e.name for e in collect(0, full, now=time.time() + OLD)] == ["c.safetensors", "b.safetensors"]


def test_the_commands(cli: Cli, full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(full))
    told = cli("cache", "ls", "--json").expect(0).json()
    assert told["bytes"] == 1260 and len(told["entries"]) == 5
    assert "trained" in cli("cache", "ls").expect(0).out
    assert (
        "would remove trained a.safetensors"
        in cli("cache", "gc", "--size", "1.2kB", "--dry-run").expect(0).out
    )
    gone = cli("cache", "gc", "--size", "0.00016 MB", "--json").expect(0).json()
    assert [Path(g["path"]).name for g in gone["removed"]] == ["a.safetensors", "b.safetensors", "inductor"]
    assert gone["within"] and gone["bytes"] == 60
    stays = cli("cache", "gc", "--size", "0").expect(0)
    assert "50" not in stays.err and "ten minutes" in stays.err
    assert "no size" in cli("cache", "gc", "--size", "lots").expect(2).err


def test_a_cache_that_is_not_there(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(tmp_path / "nowhere"))
    assert cli("cache", "ls", "--json").expect(0).json()["entries"] == []
    assert cli("cache", "gc", "--json").expect(0).json() == {"removed": [], "bytes": 0, "within": True}
