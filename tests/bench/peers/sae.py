"""Sparse autoencoders trained by SAELens and dictionary_learning: ``python sae.py FOLDER PACKAGE KIND``.

The packages' own trainers, on activations that come as cheaply as transformers gives them: blocks behind
the site are cut off, 4096 tokens go at a time, once, and are shuffled once. Weights start as midsl's do.
FOLDER is what `tests.bench.sae` writes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

TOKENS = 4096
HELD = 32
"""Rows that what was trained is judged on."""


def activations(model: Any, tokens: Tensor, layer: int) -> Tensor:
    """What a block of a GPT-2 leaves, at all positions: [tokens, d]; later blocks are gone afterwards."""
    body = model.transformer
    body.h = body.h[: layer + 1]
    seen: list[Tensor] = []

    def hook(module: Any, given: Any, out: Any) -> None:
        seen.append((out[0] if isinstance(out, tuple) else out).flatten(0, 1))

    handle = body.h[layer].register_forward_hook(hook)
    with torch.no_grad():
        for some in torch.split(tokens, max(1, TOKENS // tokens.shape[1])):
            body(some, use_cache=False)
    handle.remove()
    return torch.cat(seen)


def stream(model: Any, tokens: Tensor, layer: int, batch: int) -> Iterator[Tensor]:
    """Each token once, shuffled; the model runs when the first batch is asked for."""
    found = activations(model, tokens, layer)
    yield from torch.split(found[torch.randperm(len(found))], batch)


def judged(x: Tensor, code: Tensor, back: Tensor) -> dict[str, float]:
    """Mean squared length of what is not explained, its share of the variance, and features on."""
    error = (x - back).square().sum(-1).mean()
    spread = (x - x.mean(0)).square().sum(-1).mean()
    return {
        "error": float(error),
        "fvu": float(error / spread),
        "l0": float((code != 0).sum(-1).float().mean()),
    }


def sae_lens(data: Iterator[Tensor], start: dict[str, Tensor], c: dict[str, Any]) -> Any:
    from sae_lens import (
        JumpReLUTrainingSAE,
        JumpReLUTrainingSAEConfig,
        TopKTrainingSAE,
        TopKTrainingSAEConfig,
    )
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    d_sae, d_in = start["dec"].shape
    sizes = {"d_in": d_in, "d_sae": d_sae, "apply_b_dec_to_input": c["kind"] == "topk"}
    made: Any
    if c["kind"] == "topk":
        sparse = c["package"] == "saelens_sparse"
        made = TopKTrainingSAE(TopKTrainingSAEConfig(k=c["k"], use_sparse_activations=sparse, **sizes))
    else:
        how = {"jumprelu_init_threshold": c["threshold"], "jumprelu_bandwidth": c["ramp"]}
        made = JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(l0_coefficient=c["l0"], **how, **sizes))
    with torch.no_grad():
        made.W_enc.copy_(start["enc"].T)
        made.W_dec.copy_(start["dec"])
    steps = SAETrainerConfig(c["steps"] * c["batch"], c["batch"], lr=c["lr"], lr_end=c["lr"])
    began = time.process_time()
    SAETrainer(steps, made, data).fit()
    return time.process_time() - began, made.encode, made.decode


def dictionary_learning(data: Iterator[Tensor], start: dict[str, Tensor], c: dict[str, Any]) -> Any:
    from dictionary_learning import training
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    d_sae, d_in = start["dec"].shape
    kept: list[Any] = []

    def trainer(**settings: Any) -> Any:
        """The package's trainer; weights start as the others' do."""
        kind = TopKTrainer if c["kind"] == "topk" else JumpReluTrainer
        made = kind(**settings)
        with torch.no_grad():
            if c["kind"] == "topk":
                made.ae.encoder.weight.copy_(start["enc"])
                made.ae.decoder.weight.copy_(start["dec"].T)
            else:
                made.ae.W_enc.copy_(start["enc"].T)
                made.ae.W_dec.copy_(start["dec"])
                made.ae.threshold.fill_(c["threshold"])
        kept.append(made)
        return made

    settings = {
        "trainer": trainer, "steps": c["steps"], "activation_dim": d_in, "dict_size": d_sae,
        "layer": c["layer"], "lm_name": "toy", "lr": c["lr"], "warmup_steps": 0, "device": "cpu",
    }  # fmt: skip
    if c["kind"] == "topk":
        settings |= {"k": c["k"]}
    else:
        settings |= {"bandwidth": c["ramp"], "target_l0": c["target"], "sparsity_warmup_steps": 0}
    began = time.process_time()
    training.trainSAE(data, [settings], steps=c["steps"], device="cpu")
    ae = kept[0].ae
    return time.process_time() - began, ae.encode, ae.decode


def main() -> None:
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(1)
    folder, package, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    given = torch.load(folder / "inputs.pt", weights_only=True)
    c = {**json.loads((folder / f"{kind}.json").read_text()), "package": package, "kind": kind}
    model: Any = GPT2LMHeadModel.from_pretrained(folder / "model", attn_implementation="sdpa")
    model.requires_grad_(False).eval()
    torch.manual_seed(0)
    data = stream(model, given["tokens"], c["layer"], c["batch"])
    train = dictionary_learning if package == "dictionary_learning" else sae_lens
    spent, encode, decode = train(data, given["start"], c)
    with torch.no_grad():
        x = activations(model, given["tokens"][:HELD], c["layer"])
        code = encode(x)
        told = judged(x, code, decode(code))
    sys.stdout.write(json.dumps({"seconds": spent, **told}) + "\n")


if __name__ == "__main__":
    main()
