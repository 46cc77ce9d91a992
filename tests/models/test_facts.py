"""Facts without torch: they cost no import, and their key is the loaded model's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from midsl.models.facts import describe, static_key, static_sizes
from midsl.models.toy import toy

TOY = "midsl.models.toy:toy"


def test_describing_imports_no_torch(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 5, "n_positions": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    code = f"""
import sys
from midsl.models.facts import static_key, static_sizes
assert static_sizes("midsl.models.toy:toy", {{"layers": 5}})["layer"] == 5
assert static_sizes("midsl.models.hf:file", {{"path": {str(tmp_path)!r}}})["d_mlp"] == 32
assert static_key("midsl.models.hf:hf_random", {{"type": "gpt2", "config": {{}}}})
assert static_key("midsl.models.hf:hf", {{"id": "no-such/model"}}) is None
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_toy_sizes_and_key() -> None:
    args: dict[str, Any] = {"layers": 3, "heads": 2, "d_model": 8, "d_mlp": 12, "vocab": 9, "ctx": 6}
    args["seed"] = 4
    model = toy(**args)
    assert static_key(TOY, args) == model.key
    assert static_sizes(TOY, args) == model.sizes
    assert model.sizes == {
        "layer": 3, "head": 2, "kv_head": 2, "d_model": 8, "d_head": 4, "d_mlp": 12,
        "vocab": 9, "ctx": 6, "causal": 1,
    }  # fmt: skip


def test_key_holds_what_decides_the_graph_and_nothing_else() -> None:
    base = static_key(TOY, {})
    assert static_key(TOY, {"seed": 7}) == base
    assert static_key(TOY, {"layers": 2}) == base, "a default that is spelt out is the same model"
    for change in ({"layers": 3}, {"norm": "none"}, {"attn_scale": 1.0}, {"causal": False}):
        assert static_key(TOY, change) != base


def test_what_is_not_a_loader_has_no_facts() -> None:
    assert describe("somebody.else:build", {}) is None


def test_hub_model_in_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = tmp_path / "models--some-one--small"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    (repo / "snapshots" / "abc").mkdir(parents=True)
    config = {"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 8, "num_attention_heads": 2}
    (repo / "snapshots" / "abc" / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    sizes = static_sizes("midsl.models.hf:hf", {"id": "some-one/small"})
    assert sizes == {"layer": 3, "head": 2, "d_model": 8, "kv_head": 2, "d_head": 4, "causal": 1}
    assert static_sizes("midsl.models.hf:hf", {"id": "some-one/small", "revision": "v2"}) is None


def test_toy_tokenizers() -> None:
    plain = toy(vocab=6).tokenizer
    assert plain is not None
    assert plain.encode("3 1") == [0, 3, 1]
    words = toy(vocab=3, words=["^", "a", "b"], bos="^").tokenizer
    assert words is not None
    assert words.encode("b a") == [0, 2, 1]


def test_weights_hash_follows_the_weights() -> None:
    one, same, other = toy(seed=1), toy(seed=1), toy(seed=2)
    assert one.weights_sha256 == same.weights_sha256 != other.weights_sha256
    assert one.key == other.key
    assert not one.module.training
    assert not any(p.requires_grad for p in one.module.parameters())
