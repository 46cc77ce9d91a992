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

from tests.artefacts.common import CASES, Case
from tests.artefacts.test_files import computed

SAE_LENS = [n for n in CASES if n.startswith("SAELens") and "before 6" not in n and "heads" not in n]
DICTIONARY_LEARNING = [n for n in CASES if n.startswith("dictionary_learning")]
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
