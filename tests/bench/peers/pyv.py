"""pyvene: `typical` runs base and source for each intervention, `fast` brings the source's values along."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from common import DIRECTION, Inputs, main, points, timed


def sweep(workload: str, fast: bool) -> Any:
    """A worker for w1, w2, w2last and w6."""
    import pyvene as pv

    heads_of = {"w2": "h", "w2last": "h.pos"}

    def work(inputs: Inputs, k: int) -> dict[str, Any]:
        model = inputs.load().requires_grad_(False)
        blocks, heads = model.transformer.h, model.config.n_head
        n, length = inputs.clean.shape
        direction = model.lm_head.weight[DIRECTION]
        kind = pv.AdditionIntervention if workload == "w6" else pv.VanillaIntervention
        place = {"component": "block_input", "unit": "pos"}
        if workload in heads_of:
            place = {"component": "head_attention_value_output", "unit": heads_of[workload]}
        made = [
            pv.IntervenableModel(
                pv.IntervenableConfig([{"layer": i, "intervention_type": kind, **place}], type(model)),
                model=model,
            )
            for i in range(len(blocks))
        ]
        brings = fast and workload in ("w1", "w2")

        def once() -> Any:
            kept: dict[int, torch.Tensor] = {}
            handles = []
            for i, block in enumerate(blocks):
                at = block if workload == "w1" else block.attn.c_proj
                handles.append(
                    at.register_forward_pre_hook(lambda _, a, i=i: kept.__setitem__(i, a[0].clone()))
                )
            with torch.no_grad():
                if brings:
                    model(inputs.clean, use_cache=False)
                for h in handles:
                    h.remove()
                base = inputs.difference(model(inputs.corrupt, use_cache=False).logits[:, -1])
            return kept, base

        def given(layer: int, second: Any, kept: dict[int, torch.Tensor]) -> dict[str, Any]:
            """What one intervention passes to pyvene."""
            if workload == "w6":
                where = {"base": list(range(length))}
                return {"source_representations": second * direction, "unit_locations": where}
            if workload == "w2last":
                at = ([[[[second]] * n, [[length - 1]] * n]],) * 2
                return {"sources": [{"input_ids": inputs.clean}], "unit_locations": {"sources->base": at}}
            if not brings:
                where = {"sources->base": second}
                return {"sources": [{"input_ids": inputs.clean}], "unit_locations": where}
            key = next(iter(made[layer].interventions))
            value = kept[layer][:, second : second + 1]
            if workload == "w2":
                size = kept[layer].shape[-1] // heads
                value = kept[layer][:, :, second * size : (second + 1) * size][:, None]
            return {"source_representations": {key: value}, "unit_locations": {"base": second}}

        def each(state: Any, point: Any) -> float:
            (layer, second), (kept, base) = point, state
            tokens = {"input_ids": inputs.corrupt, "use_cache": False}
            if fast:
                tokens["logits_to_keep"] = 1
            with torch.no_grad():
                _, out = made[layer](base=tokens, **given(layer, second, kept))
            return float(inputs.difference(out.logits[:, -1]) - base)

        every = points(workload, len(blocks), heads, length)
        found: dict[str, Any] = timed(once, each, every, k)
        return found

    return work


if __name__ == "__main__":
    main("pyvene", sweep)
