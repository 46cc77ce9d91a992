"""SAELens, 6 and later and before: `cfg.json` and `sae_weights.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midsl.artefacts.base import (
    Artefact,
    Layout,
    Setting,
    flag,
    gather,
    not_understood,
    number,
    read_json,
)

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

_TWO: Layout = {"dec": ("W_dec", ("code", "out")), "b": ("b_dec", ("out",))}
_LINEAR: Layout = {"enc": ("W_enc", ("in", "code")), **_TWO, "b_enc": ("b_enc", ("code",))}
LAYOUTS: Mapping[str, Layout] = {
    "relu": _LINEAR,
    "topk": _LINEAR,
    "jumprelu": {**_LINEAR, "threshold": ("threshold", ("code",))},
    "gated": {
        "enc": ("W_enc", ("in", "code")),
        **_TWO,
        **{name: (name, ("code",)) for name in ("b_gate", "b_mag", "r_mag")},
    },
}
SKIP: Layout = {"skip": ("W_skip", ("new", "in"))}

KINDS = {
    "standard": ("relu", False, False),
    "topk": ("topk", False, False),
    "jumprelu": ("jumprelu", False, False),
    "gated": ("gated", False, False),
    "transcoder": ("relu", True, False),
    "skip_transcoder": ("relu", True, True),
    "jumprelu_transcoder": ("jumprelu", True, False),
    "jumprelu_skip_transcoder": ("jumprelu", True, True),
}
"""Architecture -> our kind, whether it reads and writes at two places, whether there is a linear skip."""

_FIELDS = {
    "architecture", "d_in", "d_sae", "d_out", "dtype", "device", "apply_b_dec_to_input", "metadata",
    "normalize_activations", "reshape_activations", "k", "rescale_acts_by_decoder_norm",
    "use_sparse_activations",
}  # fmt: skip
_OLD_NAMES = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}


def read(folder: Path) -> Artefact:
    """What a folder says. Raises MI0514 for what would be another decomposition if it were passed over."""
    path = folder / CONFIG
    found = read_json(path)
    config = _as_new(found, path) if "metadata" not in found else found
    if unknown := sorted(config.keys() - _FIELDS):
        raise not_understood(f"what is `{unknown[0]}`?", path)
    architecture = config.get("architecture")
    if architecture not in KINDS:
        raise not_understood(
            f"the architecture `{architecture}` is not known", path, f"known are {', '.join(KINDS)}"
        )
    kind, two, skip = KINDS[architecture]
    if (norm := config.get("normalize_activations", "none")) != "none":
        raise not_understood(
            f"`normalize_activations` is `{norm}`",
            path,
            "what such a decoder gives depends on more than the code; fold the scale into the weights first",
        )
    reshape = config.get("reshape_activations", "none")
    if reshape not in ("none", "hook_z"):
        raise not_understood(f"`reshape_activations` is `{reshape}`", path)
    sizes = {"in": number(config, "d_in", path), "code": number(config, "d_sae", path)}
    sizes["out"] = number(config, "d_out", path) if two else sizes["in"]
    settings: dict[str, Setting] = {"subtract": flag(config, "apply_b_dec_to_input", True, path)}
    settings["rescale"] = flag(config, "rescale_acts_by_decoder_norm", False, path)
    if kind == "topk":
        settings["k"] = number(config, "k", path)
    about = config["metadata"]
    fixed = {} if found is config else {"scaling_factor": 1}
    weights = folder / WEIGHTS
    return Artefact(
        "saelens",
        kind,
        sizes,
        settings,
        gather(weights, {**LAYOUTS[kind], **(SKIP if skip else {})}, sizes, tuple(fixed)),
        hook=_hook(about, ""),
        hook_out=_hook(about, "_out") if two else _hook(about, ""),
        heads=reshape == "hook_z",
        config=config,
        fixed=fixed,
    )


def _hook(about: Mapping[str, Any], end: str) -> str:
    name, head = about.get(f"hook_name{end}") or "", about.get(f"hook_head_index{end}")
    return name if head is None else f"{name}.{head}"


def _as_new(old: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A configuration from before version 6, with the meaning it had, as one of today."""
    config = {_OLD_NAMES.get(k, k): v for k, v in old.items()}
    if config.get("finetuning_scaling_factor"):
        raise not_understood("`finetuning_scaling_factor` is set", path, "fold it into the decoder first")
    architecture, kwargs = config.get("architecture", "standard"), config.get("activation_fn_kwargs") or {}
    activation = config.get("activation_fn", "relu")
    new: dict[str, Any] = {
        "architecture": architecture,
        "d_in": config.get("d_in"),
        "d_sae": config.get("d_sae"),
        "apply_b_dec_to_input": config.get("apply_b_dec_to_input", True),
    }
    if activation == "topk":
        new |= {"architecture": "topk", "k": kwargs.get("k")}
    elif activation != "relu":
        raise not_understood(f"the activation `{activation}` is not known", path, "known are relu and topk")
    norm = config.get("normalize_activations") or "none"
    new["normalize_activations"] = "expected_average_only_in" if norm is True else norm
    hook = config.get("hook_name") or ""
    new["reshape_activations"] = config.get("reshape_activations", "hook_z" if "hook_z" in hook else "none")
    about = ("model_name", "hook_name", "hook_head_index", "prepend_bos", "context_size", "dataset_path")
    new["metadata"] = {k: config[k] for k in about if k in config}
    return new
