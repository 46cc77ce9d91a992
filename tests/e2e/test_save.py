"""`save`: tensors land in the run's own folder, with axes and labels, and say the same as a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from tests.e2e.conftest import ROOT, Done, Home

Cli = Callable[..., Done]
SPEC = ROOT / "tests" / "corpus" / "run" / "saves.mi"


def opened(home: Home, cli: Cli, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors of a saved file, and its header."""
    query = f"SELECT path, bytes FROM artifacts WHERE kind = 'tensors' AND name = 'e.{name}'"
    (row,) = cli("sql", query, "--json").expect(0).json()
    path = home.store / row["path"]
    assert path.stat().st_size == row["bytes"]
    with safe_open(path, framework="numpy") as f:
        header = dict(f.metadata())
        names = list(f.keys())
        return {k: f.get_tensor(k) for k in names}, {
            "axes": json.loads(header["axes"]),
            "labels": json.loads(header["labels"]),
            "unit": header["unit"],
        }


@pytest.fixture
def done(cli: Cli) -> Any:
    return cli("run", SPEC, "--json").expect(0).json()


def test_tensors_are_in_the_store(cli: Cli, home: Home, done: Any) -> None:
    assert {s["name"]: s["axes"] for s in done["saved"]} == {
        "e.stream": ["layer", "batch", "pos", "d_model"],
        "e.pattern": ["batch", "head", "pos", "key_pos"],
        "e.later": ["batch", "pos", "d_model"],
        "e.effect": ["layer", "head", "k", "batch"],
        "e.mean": [],
    }
    tensors, header = opened(home, cli, "stream")
    assert tensors["stream"].shape == (2, 2, 6, 16) and tensors["stream"].dtype == np.float32
    assert tensors["lengths"].tolist() == [6, 5], "one row is shorter: its last position is padding"
    assert header["labels"]["layer"] == [0, 1] and header["labels"]["pos"] == [0, 1, 2, 3, 4, 5]
    tensors, header = opened(home, cli, "later")
    assert header["labels"]["pos"] == [1, 2, 3, 4, 5] and tensors["lengths"].tolist() == [5, 4]
    tensors, header = opened(home, cli, "effect")
    assert header["labels"]["k"] == [0.0, 2.0] and header["unit"] == "logit"
    (report,) = done["reports"]
    rows = {tuple(r[:3]): r[3] for r in report["rows"]}
    for (layer, head, k), value in rows.items():
        mine = tensors["effect"][layer, head, [0.0, 2.0].index(k)].mean()
        assert mine == pytest.approx(value, abs=1e-6)
    assert not list(home.store.glob("runs/.saving-*")), "nothing is left beside the runs"


def test_verify_compares_them(cli: Cli) -> None:
    reports = cli("verify", SPEC, "--json", "--exact").expect(0).json()["reports"]
    assert {r["name"] for r in reports} == {
        "e.stream",
        "e.pattern",
        "e.later",
        "e.effect",
        "e.mean",
        "e.total",
    }
    assert all(r["agrees"] and r["error"] < 1e-12 for r in reports)


def test_what_is_saved_is_not_taken_from_another_run(cli: Cli, home: Home, done: Any) -> None:
    again = cli("run", SPEC, "--json").expect(0).json()
    assert again["counts"]["executed"]["forwards"] == done["counts"]["executed"]["forwards"] > 0
    count = "SELECT count(*) AS n FROM artifacts WHERE kind = 'tensors'"
    assert cli("sql", count, "--json").expect(0).json() == [{"n": 10}]


def test_check_tells_their_axes(cli: Cli) -> None:
    said = cli("check", SPEC).expect(0).out.splitlines()
    assert "e.stream[layer, batch, pos, d_model] (saved)" in said
    assert "e.mean[] (saved)" in said


def test_two_saves_of_a_name_in_two_experiments(cli: Cli, home: Home, tmp_path: Path) -> None:
    text = SPEC.read_text()
    spec = home.folder / "two.mi"
    spec.write_text(text + text[text.index("experiment e") :].replace("experiment e", "experiment f"))
    saved = cli("run", spec, "--json").expect(0).json()["saved"]
    assert len({s["name"] for s in saved}) == len(saved) == 10
