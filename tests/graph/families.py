"""Tiny random models of each family, and a small executor of specialised graphs, for the tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from midsl.graph.sites import ModelGraph, build_model_graph, specialise

torch.set_num_threads(1)  # the models are tiny: threads that wait for each other cost more than they do

Site = tuple[str, int | None]

_LLAMA: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GQA = _LLAMA | {"num_key_value_heads": 2}
_GEMMA = _GQA | {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8}
_GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
_OPT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 48,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 32,
}

CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("gpt2", "transformer.h", _GPT2 | {"bos_token_id": 1, "eos_token_id": 2}),
    "llama": ("llama", "model.layers", _GQA),
    "neox": ("gpt_neox", "gpt_neox.layers", _LLAMA | {"use_parallel_residual": True}),
    "gemma2": ("gemma2", "model.layers", _GEMMA),
    "neox_sequential": ("gpt_neox", "gpt_neox.layers", _LLAMA | {"use_parallel_residual": False}),
    "gemma3": (
        "gemma3_text",
        "model.layers",
        _GEMMA | {"layer_types": ["sliding_attention", "full_attention"]},
    ),
    "qwen2": ("qwen2", "model.layers", _GQA),
    "qwen3": ("qwen3", "model.layers", _GQA | {"head_dim": 8}),
    "phi3": ("phi3", "model.layers", _GQA),
    "opt": ("opt", "model.decoder.layers", _OPT),
    "mixtral": ("mixtral", "model.layers", _GQA | {"num_local_experts": 4, "num_experts_per_tok": 2}),
}
TINY: dict[str, dict[str, Any]] = {
    "tiny_attn_only": {"d_mlp": 0, "norm": "layer"},
    "tiny_bare": {"d_mlp": 0, "norm": "none", "final_norm": False, "pos": "none"},
    "tiny_gated": {"d_mlp": 48, "norm": "rms", "gated": True, "pos": "rotary", "kv_heads": 2, "tied": True},
    "tiny_pairs": {"d_mlp": 48, "norm": "rms", "gated": True, "pos": "rotary_pairs", "act": "silu"},
    "tiny_encoder": {"d_mlp": 48, "causal": False, "act": "relu", "unembed_bias": True},
}
EAGER = ("gemma2", "gptj", "bloom", "gpt_neo", "mamba")
QUICK = ("gpt2", "llama", "neox", "gemma2", "tiny_attn_only", "tiny_gated")
LIFTED_QUICK = ("gpt2", "llama", "tiny_gated")


def _marked(quick: tuple[str, ...]) -> list[Any]:
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in (*CONFIGS, *TINY)]


ALL = _marked(QUICK)
"""Every family; those beyond `QUICK` are slow tests."""
ALL_LIFTED = _marked(LIFTED_QUICK)
"""Every family, for tests of float64 graphs: each is an export more."""


class Wrapped(nn.Module):
    """A transformers model as the graph wants it: ids and mask in, logits out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        logits: Tensor = out.logits
        return logits


@dataclass
class Model:
    """What `build_model_graph` needs of a loaded model."""

    module: nn.Module
    forward: nn.Module
    arch: str
    key: str
    blocks_path: str | None
    max_pos: int | None


def _hf(name: str) -> Model:
    import transformers

    kind, path, fields = CONFIGS[name]
    config = transformers.AutoConfig.for_model(kind, **fields)
    options = {"attn_implementation": "eager" if kind in EAGER else "sdpa"}
    if kind == "mixtral":
        options["experts_implementation"] = "batched_mm"
    module = transformers.AutoModelForCausalLM.from_config(config, **options)  # type: ignore[no-untyped-call]
    return Model(module, Wrapped(module), kind, f"test-{name}", path, 64)


def _tiny(name: str) -> Model:
    return tiny(name, TINY[name])


def tiny(name: str, fields: dict[str, Any]) -> Model:
    """Return a toy of ours."""
    from midsl.models.config import tiny_config
    from midsl.models.tiny import TinyTransformer

    module = TinyTransformer(tiny_config({"vocab": 64, "ctx": 64} | fields))
    return Model(module, module.eval(), "tiny", f"test-{name}", "blocks", 64)


def empty(name: str) -> Model:
    """Return a family's model without weights."""
    with torch.device("meta"):
        return _hf(name) if name in CONFIGS else _tiny(name)


@cache
def model(name: str) -> Model:
    """Return a family's model, with biases and norm weights moved off their starting values."""
    torch.manual_seed(0)
    made = _hf(name) if name in CONFIGS else _tiny(name)
    made.forward.eval()
    for p in made.forward.parameters():
        p.requires_grad_(False)
        p.add_(torch.randn_like(p) * (0.1 if p.dim() == 1 else 0.05))
    return made


@cache
def graph(name: str, lift: bool = False) -> ModelGraph:
    """Return a family's graph, built once per session."""
    return build_model_graph(model(name), lift=lift)


def rows(batch: int = 3, length: int = 7, pads: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random ids and a mask whose second row ends in pads."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 60, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    if batch > 1 and length > pads:
        mask[1, length - pads :] = 0
    return ids, mask


def edge(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Wrap a function so that it is new to fx (which would fold two equal ones)."""
    return lambda x: fn(x)


def run(
    mg: ModelGraph,
    inputs: tuple[Tensor, Tensor],
    reads: Iterable[Site] = (),
    edits: dict[Site, Callable[[Tensor], Tensor]] | None = None,
    grad: bool = False,
) -> dict[Site, Tensor]:
    """Run with edits; the functions get values in canonical axis order. Returns reads and the logits."""
    edits = edits or {}
    wanted = [*reads, *edits]
    table, places = specialise(mg, wanted, edits)
    by_name = {n.name: n for n in table.nodes}
    nodes = {site: by_name[place.node] for site, place in places.items()}
    for site, fn in edits.items():
        order = _order(mg, site, places[site].layout)
        node = nodes[site]

        def apply(x: Tensor, fn: Callable[[Tensor], Tensor] = fn, order: list[int] = order) -> Tensor:
            back = [order.index(i) for i in range(len(order))]
            return fn(x.permute(order)).permute(back)

        with table.inserting_after(node):
            new = table.call_function(apply, (node,))
        node.replace_all_uses_with(new, delete_user_cb=lambda u, new=new: u is not new)
        for other, n in nodes.items():
            if n is node:
                nodes[other] = new
    output = next(n for n in table.nodes if n.op == "output")
    sites = list(dict.fromkeys([*reads, *edits]))
    logits = output.args[0]
    output.args = ([logits, *[nodes[s] for s in sites]],)
    table.lint()
    module = fx.GraphModule(mg.gm, table)
    with torch.set_grad_enabled(grad):
        values = module(*inputs)
    out = {s: v.permute(_order(mg, s, places[s].layout)) for s, v in zip(sites, values[1:], strict=True)}
    out["logits", None] = values[0]
    return out


def _order(mg: ModelGraph, site: Site, layout: tuple[Any, ...]) -> list[int]:
    row = mg.info.site(site[0])
    assert row is not None
    assert sorted(row.axes) == sorted(layout), (site, row.axes, layout)
    return [layout.index(axis) for axis in row.axes]
