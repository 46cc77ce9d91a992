"""Attention outputs of the story model, taken apart on its own stories: claims, numbers, a break."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.real.common import DATA, EXAMPLES, midsl, needs, options

FILES = {"bin": DATA / "stories260k" / "stories260K.bin", "tokenizer": DATA / "stories260k" / "tok512.bin"}
WRITER = EXAMPLES / "stories_text.mi"
SPEC = EXAMPLES / "41_attention_sae_stories.mi"

pytestmark = [needs("stories260k"), pytest.mark.slow]


def question(spec: Path) -> str:
    (query,) = re.findall(r"^## SQL: (SELECT .*)$", spec.read_text(encoding="utf-8"), re.M)
    return str(query)


def ask(query: str, store: Path) -> list[dict[str, Any]]:
    done = midsl("sql", query, "--store", store, "--json")
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.output)
    return rows


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of what the model writes: a story a line, as the docs of the writer say."""
    folder = tmp_path_factory.mktemp("text")
    done = midsl("run", WRITER, *options(**FILES), "--store", folder / "store")
    assert done.exit_code == 0, done.output
    out = folder / "stories.txt"
    out.write_text(ask(question(WRITER), folder / "store")[0]["text"] + "\n", encoding="utf-8")
    return out


def test_it_writes_four_hundred_stories(text: Path) -> None:
    lines = text.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 400
    assert all(line.startswith("Once upon a time") for line in lines)
    assert len(set(lines)) == 400


def test_its_claims_and_numbers_hold(text: Path, tmp_path: Path) -> None:
    done = midsl("run", SPEC, *options(**FILES, text=text), "--store", tmp_path)
    assert done.exit_code == 0, done.output
    rows = ask(question(SPEC), tmp_path)
    assert [r["layer"] for r in rows] == [0, 1, 2, 3, 4]
    assert [r["features_on"] for r in rows] == pytest.approx([9.41, 14.51, 17.60, 23.18, 25.02], rel=0.03)
    assert [r["recovered"] for r in rows] == pytest.approx([0.948, 0.940, 0.841, 0.888, 0.893], abs=0.01)
    assert [r["by_random"] for r in rows] == pytest.approx([0.708, 0.787, 0.227, 0.487, 0.512], abs=0.01)
    assert [r["by_mean"] for r in rows] == pytest.approx([-0.035, -0.058, -0.190, -0.118, -0.096], abs=0.01)
    found = ask("SELECT value FROM pronoun.by_code", tmp_path) + ask(
        "SELECT count(*) AS value FROM quality.own WHERE value >= 2", tmp_path
    )
    assert [r["value"] for r in found] == pytest.approx([0.633, 38], rel=0.03)


@pytest.mark.parametrize("seed", [21, 22])
def test_its_claims_hold_on_other_seeds(text: Path, seed: int, tmp_path: Path) -> None:
    done = midsl("run", SPEC, *options(**FILES, text=text, seed=seed), "--store", tmp_path)
    assert done.exit_code == 0, done.output


def test_values_of_the_wrong_heads_do_not_add_up(text: Path, tmp_path: Path) -> None:
    whole = SPEC.read_text(encoding="utf-8")
    right, wrong = "kv_head: [0, 0, 1, 1, 2, 2, 3, 3]", "kv_head: [0, 1, 2, 3, 0, 1, 2, 3]"
    assert whole.count(right) == 1
    spec = tmp_path / SPEC.name
    spec.write_text(whole.replace(right, wrong), encoding="utf-8")
    args = ("--select", "sources", "--store", tmp_path / "store")
    done = midsl("run", spec, *options(**FILES, text=text), *args)
    assert done.exit_code == 3, done.output
    assert "✗ expect of_heads <= 1e-5 and of_positions <= 1e-5" in done.output


def test_it_agrees_with_the_oracle(text: Path) -> None:
    done = midsl("verify", SPEC, *options(**FILES, text=text), "--json")
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.output)
    assert verdict["agrees"]
    assert verdict["worst"] <= 1e-9
