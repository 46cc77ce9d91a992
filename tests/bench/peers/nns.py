"""nnsight: `typical` saves all logits, `fast` asks the model for the last position's only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from common import DIRECTION, Inputs, main, points, timed


def sweep(workload: str, fast: bool) -> Any:
    """A worker for w1, w2, w2last and w6."""

    def work(inputs: Inputs, k: int) -> dict[str, Any]:
        from nnsight import NNsight

        hf = inputs.load().requires_grad_(False)
        model = NNsight(hf)
        heads, layers = hf.config.n_head, hf.config.n_layer
        size = hf.config.n_embd // heads
        direction = hf.lm_head.weight[DIRECTION]
        keep: dict[str, Any] = {"logits_to_keep": 1} if fast else {}
        stream = workload in ("w1", "w6")

        def once() -> Any:
            kept = []
            with torch.no_grad():
                with model.trace(inputs.clean, use_cache=False, **keep):
                    for i in range(layers):
                        block = model.transformer.h[i]
                        place = block.input if stream else block.attn.c_proj.input
                        kept.append(place.save())
                with model.trace(inputs.corrupt, use_cache=False, **keep):
                    last = model.lm_head.output[:, -1].save()
            return kept, inputs.difference(last)

        def each(state: Any, point: Any) -> float:
            (layer, second), (kept, base) = point, state
            own = slice(second * size, (second + 1) * size) if not stream else slice(None)
            at = slice(None) if workload == "w2" else slice(-1, None)
            with torch.no_grad(), model.trace(inputs.corrupt, use_cache=False, **keep):
                block = model.transformer.h[layer]
                if workload == "w1":
                    block.input[:, second] = kept[layer][:, second]
                elif workload == "w6":
                    block.input[:] = block.input + second * direction
                else:
                    block.attn.c_proj.input[:, at, own] = kept[layer][:, at, own]
                last = model.lm_head.output[:, -1].save()
            return float(inputs.difference(last) - base)

        every = points(workload, layers, heads, inputs.clean.shape[1])
        found: dict[str, Any] = timed(once, each, every, k)
        return found

    return work


if __name__ == "__main__":
    main("nnsight", sweep)
