"""EAP of all edges by other packages' own code: ``python eap.py FOLDER eap_ig | auto_circuit``.

EAP-IG is on GitHub alone; circuitkit carries its `attribute` and `graph`, with more guards, and
that copy is what runs here, without circuitkit's start, which asks for another TransformerLens. Tokens are
handed over as they are, since the model has no tokenizer.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from common import Inputs
from tl import load

REPEATS = 2
"""The first pass warms up and is not told."""


def hooked(inputs: Inputs) -> Any:
    """The model with a hook at every source and reader."""
    model = load(inputs)
    model.set_use_attn_result(True)
    model.set_use_split_qkv_input(True)
    model.set_use_hook_mlp_in(True)
    return model


def eap_ig(inputs: Inputs) -> tuple[float, dict[str, float]]:
    """CPU seconds of `get_scores_eap`, and a few scores."""
    found = importlib.util.find_spec("circuitkit")
    assert found is not None and found.submodule_search_locations
    root = Path(found.submodule_search_locations[0])
    for name, folder in (("circuitkit", root), ("circuitkit.backends", root / "backends")):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    from circuitkit.backends.eap import attribute
    from circuitkit.backends.eap.graph import Graph

    model = hooked(inputs)
    n, length = inputs.clean.shape
    lengths = torch.full((n,), length)
    attribute.tokenize_batch_pair = lambda *a, **k: (
        inputs.clean,
        inputs.corrupt,
        None,
        None,
        lengths,
        length,
    )

    def metric(logits: Any, *rest: Any) -> Any:
        return inputs.difference(logits[:, -1])

    batch = [(["" for _ in range(n)], ["" for _ in range(n)], None)]
    graph = Graph.from_model(model)
    for _ in range(REPEATS):
        began = time.process_time()
        scores = attribute.get_scores_eap(model, graph, batch, metric, quiet=True)
        spent = time.process_time() - began
    heads = model.cfg.n_heads
    return spent, {"a0.h1->logits": float(scores[2, -1]) * n, "m0->logits": float(scores[1 + heads, -1]) * n}


def auto_circuit(inputs: Inputs) -> tuple[float, dict[str, float]]:
    """CPU seconds of `mask_gradient_prune_scores` as EAP, and a few scores."""
    from auto_circuit.data import PromptPairBatch
    from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
    from auto_circuit.utils.graph_utils import patchable_model

    model = patchable_model(
        hooked(inputs),
        factorized=True,
        slice_output="last_seq",
        separate_qkv=True,
        device=torch.device("cpu"),
    )
    answers = (inputs.answer[:, None], inputs.wrong[:, None])
    batch = PromptPairBatch(0, 0, inputs.clean, inputs.corrupt, *answers)
    for _ in range(REPEATS):
        began = time.process_time()
        scores = mask_gradient_prune_scores(
            model, [batch], None, grad_function="logit", answer_function="avg_diff", mask_val=0.0
        )
        spent = time.process_time() - began
    heads = model.cfg.n_heads
    (end,) = (v for k, v in scores.items() if "resid_post" in k)
    last = end.flatten()
    return spent, {"a0.h1->logits": float(-last[2]), "m0->logits": float(-last[1 + heads])}


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {"eap_ig": eap_ig, "auto_circuit": auto_circuit}[sys.argv[2]](Inputs(sys.argv[1]))
    sys.stdout.write("\n" + json.dumps({"total": found[0], "values": found[1]}) + "\n")
