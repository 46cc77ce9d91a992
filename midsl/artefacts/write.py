"""Writing decompositions in the formats of other packages, by the layouts that reading goes by."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from midsl.artefacts import (
    circuit_tracer,
    cross_layer,
    dictionary_learning,
    gemma_scope,
    sae_lens,
    sparsify,
    tuned_lens,
)
from midsl.artefacts.base import AXES, Layout, Setting, axes_of, not_understood


@dataclass(frozen=True)
class Parts:
    """A decomposition to be written: what `Artefact` describes, with the tensors themselves in our order.

    Attributes:
        hook, hook_out: sites in TransformerLens' spelling.
        layer: of the site that is read.
        model: what the model is called.
        config: the configuration it came with, if it came from a file of the same format.
        layers: how many layers it is at together; 0 if it is at one place.
    """

    kind: str
    sizes: Mapping[str, int]
    settings: Mapping[str, Setting]
    tensors: Mapping[str, Tensor]
    hook: str
    hook_out: str
    layer: int
    model: str
    heads: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    layers: int = 0

    @property
    def two(self) -> bool:
        """Whether it reads at one place and writes at another."""
        return self.hook != self.hook_out


def _sae_lens(folder: Path, parts: Parts) -> None:
    path = folder / sae_lens.CONFIG
    skip = "skip" in parts.tensors
    if parts.kind == "batchtopk":  # kept for use as what it is then: a threshold, the same for all
        tensors = dict(parts.tensors)
        tensors["threshold"] = tensors.pop("cut").repeat(parts.sizes["code"])
        parts = replace(parts, kind="jumprelu", tensors=tensors)
    wanted = (parts.kind, parts.two, skip)
    architecture = next((a for a, k in sae_lens.KINDS.items() if k == wanted), None)
    if architecture is None:
        raise _no_such("SAELens", parts, path)
    if parts.two and parts.settings["subtract"]:
        raise not_understood("a transcoder of SAELens subtracts nothing from what it reads", path)
    about = {"model_name": parts.model, **parts.config.get("metadata", {})}
    about |= {"hook_name": parts.hook, "hook_head_index": None}
    config: dict[str, Any] = {
        "device": "cpu",
        **parts.config,
        "architecture": architecture,
        "d_in": parts.sizes["in"],
        "d_sae": parts.sizes["code"],
        "dtype": str(parts.tensors["dec"].dtype).removeprefix("torch."),
        "apply_b_dec_to_input": parts.settings["subtract"],
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if parts.heads else "none",
        "metadata": about,
    }
    if parts.two:
        config["d_out"] = parts.sizes["out"]
        about["hook_name_out"] = parts.hook_out
    if parts.kind == "topk":
        config |= {"k": parts.settings["k"], "rescale_acts_by_decoder_norm": parts.settings["rescale"]}
    layout = {**sae_lens.LAYOUTS[parts.kind], **(sae_lens.SKIP if skip else {})}
    _json(path, config)
    save_file(_kept(parts, layout), folder / sae_lens.WEIGHTS)


def _sparsify(folder: Path, parts: Parts) -> None:
    path = folder / sparsify.CONFIG
    skip = "skip" in parts.tensors
    if parts.kind not in ("topk", "groupmax") or parts.settings["rescale"] or parts.heads:
        raise _no_such("sparsify", parts, path)
    if parts.settings["subtract"] == parts.two:
        raise not_understood(
            "sparsify subtracts `b_dec` from what an autoencoder reads, and only there", path
        )
    if parts.sizes["in"] != parts.sizes["out"]:
        raise not_understood("sparsify reads and writes vectors of one length", path)
    config = {
        "expansion_factor": 32,
        "normalize_decoder": True,
        "multi_topk": False,
        **parts.config,
        "activation": parts.kind,
        "num_latents": parts.sizes["code"],
        "k": parts.settings["k"],
        "skip_connection": skip,
        "transcode": parts.two,
        "d_in": parts.sizes["in"],
    }
    _json(path, config)
    save_file(_kept(parts, {**sparsify.LAYOUT, **(sparsify.SKIP if skip else {})}), folder / sparsify.WEIGHTS)


def _dictionary_learning(folder: Path, parts: Parts) -> None:
    path = folder / dictionary_learning.CONFIG
    trainer = dict(parts.config.get("trainer", {}))
    classes = dictionary_learning.CLASSES
    wanted = (parts.kind, parts.settings["subtract"])
    name = trainer.get("dict_class") or next((n for n, c in classes.items() if c[:2] == wanted), None)
    if name is None or parts.two or parts.settings.get("rescale") or parts.heads:
        raise _no_such("dictionary_learning", parts, path)
    trainer = {
        "layer": parts.layer,
        "lm_name": parts.model,
        "submodule_name": parts.hook,
        **trainer,
        "dict_class": name,
        "activation_dim": parts.sizes["in"],
        "dict_size": parts.sizes["code"],
    }
    layout = classes[name][2]
    if "cut" in layout and "cut" not in parts.tensors:
        unset = torch.tensor(-1.0)  # what the package starts from, and keeps where nothing was estimated
        parts = replace(parts, tensors={**parts.tensors, "cut": unset})
    state = _kept(parts, layout)
    if "k" in parts.settings:
        trainer["k"] = parts.settings["k"]
        state["k"] = torch.tensor(trainer["k"], dtype=torch.int)
    if name.startswith("Matryoshka"):
        state["group_sizes"] = torch.tensor(trainer["group_sizes"])
    _json(path, {**parts.config, "trainer": trainer})
    torch.save(state, folder / dictionary_learning.WEIGHTS)


def _gemma_scope(folder: Path, parts: Parts) -> None:
    path = folder / gemma_scope.WEIGHTS
    if parts.kind != "jumprelu" or parts.settings["subtract"] or "skip" in parts.tensors or parts.heads:
        raise _no_such("Gemma Scope", parts, path)
    if any(t.dtype == torch.bfloat16 for t in parts.tensors.values()):
        raise not_understood("npz has no bfloat16", path)
    arrays = {k: t.numpy() for k, t in _kept(parts, sae_lens.LAYOUTS["jumprelu"]).items()}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _circuit_tracer(folder: Path, parts: Parts) -> None:
    path = folder / circuit_tracer.CONFIG
    kinds = ("relu", "jumprelu") if parts.layers else ("relu", "jumprelu", "topk")
    if parts.kind not in kinds or parts.settings["subtract"] or parts.heads:
        raise _no_such("circuit-tracer", parts, path)
    if parts.kind == "jumprelu" and bool((parts.tensors["threshold"] < 0).any()):
        raise not_understood("circuit-tracer lets negative codes through where a threshold is below 0", path)
    kind = cross_layer.KIND if parts.layers else circuit_tracer.KIND
    if path.exists() and (other := circuit_tracer.configured(path).get("model_kind")) != kind:
        raise not_understood(f"the folder holds a `{other}`", path, "write to another folder")
    config: dict[str, Any] = {
        "model_name": parts.model,
        **parts.config,
        "model_kind": kind,
        "feature_input_hook": re.sub(r"^blocks\.(\d+|\*)\.", "", parts.hook),
        "feature_output_hook": re.sub(r"^blocks\.(\d+|\*)\.", "", parts.hook_out),
    }
    if parts.kind == "topk":
        config |= {"activation": "topk", "k": parts.settings["k"]}
    kept = _cross_layer(folder, parts) if parts.layers else _one_layer(folder, parts, config)
    _yaml(path, config)
    for file, tensors in kept.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, file)


def _one_layer(folder: Path, parts: Parts, config: dict[str, Any]) -> dict[Path, dict[str, Tensor]]:
    layout = {
        **circuit_tracer.LAYOUT,
        **(circuit_tracer.THRESHOLD if parts.kind == "jumprelu" else {}),
        **(circuit_tracer.SKIP if "skip" in parts.tensors else {}),
    }
    return {circuit_tracer.weights(folder, config, parts.layer): _kept(parts, layout)}


def _cross_layer(folder: Path, parts: Parts) -> dict[Path, dict[str, Tensor]]:
    """The files of a transcoder across layers; MI0514 if it writes to layers before the one that it reads."""
    path, found = folder / circuit_tracer.CONFIG, {}
    for i in range(parts.layers):
        own = {name: tensor[i] for name, tensor in parts.tensors.items()}
        if bool(own["dec"][:i].any()):
            raise not_understood(f"features of layer {i} write to one before it", path)
        own["dec"] = own["dec"][i:]
        reads, writes = cross_layer.layouts(i, parts.kind == "jumprelu")
        found[cross_layer.encoder(folder, i)] = _kept(replace(parts, tensors=own), reads)
        found[cross_layer.decoder(folder, i)] = _kept(replace(parts, tensors=own), writes)
    there = cross_layer.files(folder) if folder.is_dir() else []
    if odd := sorted(set(there) - {p.name for p in found}):
        raise not_understood(f"the folder holds `{odd[0]}`, of more layers", path, "write to another folder")
    return found


def _tuned_lens(folder: Path, parts: Parts) -> None:
    """One translator: those that are in the folder stay, others start at 0, as they do in the package."""
    path, file = folder / tuned_lens.CONFIG, folder / tuned_lens.WEIGHTS
    if parts.kind != "translator":
        raise _no_such("tuned-lens", parts, path)
    d, layers = parts.sizes["in"], int(parts.settings["layers"])
    config = {
        "base_model_name_or_path": parts.model,
        "base_model_revision": None,
        "unembed_hash": None,
        **parts.config,
        "bias": True,
        "lens_type": "linear_tuned_lens",
        "d_model": d,
        "num_hidden_layers": layers,
    }
    dtype = parts.tensors["bias"].dtype
    state = {
        k: torch.zeros((d, d) if k.endswith("weight") else (d,), dtype=dtype) for k in tuned_lens.keys(layers)
    }
    if file.exists():
        there = torch.load(file, map_location="cpu", weights_only=True)
        if {k: t.shape for k, t in there.items()} != {k: t.shape for k, t in state.items()}:
            raise not_understood("the folder holds translators of another model", file)
        state = there
    _json(path, config)
    torch.save({**state, **_kept(parts, tuned_lens.layout(parts.layer))}, file)


WRITERS: dict[str, Callable[[Path, Parts], None]] = {
    "saelens": _sae_lens,
    "sparsify": _sparsify,
    "dictionary_learning": _dictionary_learning,
    "circuit_tracer": _circuit_tracer,
    "gemma_scope": _gemma_scope,
    "tuned_lens": _tuned_lens,
}
"""Formats by the name that the command line has for each; each raises MI0514 for what it has no place for."""


def write(format: str, folder: Path, parts: Parts) -> None:
    """Write a decomposition in a format. Raises MI0514 if the format has no place for it."""
    if parts.layers and format != "circuit_tracer":
        raise _no_such(format, parts, folder)
    WRITERS[format](folder, parts)


def _no_such(package: str, parts: Parts, path: Path) -> Exception:
    """What this decomposition is, where a package has nothing of the kind."""
    said = [parts.kind, "at two places" if parts.two else "at one place"]
    said += ["with a linear skip"] if "skip" in parts.tensors else []
    said += ["its bias taken off what it reads"] if parts.settings.get("subtract") else []
    said += ["its code in units of the decoder's rows"] if parts.settings.get("rescale") else []
    said += ["of all heads together"] if parts.heads else []
    said += [f"of {parts.layers} layers together"] if parts.layers else []
    return not_understood(f"{package} has no such decomposition ({', '.join(said)})", path)


def _json(path: Path, config: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _yaml(path: Path, config: Mapping[str, Any]) -> None:
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")


def _kept(parts: Parts, layout: Layout) -> dict[str, Tensor]:
    """The tensors under a format's keys, in its order of axes; of one layer, if it is at several."""
    return {
        key: parts.tensors[name].permute([_ours(name, axes).index(a) for a in axes]).contiguous()
        for name, (key, axes) in layout.items()
    }


def _ours(name: str, axes: tuple[str, ...]) -> tuple[str, ...]:
    return axes_of(name, layered=True)[1:] if "target" in axes else AXES[name]
