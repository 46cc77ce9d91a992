"""Shared here: a toy spec around some bindings, run in a store, and its model in plain torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from midsl.plan.driver import Compiled, Execution, compile_spec
from midsl.store.rows import ResultTable
from tests.examples.common import midsl

HEAD = """language mi 1
import std.models as models
from std.tasks import repeats
from std.metrics import cross_entropy, nll
from std.decomp import topk_sae, relu_sae, random_subspace, mse
from std.decomp import crosscoder, cross_layer_transcoder, stitched, transcoder
model m = models.toy(layers: 2, heads: 2, d_model: 12, d_mlp: 20, vocab: 24, ctx: 16, seed: 1)
data  d = repeats(m.tokenizer, n: 6, period_min: 3, period_max: 5, ctx: 12, seed: 2)
site  x = m.blocks[0].resid_post
"""


def write(folder: Path, body: str) -> Path:
    """A spec file of the head and a body."""
    spec = folder / "spec.mi"
    spec.write_text(HEAD + body)
    return spec


def tables(compiled: Compiled) -> dict[str, ResultTable]:
    """Run a compiled spec: its reports by name."""
    done = Execution(compiled)
    done.run()
    return {t.report: t for s in done.stages for t in s.tables}


def reports(folder: Path, body: str) -> dict[str, ResultTable]:
    """Run a body: its reports by name."""
    return tables(compile_spec(write(folder, body)))


def refused(folder: Path, body: str) -> str:
    """What is said of a body that cannot be."""
    done = midsl("check", write(folder, body), "--json")
    assert done.exit_code == 2, done.output
    said = json.loads(done.output)["diagnostics"]
    return " ".join(f"{d['code']} {d['message']}" for d in said if d["severity"] == "error")


def by_hand(compiled: Compiled, edit: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """The first block's output and the logits, by a plain hook on the module: [batch, pos, ..]."""
    (_, node), (_, data) = compiled.program.models[0], compiled.program.datas[0]
    loaded, dataset = compiled.binder.loaded(node), compiled.binder.dataset(data)
    part = dataset.part("", "")
    tokens = torch.from_numpy(part.tokens)
    mask = (torch.arange(tokens.shape[1])[None, :] < torch.from_numpy(part.lengths)[:, None]).long()
    blocks = next(b for b in loaded.module.modules() if isinstance(b, torch.nn.ModuleList))
    seen: list[Tensor] = []

    def hook(module: torch.nn.Module, given: object, out: Tensor) -> Tensor:
        out = edit(out) if edit is not None else out
        seen.append(out)
        return out

    handle = blocks[0].register_forward_hook(hook)
    try:
        with torch.no_grad():
            logits = loaded.module(tokens, mask)
    finally:
        handle.remove()
    return seen[0], logits
