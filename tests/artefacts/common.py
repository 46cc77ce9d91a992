"""Shared here: small decompositions as other packages save them, and what they compute, written out.

The names of keys and fields are those that the packages' own source has.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

D, N = 12, 24
Tensors = dict[str, Tensor]


def draw(dtype: torch.dtype = torch.float32, **shapes: tuple[int, ...]) -> Tensors:
    """Random tensors, the same ones each time; thresholds above 0."""
    g = torch.Generator().manual_seed(3)
    made = {k: torch.randn(s, generator=g) * 0.5 for k, s in shapes.items()}
    return {k: (t.abs() if "threshold" in k else t).to(dtype).contiguous() for k, t in made.items()}


@dataclass(frozen=True)
class Case:
    """A decomposition on disk.

    Attributes:
        write: makes its folder with tensors of a precision, and returns them.
        encode, decode: what the package computes, of (tensors, value).
        declare: how a spec takes it, with `{}` for the folder.
    """

    write: Callable[[Path, torch.dtype], Tensors]
    encode: Callable[[Tensors, Tensor], Tensor]
    decode: Callable[[Tensors, Tensor], Tensor]
    format: str
    declare: str = 'sae_file("{}", at: x)'


def keep_top(pre: Tensor, k: int) -> Tensor:
    found = pre.relu().topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, found.indices, found.values)


def jump(pre: Tensor, threshold: Tensor) -> Tensor:
    return pre.relu() * (pre > threshold)


# ---------------------------------------------------------------- SAELens

LINEAR = {"W_enc": (D, N), "W_dec": (N, D), "b_enc": (N,), "b_dec": (D,)}


def sae_lens_config(
    architecture: str, hook: str = "blocks.0.hook_resid_post", **more: object
) -> dict[str, Any]:
    return {
        "d_in": D,
        "d_sae": N,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.12.0",
            "sae_lens_training_version": "6.12.0",
            "model_name": "toy",
            "hook_name": hook,
            "hook_head_index": None,
            "prepend_bos": True,
        },
        "architecture": architecture,
        **more,
    }


def sae_lens(
    architecture: str,
    shapes: dict[str, tuple[int, ...]],
    hook: str = "blocks.0.hook_resid_post",
    **more: object,
) -> Callable[[Path, torch.dtype], Tensors]:
    def write(folder: Path, dtype: torch.dtype) -> Tensors:
        folder.mkdir(exist_ok=True)
        tensors = draw(dtype, **shapes)
        save_file(tensors, folder / "sae_weights.safetensors")
        (folder / "cfg.json").write_text(json.dumps(sae_lens_config(architecture, hook, **more)))
        return tensors

    return write


def sae_lens_old(folder: Path, dtype: torch.dtype) -> Tensors:
    """As before version 6: flat, hook_point, activation_fn_str; here a topk."""
    folder.mkdir(exist_ok=True)
    tensors = draw(dtype, **LINEAR)
    save_file({**tensors, "scaling_factor": torch.ones(N)}, folder / "sae_weights.safetensors")
    old = {
        "model_name": "toy", "hook_point": "blocks.0.hook_resid_post", "hook_point_head_index": None,
        "d_in": D, "d_sae": N, "dtype": "torch.float32", "device": "cpu", "prepend_bos": True,
        "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}, "normalize_activations": None,
        "finetuning_scaling_factor": False, "context_size": 128, "dataset_path": "none",
        "l1_coefficient": 1.0,
    }  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(old))
    return tensors


def centred(t: Tensors, x: Tensor) -> Tensor:
    return (x - t["b_dec"]) @ t["W_enc"]


def plain(t: Tensors, c: Tensor) -> Tensor:
    return c @ t["W_dec"] + t["b_dec"]


def gated(t: Tensors, x: Tensor) -> Tensor:
    there = centred(t, x) + t["b_gate"] > 0
    return there * ((x - t["b_dec"]) @ (t["W_enc"] * t["r_mag"].exp()) + t["b_mag"]).relu()


TRANSCODER: dict[str, Any] = {"apply_b_dec_to_input": False, "d_out": D}
OUT = {
    **sae_lens_config("transcoder")["metadata"],
    "hook_name": "blocks.0.ln2.hook_normalized",
    "hook_name_out": "blocks.0.hook_mlp_out",
}
BETWEEN = 'transcoder_file("{}", from: y, to: z)'

# ---------------------------------------------------------------- sparsify

LATENTS = {"encoder.weight": (N, D), "encoder.bias": (N,), "W_dec": (N, D), "b_dec": (D,)}


def sparsify(activation: str, **more: object) -> Callable[[Path, torch.dtype], Tensors]:
    def write(folder: Path, dtype: torch.dtype) -> Tensors:
        folder.mkdir(exist_ok=True)
        skip = {"W_skip": (D, D)} if more.get("skip_connection") else {}
        tensors = draw(dtype, **LATENTS, **skip)
        save_file(tensors, folder / "sae.safetensors")
        config = {
            "activation": activation, "expansion_factor": 2, "normalize_decoder": True, "num_latents": 0,
            "k": 4, "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": D, **more,
        }  # fmt: skip
        (folder / "cfg.json").write_text(json.dumps(config))
        return tensors

    return write


def group_max(pre: Tensor, k: int) -> Tensor:
    groups = pre.relu().reshape(*pre.shape[:-1], k, -1)
    best = groups.max(-1, keepdim=True)
    return torch.zeros_like(groups).scatter(-1, best.indices, best.values).flatten(-2)


# ---------------------------------------------------------------- dictionary_learning

MODULES = {"encoder.weight": (N, D), "encoder.bias": (N,), "decoder.weight": (D, N)}


def dictionary_learning(
    name: str, shapes: dict[str, tuple[int, ...]], **more: object
) -> Callable[[Path, torch.dtype], Tensors]:
    def write(folder: Path, dtype: torch.dtype) -> Tensors:
        folder.mkdir(exist_ok=True)
        tensors = draw(dtype, **shapes)
        state = dict(tensors)
        if "k" in more:
            state["k"] = torch.tensor(more["k"], dtype=torch.int)
        if "group_sizes" in more:
            state["group_sizes"] = torch.tensor(more["group_sizes"])
        torch.save(state, folder / "ae.pt")
        trainer = {
            "dict_class": name,
            "activation_dim": D,
            "dict_size": N,
            "layer": 0,
            "lm_name": "toy",
            **more,
        }
        (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}}))
        return tensors

    return write


# ---------------------------------------------------------------- Gemma Scope, circuit-tracer, tuned-lens


def gemma_scope(folder: Path, dtype: torch.dtype) -> Tensors:
    folder.mkdir(exist_ok=True)
    tensors = draw(dtype, **LINEAR, threshold=(N,))
    np.savez(folder / "params.npz", **{k: t.numpy() for k, t in tensors.items()})  # type: ignore[arg-type]
    return tensors


THRESHOLD = "activation_function.threshold"


def circuit_tracer(folder: Path, dtype: torch.dtype, jumps: bool = True, skips: bool = False) -> Tensors:
    """Two layers; the tensors of layer 0, which the specs take."""
    folder.mkdir(exist_ok=True)
    shapes = {"W_enc": (N, D), "W_dec": (N, D), "b_enc": (N,), "b_dec": (D,)}
    shapes |= {THRESHOLD: (N,)} if jumps else {}
    shapes |= {"W_skip": (D, D)} if skips else {}
    tensors = draw(dtype, **shapes)
    save_file(tensors, folder / "layer_0.safetensors")
    save_file({k: t + 1 for k, t in tensors.items()}, folder / "layer_1.safetensors")
    (folder / "config.yaml").write_text(
        "model_name: toy\nmodel_kind: transcoder_set\nscan: toy-plt\n"
        "feature_input_hook: ln2.hook_normalized\nfeature_output_hook: hook_mlp_out\n"
    )
    return tensors


def tuned_lens(folder: Path, dtype: torch.dtype) -> Tensors:
    folder.mkdir(exist_ok=True)
    shapes = {f"{i}.{part}": s for i in range(2) for part, s in (("weight", (D, D)), ("bias", (D,)))}
    tensors = draw(dtype, **shapes)
    torch.save(tensors, folder / "params.pt")
    config = {
        "base_model_name_or_path": "toy", "d_model": D, "num_hidden_layers": 2, "bias": True,
        "base_model_revision": None, "unembed_hash": None, "lens_type": "linear_tuned_lens",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return tensors


CASES: dict[str, Case] = {
    "SAELens standard": Case(
        sae_lens("standard", LINEAR), lambda t, x: (centred(t, x) + t["b_enc"]).relu(), plain, "saelens"
    ),
    "SAELens standard, nothing subtracted": Case(
        sae_lens("standard", LINEAR, apply_b_dec_to_input=False),
        lambda t, x: (x @ t["W_enc"] + t["b_enc"]).relu(),
        plain,
        "saelens",
    ),
    "SAELens topk": Case(
        sae_lens("topk", LINEAR, k=4, rescale_acts_by_decoder_norm=False),
        lambda t, x: keep_top(centred(t, x) + t["b_enc"], 4),
        plain,
        "saelens",
    ),
    "SAELens topk, rescaled": Case(
        sae_lens("topk", LINEAR, k=4, rescale_acts_by_decoder_norm=True),
        lambda t, x: keep_top((centred(t, x) + t["b_enc"]) * t["W_dec"].norm(dim=-1), 4),
        lambda t, c: (c / t["W_dec"].norm(dim=-1)) @ t["W_dec"] + t["b_dec"],
        "saelens",
    ),
    "SAELens jumprelu": Case(
        sae_lens("jumprelu", {**LINEAR, "threshold": (N,)}),
        lambda t, x: jump(centred(t, x) + t["b_enc"], t["threshold"]),
        plain,
        "saelens",
    ),
    "SAELens gated": Case(
        sae_lens(
            "gated",
            {"W_enc": (D, N), "W_dec": (N, D), "b_dec": (D,), "b_gate": (N,), "b_mag": (N,), "r_mag": (N,)},
        ),
        gated,
        plain,
        "saelens",
    ),
    "SAELens of heads": Case(
        sae_lens("standard", LINEAR, "blocks.0.attn.hook_z", reshape_activations="hook_z"),
        lambda t, x: (centred(t, x.flatten(-2)) + t["b_enc"]).relu(),
        lambda t, c: plain(t, c).reshape(*c.shape[:-1], 2, -1),
        "saelens",
        'sae_file("{}", at: h)',
    ),
    "SAELens before 6": Case(
        sae_lens_old, lambda t, x: keep_top(centred(t, x) + t["b_enc"], 5), plain, "saelens"
    ),
    "SAELens skip transcoder": Case(
        sae_lens(
            "jumprelu_skip_transcoder",
            {**LINEAR, "threshold": (N,), "W_skip": (D, D)},
            **TRANSCODER,
            metadata=OUT,
        ),
        lambda t, x: jump(x @ t["W_enc"] + t["b_enc"], t["threshold"]),
        plain,
        "saelens",
        BETWEEN,
    ),
    "sparsify topk": Case(
        sparsify("topk"),
        lambda t, x: keep_top((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"], 4),
        plain,
        "sparsify",
    ),
    "sparsify groupmax": Case(
        sparsify("groupmax"),
        lambda t, x: group_max((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"], 4),
        plain,
        "sparsify",
    ),
    "sparsify transcoder": Case(
        sparsify("topk", transcode=True, skip_connection=True),
        lambda t, x: keep_top(x @ t["encoder.weight"].T + t["encoder.bias"], 4),
        plain,
        "sparsify",
        BETWEEN,
    ),
    "dictionary_learning AutoEncoder": Case(
        dictionary_learning("AutoEncoder", {**MODULES, "bias": (D,)}),
        lambda t, x: ((x - t["bias"]) @ t["encoder.weight"].T + t["encoder.bias"]).relu(),
        lambda t, c: c @ t["decoder.weight"].T + t["bias"],
        "dictionary_learning",
    ),
    "dictionary_learning AutoEncoderNew": Case(
        dictionary_learning("AutoEncoderNew", {**MODULES, "decoder.bias": (D,)}),
        lambda t, x: (x @ t["encoder.weight"].T + t["encoder.bias"]).relu(),
        lambda t, c: c @ t["decoder.weight"].T + t["decoder.bias"],
        "dictionary_learning",
    ),
    "dictionary_learning GatedAutoEncoder": Case(
        dictionary_learning(
            "GatedAutoEncoder",
            {
                "encoder.weight": (N, D),
                "decoder.weight": (D, N),
                "decoder_bias": (D,),
                "gate_bias": (N,),
                "mag_bias": (N,),
                "r_mag": (N,),
            },
        ),
        lambda t, x: (
            ((pre := (x - t["decoder_bias"]) @ t["encoder.weight"].T) + t["gate_bias"] > 0)
            * (t["r_mag"].exp() * pre + t["mag_bias"]).relu()
        ),
        lambda t, c: c @ t["decoder.weight"].T + t["decoder_bias"],
        "dictionary_learning",
    ),
    "dictionary_learning AutoEncoderTopK": Case(
        dictionary_learning("AutoEncoderTopK", {**MODULES, "b_dec": (D,), "threshold": ()}, k=4),
        lambda t, x: keep_top((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"], 4),
        lambda t, c: c @ t["decoder.weight"].T + t["b_dec"],
        "dictionary_learning",
    ),
    "dictionary_learning BatchTopKSAE": Case(
        dictionary_learning("BatchTopKSAE", {**MODULES, "b_dec": (D,), "threshold": ()}, k=4),
        lambda t, x: jump((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"], t["threshold"]),
        lambda t, c: c @ t["decoder.weight"].T + t["b_dec"],
        "dictionary_learning",
    ),
    "dictionary_learning MatryoshkaBatchTopKSAE": Case(
        dictionary_learning("MatryoshkaBatchTopKSAE", {**LINEAR, "threshold": ()}, k=4, group_sizes=[6, 18]),
        lambda t, x: jump(centred(t, x) + t["b_enc"], t["threshold"]),
        plain,
        "dictionary_learning",
    ),
    "dictionary_learning JumpReluAutoEncoder": Case(
        dictionary_learning("JumpReluAutoEncoder", {**LINEAR, "threshold": (N,)}),
        lambda t, x: jump(x @ t["W_enc"] + t["b_enc"], t["threshold"]),
        plain,
        "dictionary_learning",
    ),
    "Gemma Scope": Case(
        gemma_scope, lambda t, x: jump(x @ t["W_enc"] + t["b_enc"], t["threshold"]), plain, "gemma_scope"
    ),
    "circuit-tracer": Case(
        circuit_tracer,
        lambda t, x: jump(x @ t["W_enc"].T + t["b_enc"], t[THRESHOLD]),
        plain,
        "circuit_tracer",
        'transcoder_file("{}", from: y, to: z, layer: 0)',
    ),
    "circuit-tracer relu with skip": Case(
        lambda folder, dtype: circuit_tracer(folder, dtype, jumps=False, skips=True),
        lambda t, x: (x @ t["W_enc"].T + t["b_enc"]).relu(),
        plain,
        "circuit_tracer",
        'transcoder_file("{}", from: y, to: z, layer: 0)',
    ),
    "tuned-lens": Case(
        tuned_lens,
        lambda t, x: x + x @ t["1.weight"].T + t["1.bias"],
        lambda t, c: c,
        "tuned_lens",
        'tuned_lens_file("{}", from: m.blocks[1].resid_pre, to: m.blocks[1].resid_post, layer: 1)',
    ),
}
