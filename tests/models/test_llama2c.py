"""llama2.c files: what a writer of the format puts in is what the loader takes out."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

from midsl.diagnostics.model import MiError
from midsl.models.config import tiny_config
from midsl.models.facts import static_key, static_sizes
from midsl.models.llama2c import llama2c
from midsl.models.tiny import TinyTransformer

REF = "midsl.models.llama2c:llama2c"


def small(tied: bool) -> TinyTransformer:
    fields = {
        "layers": 3, "heads": 4, "kv_heads": 2, "d_model": 16, "d_mlp": 24, "vocab": 11, "ctx": 8,
        "bias": False, "norm": "rms", "pos": "rotary_pairs", "act": "silu", "gated": True, "seed": 3,
        "tied": tied,
    }  # fmt: skip
    model = TinyTransformer(tiny_config(fields))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".ln" in name or "ln_" in name:
                weight.add_(0.1 * torch.rand(weight.shape))
    return model


def write(model: TinyTransformer, path: Path) -> Path:
    """Write the format as its description says: header, then each kind of matrix for all layers."""
    config, state = model.config, model.state_dict()
    vocab = config.vocab if config.tied else -config.vocab
    head = [config.d_model, config.d_mlp, config.layers, config.heads, config.kv_heads, vocab, config.ctx]
    kinds = ["ln1", "attn.q", "attn.k", "attn.v", "attn.o", "ln2", "mlp.gate", "mlp.down", "mlp.up"]
    parts = [state["embed.weight"]]
    for kind in kinds:
        parts += [state[f"blocks.{layer}.{kind}.weight"] for layer in range(config.layers)]
    parts += [state["ln_final.weight"], torch.full((config.ctx * config.d_head,), torch.nan)]
    parts += [] if config.tied else [state["unembed.weight"]]
    numbers = torch.cat([part.reshape(-1) for part in parts])
    path.write_bytes(struct.pack("<7i", *head) + numbers.numpy().astype("<f4").tobytes())
    return path


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip(tied: bool, tmp_path: Path) -> None:
    model = small(tied)
    path = str(write(model, tmp_path / "m.bin"))
    loaded = llama2c(path)
    ids = torch.randint(11, (2, 8))
    with torch.no_grad():
        assert torch.equal(loaded.forward(ids, torch.ones_like(ids)), model(ids, torch.ones_like(ids)))
    assert loaded.key == static_key(REF, {"bin": path})
    assert loaded.sizes == static_sizes(REF, {"bin": path})
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.vocab_size == 11


def test_files_transposed_in_place_are_restored(tmp_path: Path) -> None:
    """A tool rewrites each matrix as its transpose, twice, where the file's shapes stay as they were."""
    model = small(True)
    plain = llama2c(str(write(model, tmp_path / "plain.bin")))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                for _ in range(2):
                    weight.copy_(weight.clone().reshape(weight.shape[1], weight.shape[0]).T)
    path = str(write(model, tmp_path / "rewritten.bin"))
    assert llama2c(path).weights_sha256 != plain.weights_sha256
    assert llama2c(path, transposes=2).weights_sha256 == plain.weights_sha256
    with pytest.raises(MiError, match="MI0509"):
        llama2c(path, transposes=-1)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda data: data[:-4], "MI0510"),
        (lambda data: data + b"\0\0\0\0", "MI0510"),
        (lambda data: data[:20], "MI0510"),
        (lambda data: b"GGUF" * 100, "MI0510"),
        (lambda data: None, "MI0504"),
    ],
    ids=["short", "long", "header only", "another format", "missing"],
)
def test_files_of_another_shape_are_refused(spoil: object, code: str, tmp_path: Path) -> None:
    path = write(small(True), tmp_path / "m.bin")
    assert callable(spoil)
    data = spoil(path.read_bytes())
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    for act in (lambda: llama2c(str(path)), lambda: static_sizes(REF, {"bin": str(path)})):
        with pytest.raises(MiError) as caught:
            act()
        assert caught.value.diagnostics[0].code == code
