"""Model folders through the command line: what loads, and how each thing that can be wrong is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.examples.common import FAMILIES, midsl, save_model

SPEC = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import loss_on
param id: String = "model"
model m = models.hf(id)
data  d = induction(m.tokenizer, n: 4, period: 6, seed: 1)
metric loss = loss_on(.second_half)
experiment patch {
  sweep h in m.blocks[*].attn.z[head: *]
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do { h := clean }
  report effect = mean(loss(patched) - loss(corrupt), over: batch)
}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.mi"
    path.write_text(SPEC)
    return path


def refused(spec: Path, code: str, says: str, *args: str) -> str:
    """`run` refuses with one coded error, exit 2, and nothing is written; return what it prints."""
    store = spec.parent / "store"
    done = midsl("run", spec, *args, "--store", store)
    assert done.exit_code == 2, done.output
    assert f"error[{code}]" in done.output, done.output
    assert done.output.count("error[") == 1
    assert "spec.mi:" in done.output, "the place in the spec is missing"
    assert says in done.output
    assert "help:" in done.output
    assert not store.exists()
    return done.output


SLOW = [f if f == "llama" else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES]


@pytest.mark.parametrize("family", SLOW)
def test_folders_run_and_agree_with_the_oracle(family: str, spec: Path) -> None:
    save_model(spec.parent / "model", family)
    done = midsl("run", spec, "--json", "--store", spec.parent / "store")
    assert done.exit_code == 0, done.output
    done = midsl("verify", spec, "--points", "3", "--json")
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.output)
    assert verdict["agrees"] and verdict["worst"] <= 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_sites_of_a_folder(family: str, spec: Path) -> None:
    save_model(spec.parent / "model", family)
    rows: list[dict[str, Any]] = json.loads(midsl("sites", spec, "--json").stdout)
    sites = {row["path"]: row for row in rows}
    z = sites["m.blocks[*].attn.z"]
    assert z["axes"] == {"batch": None, "pos": None, "head": 4, "d_head": 8}
    assert z["readable"] and z["writable"] and z["members"] == 2
    assert "{layer}" in z["module"]
    rotary = sites["m.blocks[*].attn.rot_q"]
    assert rotary["readable"] == (family != "gpt2")
    assert ("not rotary" in rotary["why"]) == (family == "gpt2")
    keys = sites["m.blocks[*].attn.k"]["axes"]
    assert keys == {"batch": None, "pos": None} | (
        {"head": 4, "d_head": 8} if family == "gpt2" else {"kv_head": 2, "d_head": 8}
    )
    text = midsl("sites", spec, "m.blocks[1].attn.z").stdout
    assert text.split()[:2] == ["blocks[1].attn.z", "rw"]
    assert "head 4, d_head 8" in text


def test_a_hub_name_out_of_reach(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def unreachable(*_: object, **__: object) -> str:
        raise errors.LocalEntryNotFoundError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    refused(spec, "MI0507", "the hub cannot be reached", "-p", "id=some-org/some-model")


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.at,))


def test_pickled_weights_in_a_folder(spec: Path) -> None:
    folder = save_model(spec.parent / "model", "gpt2")
    (folder / "model.safetensors").unlink()
    torch.save({"wte": Bomb(spec.parent / "ran")}, folder / "pytorch_model.bin")
    refused(spec, "MI0508", "would run code")
    assert not (spec.parent / "ran").exists()


def test_a_pickled_state_dict(spec: Path) -> None:
    torch.save({"wte": Bomb(spec.parent / "ran")}, spec.parent / "weights.pt")
    spec.write_text(SPEC.replace("models.hf(id)", 'models.state_dict("weights.pt", names: "minGPT")'))
    refused(spec, "MI0508", "would run code")
    assert not (spec.parent / "ran").exists()


def test_a_folder_without_a_tokenizer(spec: Path) -> None:
    save_model(spec.parent / "model", "llama", tokenizer=False)
    refused(spec, "MI0503", "the model has no tokenizer")


def test_damaged_weights(spec: Path) -> None:
    path = save_model(spec.parent / "model", "gpt2") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(spec, "MI0510", "damaged")


def test_a_folder_that_is_not_there(spec: Path) -> None:
    spec.write_text(SPEC.replace("models.hf(id)", 'models.file("nowhere")'))
    refused(spec, "MI0504", "no model folder")
