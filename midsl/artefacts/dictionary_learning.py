"""dictionary_learning: `config.json` and `ae.pt`, a state dict of one of its classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from midsl.artefacts.base import (
    Artefact,
    Layout,
    Setting,
    gather,
    not_understood,
    number,
    read_json,
)

CONFIG, WEIGHTS = "config.json", "ae.pt"

_ENC: Layout = {"enc": ("encoder.weight", ("code", "in"))}
_DEC: Layout = {"dec": ("decoder.weight", ("out", "code"))}
_B_ENC: Layout = {"b_enc": ("encoder.bias", ("code",))}
_B_DEC: Layout = {"b": ("b_dec", ("out",))}
_PLAIN: Layout = {
    "enc": ("W_enc", ("in", "code")),
    "b_enc": ("b_enc", ("code",)),
    "dec": ("W_dec", ("code", "out")),
    **_B_DEC,
}
_CUT: Layout = {"cut": ("threshold", ())}

CLASSES: Mapping[str, tuple[str, bool, Layout]] = {
    "AutoEncoder": ("relu", True, {**_ENC, **_B_ENC, **_DEC, "b": ("bias", ("out",))}),
    "AutoEncoderNew": ("relu", False, {**_ENC, **_B_ENC, **_DEC, "b": ("decoder.bias", ("out",))}),
    "GatedAutoEncoder": (
        "gated",
        True,
        {
            **_ENC,
            **_DEC,
            "b": ("decoder_bias", ("out",)),
            "b_gate": ("gate_bias", ("code",)),
            "b_mag": ("mag_bias", ("code",)),
            "r_mag": ("r_mag", ("code",)),
        },
    ),
    "AutoEncoderTopK": ("topk", True, {**_ENC, **_B_ENC, **_DEC, **_B_DEC, **_CUT}),
    "BatchTopKSAE": ("batchtopk", True, {**_ENC, **_B_ENC, **_DEC, **_B_DEC, **_CUT}),
    "MatryoshkaBatchTopKSAE": ("batchtopk", True, {**_PLAIN, **_CUT}),
    "JumpReluAutoEncoder": ("jumprelu", False, {**_PLAIN, "threshold": ("threshold", ("code",))}),
}
"""Class -> our kind, whether the bias is taken off what is read, and the tensors."""


def read(folder: Path) -> Artefact:
    """What a folder says. Raises MI0514 for what would be another decomposition if it were passed over."""
    path = folder / CONFIG
    config = read_json(path)
    trainer = config.get("trainer")
    if not isinstance(trainer, dict):
        raise not_understood("there is no `trainer`", path)
    name = trainer.get("dict_class")
    if not isinstance(name, str) or name not in CLASSES:
        raise not_understood(f"the class `{name}` is not known", path, f"known are {', '.join(CLASSES)}")
    kind, subtract, layout = CLASSES[name]
    d_in = number(trainer, "activation_dim", path)
    sizes = {"in": d_in, "code": number(trainer, "dict_size", path), "out": d_in}
    settings: dict[str, Setting] = {"subtract": subtract, "rescale": False}
    fixed: dict[str, int | tuple[int, ...]] = {}
    if kind in ("topk", "batchtopk"):
        settings["k"] = fixed["k"] = number(trainer, "k", path)
    if name.startswith("Matryoshka"):
        groups = trainer.get("group_sizes")
        if not isinstance(groups, list) or sum(groups) != sizes["code"]:
            raise not_understood(f"`group_sizes` is {groups}", path, "lengths that add up to `dict_size`")
        fixed["group_sizes"] = tuple(groups)
    layer = trainer.get("layer")
    hook = f"blocks.{layer}" if type(layer) is int else ""
    kept = gather(folder / WEIGHTS, layout, sizes)
    return Artefact(
        "dictionary_learning", kind, sizes, settings, kept, hook, hook, config=config, fixed=fixed
    )
