"""TransformerLens 2, HookedTransformer: `typical` runs whole forwards, `fast` starts at the patched layer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from common import CAPTURED, DIRECTION, Inputs, main, points, timed, whole


def load(inputs: Inputs) -> Any:
    """The same weights, unprocessed."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    hf = inputs.load()
    c = hf.config
    cfg = HookedTransformerConfig(
        n_layers=c.n_layer,
        d_model=c.n_embd,
        n_ctx=c.n_positions,
        d_head=c.n_embd // c.n_head,
        n_heads=c.n_head,
        d_mlp=4 * c.n_embd,
        d_vocab=c.vocab_size,
        act_fn="gelu_new",
        eps=c.layer_norm_epsilon,
        normalization_type="LN",
        device="cpu",
    )
    model = HookedTransformer(cfg)
    model.load_and_process_state_dict(
        convert_gpt2_weights(hf, cfg),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return model.eval()


def name_of(workload: str, layer: int) -> str:
    return f"blocks.{layer}.hook_resid_pre" if workload in ("w1", "w6") else f"blocks.{layer}.attn.hook_z"


def sweep(workload: str, fast: bool) -> Any:
    """A worker for w1, w2, w2last and w6."""

    def work(inputs: Inputs, k: int) -> dict[str, Any]:
        model = load(inputs).requires_grad_(False)
        direction = model.W_U[:, DIRECTION]

        def once() -> Any:
            ends = ("hook_z",) if workload.startswith("w2") else ("hook_resid_pre",)
            with torch.no_grad():
                _, clean = model.run_with_cache(inputs.clean, names_filter=lambda n: n.endswith(ends))
                logits, base = model.run_with_cache(
                    inputs.corrupt, names_filter=lambda n: fast and n.endswith("hook_resid_pre")
                )
            return clean, base, inputs.difference(logits[:, -1])

        def each(state: Any, point: Any) -> float:
            (layer, second), (clean, base, value) = point, state
            name = name_of(workload, layer)

            def edit(x: torch.Tensor, hook: Any) -> torch.Tensor:
                if workload == "w1":
                    x[:, second] = clean[name][:, second]
                elif workload == "w6":
                    x = x + second * direction
                else:
                    at = slice(None) if workload == "w2" else slice(-1, None)
                    x[:, at, second] = clean[name][:, at, second]
                return x

            with torch.no_grad():
                if fast:
                    start = base[f"blocks.{layer}.hook_resid_pre"].clone()
                    logits = model.run_with_hooks(start, start_at_layer=layer, fwd_hooks=[(name, edit)])
                else:
                    logits = model.run_with_hooks(inputs.corrupt, fwd_hooks=[(name, edit)])
            return float(inputs.difference(logits[:, -1]) - value)

        every = points(workload, model.cfg.n_layers, model.cfg.n_heads, inputs.clean.shape[1])
        found: dict[str, Any] = timed(once, each, every, k)
        return found

    return work


def ablation(fast: bool) -> Any:
    """A worker for w5; `fast` encodes once, and starts at the edited layer."""

    def work(inputs: Inputs, k: int) -> dict[str, Any]:
        model = load(inputs).requires_grad_(False)
        sae = inputs.dictionary
        assert sae is not None
        name = f"blocks.{sae.layer}.hook_resid_pre"

        def once() -> Any:
            with torch.no_grad():
                logits, cache = model.run_with_cache(inputs.clean, names_filter=name)
                return cache[name], sae.encode(cache[name]), inputs.difference(logits[:, -1])

        def each(state: Any, feature: int) -> float:
            start, known, base = state

            def edit(x: torch.Tensor, hook: Any) -> torch.Tensor:
                found: torch.Tensor = sae.without(x, known if fast else sae.encode(x), feature)
                return found

            with torch.no_grad():
                if fast:
                    hooks = [(name, edit)]
                    logits = model.run_with_hooks(start.clone(), start_at_layer=sae.layer, fwd_hooks=hooks)
                else:
                    logits = model.run_with_hooks(inputs.clean, fwd_hooks=[(name, edit)])
            return float(inputs.difference(logits[:, -1]) - base)

        found: dict[str, Any] = timed(once, each, sae.features, k)
        return found

    return work


def attribution(fast: bool) -> Any:
    """A worker for w3; `fast` asks for no gradients of weights."""

    def work(inputs: Inputs, k: int) -> dict[str, Any]:
        model = load(inputs).requires_grad_(not fast)
        layers = model.cfg.n_layers

        def once() -> torch.Tensor:
            model.zero_grad(set_to_none=True)
            with torch.no_grad():
                _, clean = model.run_with_cache(inputs.clean, names_filter=lambda n: n.endswith("hook_z"))
            kept: dict[str, torch.Tensor] = {}

            def keep(x: torch.Tensor, hook: Any) -> torch.Tensor:
                if not x.requires_grad:
                    x = x.detach().requires_grad_(True)
                x.retain_grad()
                kept[hook.name] = x
                return x

            logits = model.run_with_hooks(inputs.corrupt, fwd_hooks=[(lambda n: n.endswith("hook_z"), keep)])
            inputs.difference(logits[:, -1]).backward()
            rows = []
            for i in range(layers):
                x = kept[name_of("w3", i)]
                assert x.grad is not None
                rows.append(((clean[name_of("w3", i)] - x.detach()) * x.grad).sum((0, 1, 3)))
            return torch.stack(rows)

        result: dict[str, Any] = whole(once)
        return result

    return work


def capture(fast: bool) -> Any:
    """A worker for w4; `fast` stops after block 8."""

    def work(inputs: Inputs, k: int) -> dict[str, Any]:
        model = load(inputs).requires_grad_(False)
        ends = ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post")
        names = [f"blocks.{b}.{e}" for b in CAPTURED for e in ends]

        def once() -> torch.Tensor:
            more: dict[str, Any] = {"stop_at_layer": max(CAPTURED) + 1} if fast else {}
            with torch.no_grad():
                _, kept = model.run_with_cache(inputs.clean, names_filter=names, **more)
            assert len(kept) == len(names)
            found: torch.Tensor = kept["blocks.8.hook_resid_post"].mean((0, 2))
            return found

        result: dict[str, Any] = whole(once)
        return result

    return work


if __name__ == "__main__":
    main("transformer-lens", sweep, attribution, capture, ablation)
