"""Transformers models: random ones of each family, folders, and everything that can be wrong with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from midsl.diagnostics.model import MiError
from midsl.models.facts import static_key, static_sizes
from midsl.models.hf import file, hf, hf_random
from midsl.models.loaded import LoadedModel

pytest.importorskip("transformers")

BASE: dict[str, Any] = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 16, "intermediate_size": 24,
    "vocab_size": 13, "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GQA = BASE | {"num_key_value_heads": 2}
GPT = {"n_layer": 2, "n_head": 4, "n_embd": 16, "vocab_size": 13, "n_positions": 16}
GPT_2: dict[str, Any] = GPT | {"bos_token_id": 1, "eos_token_id": 2}
FAMILIES: dict[str, tuple[dict[str, Any], str, str]] = {
    "gpt2": (GPT_2, "sdpa", "model.transformer.h"),
    "gptj": (GPT_2 | {"rotary_dim": 2}, "", "model.transformer.h"),
    "llama": (GQA, "sdpa", "model.model.layers"),
    "gpt_neox": (BASE, "sdpa", "model.gpt_neox.layers"),
    "gemma2": (GQA | {"head_dim": 8}, "eager", "model.model.layers"),
    "gemma3_text": (GQA | {"head_dim": 8}, "sdpa", "model.model.layers"),
    "qwen2": (GQA, "sdpa", "model.model.layers"),
    "qwen3": (GQA | {"head_dim": 8}, "sdpa", "model.model.layers"),
    "phi3": (GQA, "sdpa", "model.model.layers"),
    "opt": (BASE | {"ffn_dim": 24, "word_embed_proj_dim": 16}, "sdpa", "model.model.decoder.layers"),
    "mixtral": (GQA | {"num_local_experts": 4}, "sdpa", "model.model.layers"),
}
FAMILIES["opt"][0].pop("intermediate_size")


def random(family: str, seed: int = 0, **extra: Any) -> LoadedModel:
    return hf_random(family, FAMILIES[family][0], seed=seed, **extra)


def theirs(model: LoadedModel) -> Any:
    """The transformers model itself."""
    return model.module


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    config, attention, blocks = FAMILIES[family]
    model = random(family)
    assert model.arch == family
    can = "sdpa" if theirs(model)._supports_sdpa else "eager"  # GPT-J could not before transformers 5.24
    assert theirs(model).config._attn_implementation == (attention or can)
    assert model.blocks_path == blocks
    found = model.forward.get_submodule(blocks)
    assert isinstance(found, nn.ModuleList)
    assert len(found) == 2
    assert model.max_pos == 16
    sizes = {"layer": 2, "head": 4, "d_model": 16, "vocab": 13, "causal": 1}
    assert sizes.items() <= model.sizes.items()
    assert model.sizes["d_head"] == config.get("head_dim", 4)
    assert model.sizes["kv_head"] == config.get("num_key_value_heads", 4)

    ids = torch.randint(13, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with torch.no_grad():
        logits = model.forward(ids, mask)
        alone = model.forward(ids[1:, :5], mask[1:, :5])
    assert logits.shape == (2, 9, 13)
    assert torch.allclose(logits[1:, :5], alone, atol=1e-5), "padding on the right changed a real position"

    args = {"type": family, "config": config}
    assert static_key("midsl.models.hf:hf_random", args) == model.key
    known = static_sizes("midsl.models.hf:hf_random", args)
    assert known is not None
    assert known.items() <= model.sizes.items()


def test_a_seed_is_the_weights() -> None:
    state = torch.get_rng_state()
    one, same, other = random("gpt2", 3), random("gpt2", 3), random("gpt2", 4)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    assert one.weights_sha256 == same.weights_sha256 != other.weights_sha256
    assert one.key == other.key
    eager, again = random("gptj", 3), random("gptj", 3)
    assert eager.weights_sha256 == again.weights_sha256


def test_perturbed_biases_and_norms() -> None:
    plain, moved = random("gpt2").module, random("gpt2", perturb=0.1).module
    pairs = zip(plain.named_parameters(), moved.parameters(), strict=True)
    for (name, before), after in pairs:
        assert torch.equal(before, after) == (before.ndim > 1), name


def test_folder_gives_the_model_back(tmp_path: Path) -> None:
    model = random("llama")
    theirs(model).save_pretrained(tmp_path)
    loaded = file(str(tmp_path))
    assert loaded.weights_sha256 == model.weights_sha256
    assert loaded.tokenizer is None
    assert loaded.key == static_key("midsl.models.hf:file", {"path": str(tmp_path)})
    assert loaded.sizes == model.sizes
    assert hf(str(tmp_path)).key == loaded.key == static_key("midsl.models.hf:hf", {"id": str(tmp_path)})
    half = file(str(tmp_path), dtype="bf16")
    assert half.key == static_key("midsl.models.hf:file", {"path": str(tmp_path), "dtype": "bfloat16"})
    assert half.key != loaded.key
    assert {p.dtype for p in half.module.parameters()} == {torch.bfloat16}


def test_folder_of_half_precision_runs_in_float32(tmp_path: Path) -> None:
    theirs(random("gpt2")).to(torch.bfloat16).save_pretrained(tmp_path)
    assert {p.dtype for p in file(str(tmp_path)).module.parameters()} == {torch.float32}


def test_masked_language_models_keep_their_head(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    bert = transformers.BertForMaskedLM(transformers.BertConfig(**BASE)).eval()
    bert.save_pretrained(tmp_path)
    model = file(str(tmp_path))
    ids = torch.randint(13, (2, 6))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        wanted = bert(input_ids=ids, attention_mask=mask).logits
        assert torch.allclose(model.forward(ids, mask), wanted, atol=1e-6)
    assert model.sizes["causal"] == 0


def refused(code: str, says: str, act: Any) -> str:
    """The act fails with one diagnostic; return its help."""
    with pytest.raises(MiError) as caught:
        act()
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    assert says in f"{diagnostic.message} {diagnostic.help}"
    return diagnostic.help


def test_configurations_that_are_not_valid() -> None:
    refused("MI0509", "did you mean `gpt2`?", lambda: hf_random("gtp2"))
    refused("MI0509", "did you mean `n_layer`?", lambda: hf_random("gpt2", {"n_layers": 2}))
    refused("MI0509", "cannot be built", lambda: hf_random("gpt2", GPT_2 | {"n_head": 3}))
    refused("MI0509", "n_layer", lambda: hf_random("gpt2", {"n_layer": "two"}))


def test_folders_that_are_not_models(tmp_path: Path) -> None:
    refused("MI0504", "no model folder", lambda: file(str(tmp_path / "nowhere")))
    refused("MI0504", "config.json", lambda: file(str(tmp_path)))
    (tmp_path / "config.json").write_text("{")
    refused("MI0510", "is not JSON", lambda: file(str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    refused("MI0510", "model_type", lambda: file(str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"} | GPT_2))
    refused("MI0504", "cannot read the weights", lambda: file(str(tmp_path)))
    refused("MI0509", "unknown dtype", lambda: file(str(tmp_path), dtype="float"))


def test_damaged_weights(tmp_path: Path) -> None:
    theirs(random("gpt2")).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused("MI0510", "damaged", lambda: file(str(tmp_path)))


def test_weights_that_do_not_fill_the_model(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    theirs(random("llama")).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if k != "lm_head.weight"}, path, {"format": "pt"})
    refused("MI0510", "lm_head.weight", lambda: file(str(tmp_path)))
    save_file(tensors | {"lm_head.weight": torch.ones(3, 16)}, path, {"format": "pt"})
    refused("MI0510", "", lambda: file(str(tmp_path)))


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self.at,))


def test_pickled_weights_that_would_run_code(tmp_path: Path) -> None:
    theirs(random("gpt2")).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"wte": Bomb(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    refused("MI0508", "would run code", lambda: file(str(tmp_path)))
    assert not (tmp_path / "ran").exists()


def test_code_in_a_folder_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    code = {"AutoConfig": "modeling.C", "AutoModelForCausalLM": "modeling.M"}
    config = {"model_type": "mine", "auto_map": code}
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused("MI0605", "--trust", lambda: file(str(tmp_path)))
    assert not (tmp_path / "ran").exists()


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    help = refused("MI0507", "not in the local cache", lambda: hf("no-such-org/no-such-model", offline=True))
    assert "models.file" in help
    refused("MI0507", "neither a folder nor a hub name", lambda: hf("a/b/c/d"))

    def unreachable(*_: Any, **__: Any) -> str:
        raise errors.LocalEntryNotFoundError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    refused("MI0507", "the hub cannot be reached", lambda: hf("some-org/some-model"))


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused("MI0507", 'pip install "midsl[hf]"', lambda: hf_random("gpt2"))
