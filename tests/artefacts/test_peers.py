"""The same weights in the packages themselves: their forward pass and ours agree to 1e-6.

A package that is not installed is skipped; none is a dependency of midsl.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.artefacts import test_cross_layer as cross_layer
from tests.artefacts.common import CASES, Case, D
from tests.artefacts.test_files import computed
from tests.examples.common import midsl

SAE_LENS = [n for n in CASES if n.startswith("SAELens") and "before 6" not in n and "heads" not in n]
DICTIONARY_LEARNING = [n for n in CASES if n.startswith("dictionary_learning")]
CIRCUIT_TRACER = [n for n in CASES if n.startswith("circuit-tracer")]
SPARSIFY = [n for n in CASES if n.startswith("sparsify")]


def ours(case: Case, folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """What the site holds, the code and what is written for it, one row of each position."""
    case.write(folder / "there", torch.float32)
    found = computed(folder, case.declare.format("there"))
    return found["seen"], found["code"], found["back"]


def peer(name: str) -> Any:
    """A package, or skip: also where what it needs is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name}: {error}")


@pytest.mark.parametrize("name", SAE_LENS)
def test_sae_lens_computes_the_same(name: str, tmp_path: Path) -> None:
    sae_lens = peer("sae_lens")
    seen, code, back = ours(CASES[name], tmp_path)
    kind = sae_lens.Transcoder if "transcoder" in name else sae_lens.SAE
    loaded = kind.load_from_disk(str(tmp_path / "there"), device="cpu")
    with torch.no_grad():
        theirs = loaded.encode(seen)
        assert torch.allclose(theirs, code, atol=1e-6, rtol=1e-6)
        assert torch.allclose(loaded.decode(theirs), back, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", DICTIONARY_LEARNING)
def test_dictionary_learning_computes_the_same(name: str, tmp_path: Path) -> None:
    peer("dictionary_learning")
    utils = peer("dictionary_learning.utils")
    seen, code, back = ours(CASES[name], tmp_path)
    loaded, _ = utils.load_dictionary(str(tmp_path / "there"), device="cpu")
    with torch.no_grad():
        if name.endswith(" AutoEncoder"):  # its loader makes decoder rows unit: the same sums, in other units
            assert torch.allclose(loaded(seen), back, atol=1e-5, rtol=1e-5)
            path = str(tmp_path / "there" / "ae.pt")
            loaded = type(loaded).from_pretrained(path, normalize_decoder=False)
        theirs = loaded.encode(seen)
        assert torch.allclose(theirs, code, atol=1e-6, rtol=1e-6)
        assert torch.allclose(loaded.decode(theirs), back, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", SPARSIFY)
def test_sparsify_computes_the_same(name: str, tmp_path: Path) -> None:
    sparsify = peer("sparsify")
    seen, code, _ = ours(CASES[name], tmp_path)
    loaded = sparsify.SparseCoder.load_from_disk(tmp_path / "there", device="cpu")
    with torch.no_grad():
        found = loaded.encode(seen)
        theirs = torch.zeros_like(code).scatter(-1, found.top_indices, found.top_acts)
    assert torch.allclose(theirs, code, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", CIRCUIT_TRACER)
def test_circuit_tracer_computes_the_same(name: str, tmp_path: Path) -> None:
    single = peer("circuit_tracer.transcoder.single_layer_transcoder")
    case = CASES[name]
    seen, code, back = ours(case, tmp_path)
    path = str(tmp_path / "there" / "layer_0.safetensors")
    loaded = single.load_relu_transcoder(path, 0, torch.device("cpu"), torch.float32, False, False)
    with torch.no_grad():
        theirs = loaded.encode(seen)
        assert torch.allclose(theirs, code, atol=1e-6, rtol=1e-6)
        if loaded.W_skip is not None:  # with us `predict` has the skip, and `decode` is of the code alone
            back = computed(tmp_path, case.declare.format("there"), "s.predict(r[y])")["back"]
        assert torch.allclose(loaded.decode(theirs, seen), back, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("jumps", [True, False])
def test_circuit_tracer_computes_the_same_across_layers(jumps: bool, tmp_path: Path) -> None:
    across = peer("circuit_tracer.transcoder.cross_layer_transcoder")
    cross_layer.there(tmp_path / "there", jumps=jumps)
    found = cross_layer.computed(tmp_path)
    how = {"device": torch.device("cpu"), "dtype": torch.float32, "lazy_decoder": False}
    loaded = across.load_clt(str(tmp_path / "there"), **how)
    with torch.no_grad():
        theirs = loaded.encode(found["seen"])
        assert torch.allclose(theirs, found["code"], atol=1e-6, rtol=1e-6)
        assert torch.allclose(loaded.decode(theirs), found["back"], atol=1e-6, rtol=1e-6)
        assert torch.allclose(loaded(found["seen"]), found["back"], atol=1e-6, rtol=1e-6)


def test_circuit_tracer_reads_what_is_written(tmp_path: Path) -> None:
    """A transcoder that midsl fits across layers computes the same in the package."""
    across = peer("circuit_tracer.transcoder.cross_layer_transcoder")
    made = (
        "cross_layer_transcoder(from: m.blocks[*].resid_mid, to: m.blocks[*].mlp_out, d_sae: 10, layers: 2, "
        "fit: { on: d, steps: 5, batch: 4 })"
    )
    found = cross_layer.computed(tmp_path, made)
    where = ("--format", "circuit_tracer", "--to", tmp_path / "out")
    assert midsl("export-lens", cross_layer.spec(tmp_path, made), "s", *where).exit_code == 0
    how = {"device": torch.device("cpu"), "dtype": torch.float32, "lazy_decoder": False}
    loaded = across.load_clt(str(tmp_path / "out"), **how)
    with torch.no_grad():
        assert torch.allclose(loaded.encode(found["seen"]), found["code"], atol=1e-6, rtol=1e-6)
        assert torch.allclose(loaded(found["seen"]), found["back"], atol=1e-6, rtol=1e-6)


def test_tuned_lens_computes_the_same(tmp_path: Path) -> None:
    lenses = peer("tuned_lens.nn.lenses")
    seen, code, _ = ours(CASES["tuned-lens"], tmp_path)

    class Unembed(torch.nn.Module):
        """As much of a model as the loader asks for: a lens' translation needs none."""

        def __init__(self) -> None:
            super().__init__()
            self.unembedding = torch.nn.Linear(D, 3)

        def unembedding_hash(self) -> str:
            return ""

    loaded = lenses.TunedLens.from_unembed_and_pretrained(Unembed(), str(tmp_path / "there"))
    with torch.no_grad():
        theirs = loaded.transform_hidden(seen, 1)
    assert torch.allclose(theirs, code, atol=1e-6, rtol=1e-6)
