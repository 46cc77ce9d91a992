"""Plain transformers with module hooks: `typical` takes all logits, `fast` the last position's only."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from common import CAPTURED, DIRECTION, Inputs, main, points, timed, whole


def run(model: Any, tokens: torch.Tensor, fast: bool) -> torch.Tensor:
    """Logits [n, vocab] of the last position."""
    found: torch.Tensor = model(tokens, use_cache=False, logits_to_keep=1 if fast else 0).logits[:, -1]
    return found


def sweep(workload: str, fast: bool) -> Any:
    """A worker for w1, w2, w2last and w6."""

    def work(inputs: Inputs, k: int) -> dict[str, Any]:
        model = inputs.load().requires_grad_(False)
        blocks = model.transformer.h
        heads, width = model.config.n_head, model.config.n_embd
        size = width // heads
        direction = model.lm_head.weight[DIRECTION]

        def once() -> Any:
            kept: dict[int, torch.Tensor] = {}
            handles = []
            for i, block in enumerate(blocks):
                place = block if workload in ("w1", "w6") else block.attn.c_proj
                handles.append(
                    place.register_forward_pre_hook(lambda _, a, i=i: kept.__setitem__(i, a[0].clone()))
                )
            with torch.no_grad():
                run(model, inputs.clean, fast)
                for h in handles:
                    h.remove()
                base = inputs.difference(run(model, inputs.corrupt, fast))
            return kept, base

        def each(state: Any, point: Any) -> float:
            (layer, second), (kept, base) = point, state

            def edit(_: Any, args: Any) -> Any:
                x = args[0].clone()
                if workload == "w1":
                    x[:, second] = kept[layer][:, second]
                elif workload == "w6":
                    x = x + second * direction
                else:
                    at = slice(None) if workload == "w2" else slice(-1, None)
                    own = slice(second * size, (second + 1) * size)
                    x[:, at, own] = kept[layer][:, at, own]
                return (x, *args[1:])

            place = blocks[layer] if workload in ("w1", "w6") else blocks[layer].attn.c_proj
            handle = place.register_forward_pre_hook(edit)
            with torch.no_grad():
                out = inputs.difference(run(model, inputs.corrupt, fast))
            handle.remove()
            return float(out - base)

        every = points(workload, len(blocks), heads, inputs.clean.shape[1])
        found: dict[str, Any] = timed(once, each, every, k)
        return found

    return work


def ablation(fast: bool) -> Any:
    """A worker for w5; `fast` encodes once, and asks for the last position's logits only."""

    def work(inputs: Inputs, k: int) -> dict[str, Any]:
        model = inputs.load().requires_grad_(False)
        sae = inputs.dictionary
        assert sae is not None
        place = model.transformer.h[sae.layer]

        def once() -> Any:
            kept: list[torch.Tensor] = []
            handle = place.register_forward_pre_hook(lambda _, a: kept.append(a[0].clone()))
            with torch.no_grad():
                base = inputs.difference(run(model, inputs.clean, fast))
                code = sae.encode(kept[0])
            handle.remove()
            return code, base

        def each(state: Any, feature: int) -> float:
            known, base = state

            def edit(_: Any, args: Any) -> Any:
                code = known if fast else sae.encode(args[0])
                return (sae.without(args[0], code, feature), *args[1:])

            handle = place.register_forward_pre_hook(edit)
            with torch.no_grad():
                out = inputs.difference(run(model, inputs.clean, fast))
            handle.remove()
            return float(out - base)

        found: dict[str, Any] = timed(once, each, sae.features, k)
        return found

    return work


def attribution(fast: bool) -> Any:
    """A worker for w3; `fast` asks for no gradients of weights."""

    def work(inputs: Inputs, k: int) -> dict[str, Any]:
        model = inputs.load()
        model.requires_grad_(not fast)
        blocks, heads = model.transformer.h, model.config.n_head

        def once() -> torch.Tensor:
            model.zero_grad(set_to_none=True)
            kept: dict[str, dict[int, torch.Tensor]] = {"clean": {}, "corrupt": {}}
            for side, tokens in (("clean", inputs.clean), ("corrupt", inputs.corrupt)):
                handles = []
                for i, block in enumerate(blocks):

                    def keep(_: Any, args: Any, i: int = i, side: str = side) -> Any:
                        x = args[0]
                        if side == "corrupt" and not x.requires_grad:
                            x = x.detach().requires_grad_(True)
                        if side == "corrupt":
                            x.retain_grad()
                        kept[side][i] = x
                        return (x, *args[1:])

                    handles.append(block.attn.c_proj.register_forward_pre_hook(keep))
                with torch.set_grad_enabled(side == "corrupt"):
                    out = inputs.difference(run(model, tokens, fast))
                for h in handles:
                    h.remove()
            out.backward()
            rows = []
            for i in range(len(blocks)):
                grad = kept["corrupt"][i].grad
                assert grad is not None
                product = (kept["clean"][i] - kept["corrupt"][i].detach()) * grad
                rows.append(product.reshape(*product.shape[:2], heads, -1).sum((0, 1, 3)))
            return torch.stack(rows)

        result: dict[str, Any] = whole(once)
        return result

    return work


class Stop(Exception):
    """Raised after the deepest place: nothing further is needed."""


def capture(fast: bool) -> Any:
    """A worker for w4; `fast` stops after block 8."""

    def work(inputs: Inputs, k: int) -> dict[str, Any]:
        model = inputs.load().requires_grad_(False)
        kept: dict[str, torch.Tensor] = {}

        def stop(*_: Any) -> None:
            raise Stop

        for b in CAPTURED:
            block = model.transformer.h[b]
            block.register_forward_pre_hook(
                lambda _, a, b=b: kept.__setitem__(f"resid_pre_{b}", a[0].clone())
            )
            for name, place in (("attn_out", block.attn), ("mlp_out", block.mlp), ("resid_post", block)):
                place.register_forward_hook(
                    lambda _, a, out, b=b, name=name: kept.__setitem__(
                        f"{name}_{b}", (out[0] if isinstance(out, tuple) else out).clone()
                    )
                )
        if fast:
            model.transformer.h[max(CAPTURED)].register_forward_hook(stop)

        def once() -> torch.Tensor:
            kept.clear()
            with torch.no_grad(), contextlib.suppress(Stop):
                run(model, inputs.clean, fast)
            assert len(kept) == 4 * len(CAPTURED)
            return kept["resid_post_8"].mean((0, 2))

        result: dict[str, Any] = whole(once)
        return result

    return work


if __name__ == "__main__":
    main("transformers", sweep, attribution, capture, ablation)
