"""Shared here: the command line in this process, and a small model folder as transformers saves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from midsl.cli import main

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DATA = ROOT.parent / "shared" / "data"
GPT2_BPE = DATA / "gpt2_bpe"

_DECODER = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32,
    "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 64, "bos_token_id": 1}),
    "llama": ("llama", _DECODER),
    "qwen3": ("qwen3", _DECODER | {"head_dim": 8}),
}


def midsl(*args: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(a) for a in args], prog_name="midsl", catch_exceptions=False)


def changed(source: Path, folder: Path, old: str, new: str, count: int = 1) -> Path:
    """A copy of a spec with one thing changed, where it stands first; -1 everywhere."""
    text = source.read_text(encoding="utf-8")
    assert old in text, f"{source.name} has no {old!r}"
    spec = folder / source.name
    spec.write_text(text.replace(old, new, count), encoding="utf-8")
    return spec


def ask(store: Path, query: str) -> list[dict[str, Any]]:
    """The rows that answer a question to a store."""
    done = midsl("sql", query, "--store", store, "--json")
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.output)
    return rows


def save_model(folder: Path, family: str, words: int = 61, tokenizer: bool = True) -> Path:
    """Save a model with random weights, and a tokenizer of so many words, as transformers does."""
    transformers = pytest.importorskip("transformers")
    import torch

    type_, config = FAMILIES[family]
    resolved = transformers.AutoConfig.for_model(type_, vocab_size=words + 3, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        transformers.AutoModelForCausalLM.from_config(resolved).save_pretrained(folder)
    if tokenizer:
        save_tokenizer(folder, words)
    return folder


def save_tokenizer(folder: Path, words: int) -> None:
    """Save a word-level tokenizer whose rows begin with `<s>`."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    vocab = {w: i for i, w in enumerate(["<pad>", "<s>", "</s>", *(f"w{k}" for k in range(words))])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<pad>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<pad>"
    )
    fast.save_pretrained(folder)
