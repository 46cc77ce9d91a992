"""What a transformers configuration says of a model, read from JSON without torch or transformers.

Keys differ from family to family; the names below are the ones in use. A size that a configuration leaves
to its family's default is left out, not guessed, save where the default is the family-wide convention.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midsl.diagnostics.model import fail
from midsl.models.facts import Facts, Json
from midsl.reach import hub_cache, may_read

_NAMES: dict[str, tuple[str, ...]] = {
    "layer": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "head": ("num_attention_heads", "n_head", "n_heads"),
    "d_model": ("hidden_size", "n_embd", "d_model", "dim"),
    "d_mlp": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocab": ("vocab_size",),
    "ctx": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
}
_HEADS_SPLIT_MODEL = {
    "bert", "bloom", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "granite", "llama", "mistral",
    "mixtral", "olmo", "olmo2", "opt", "phi", "phi3", "qwen2", "roberta", "stablelm", "starcoder2",
}  # fmt: skip
"""Families whose d_head is d_model / heads unless `head_dim` says otherwise."""
_MLP_IS_4X = {"gpt2", "gpt_bigcode", "gptj", "gpt_neo", "bloom"}
_OTHER_DECODERS = {"gemma", "gemma2", "gemma3_text", "qwen2_moe", "qwen3", "qwen3_moe", "falcon", "mamba"}
_BIDIRECTIONAL = {"bert", "roberta", "distilbert", "electra", "albert", "modernbert", "deberta", "deberta-v2"}
_NOT_THE_GRAPH = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"}

DTYPES = {
    "float32": "float32", "fp32": "float32", "float64": "float64", "fp64": "float64",
    "bfloat16": "bfloat16", "bf16": "bfloat16", "float16": "float16", "fp16": "float16",
}  # fmt: skip


def hf_sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """Return axis sizes by axis name from a configuration's dictionary, as far as it says them.

    >>> hf_sizes({"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 32, "vocab_size": 9})["d_mlp"]
    128
    """
    if isinstance(config.get("text_config"), Mapping):
        config = config["text_config"]
    family = config.get("model_type", "")
    sizes: dict[str, int] = {}
    for axis, keys in _NAMES.items():
        value = next((config[k] for k in keys if isinstance(config.get(k), int)), None)
        if value is not None:
            sizes[axis] = value
    if "head" in sizes:
        sizes["kv_head"] = next(
            (config[k] for k in ("num_key_value_heads", "num_kv_heads") if isinstance(config.get(k), int)),
            sizes["head"],
        )
    if isinstance(config.get("head_dim"), int):
        sizes["d_head"] = config["head_dim"]
    elif family in _HEADS_SPLIT_MODEL and {"head", "d_model"} <= sizes.keys():
        sizes["d_head"] = sizes["d_model"] // sizes["head"]
    if "d_mlp" not in sizes and family in _MLP_IS_4X and "d_model" in sizes:
        sizes["d_mlp"] = 4 * sizes["d_model"]
    if family in _HEADS_SPLIT_MODEL | _OTHER_DECODERS | _BIDIRECTIONAL:
        sizes["causal"] = int(family not in _BIDIRECTIONAL or bool(config.get("is_decoder")))
    return sizes


def dtype_name(dtype: str) -> str:
    """Return torch's name of a dtype.

    Raises:
        MiError: MI0509 if it is none that a model may be loaded in.
    """
    if dtype not in DTYPES:
        raise fail("MI0509", f"unknown dtype `{dtype}`", help=f"one of {', '.join(sorted(DTYPES))}")
    return DTYPES[dtype]


def hf_facts(config: Mapping[str, Any], dtype: str, sizes: dict[str, int] | None = None) -> Facts:
    """Return the facts of a transformers model from its configuration as declared.

    Args:
        config: the content of `config.json`, or what a spec gave in its place.
        dtype: the dtype of its weights.
        sizes: axis sizes where the resolved configuration is at hand, else read from `config`.
    """
    declared: dict[str, Json] = {k: v for k, v in config.items() if k not in _NOT_THE_GRAPH}
    arch = str(config.get("model_type", ""))
    graph = {**declared, "dtype": dtype_name(dtype)}
    return Facts(arch, graph, hf_sizes(config) if sizes is None else sizes, ("torch", "transformers"))


def read_config(folder: Path) -> dict[str, Any]:
    """Read the `config.json` of a local folder.

    Raises:
        MiError: MI0504 if the folder or the file is missing, MI0510 if it is not a model configuration,
            MI0516 if it or what it needs is outside the spec's reach.
    """
    may_read(folder)
    if not folder.is_dir():
        raise fail(
            "MI0504",
            f"there is no model folder {folder}",
            help="models.file wants a folder with config.json, *.safetensors and the tokenizer's files",
        )
    path = folder / "config.json"
    config = read_json(path)
    if "model_type" not in config:
        raise fail(
            "MI0510",
            f"{path} is not a transformers configuration: it has no `model_type`",
            help="give the folder of a model that transformers wrote: with config.json and weights",
        )
    return config


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model's folder; MI0504 if it cannot be read, MI0510 if it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise fail(
            "MI0504", f"cannot read {path}: {error.strerror}", help="save the model with its config"
        ) from error
    except (ValueError, RecursionError) as error:
        raise fail("MI0510", f"{path} is not JSON: {error}", help="download the file again") from error
    if not isinstance(found, dict):
        raise fail("MI0510", f"{path} holds no JSON object", help="download the file again")
    return found


def cached_snapshot(id: str, revision: str = "main") -> Path | None:
    """Return the folder of a hub model in the local transformers cache, None if it was never fetched."""
    repo = hub_cache() / f"models--{id.replace('/', '--')}"
    ref = repo / "refs" / revision
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    folder = repo / "snapshots" / commit
    return folder if (folder / "config.json").exists() else None


def describe_file(path: str, dtype: str = "float32") -> Facts:
    """Return the facts of a local model folder; raises as `read_config` does."""
    return hf_facts(read_config(Path(path)), dtype)


def describe_hf(
    id: str, revision: str = "main", dtype: str = "float32", offline: bool = False, trust: bool = False
) -> Facts | None:
    """Return the facts of a hub model that was fetched before (or of a local folder), else None."""
    folder = Path(id) if Path(id).is_dir() else cached_snapshot(id, revision)
    return hf_facts(read_config(folder), dtype) if folder else None


def describe_hf_random(
    type: str,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    tokenizer: str = "",
    perturb: float = 0.0,
) -> Facts:
    """Return the facts of a model with random weights, from the keys that the spec gives."""
    return hf_facts({"model_type": type, **(config or {})}, "float32")
