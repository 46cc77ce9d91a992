"""tuned-lens: `config.json` and `params.pt`, the translators h + W h + b of all layers.

Translator `i` reads what block `i` reads.
"""

from __future__ import annotations

from pathlib import Path

from midsl.artefacts.base import (
    Artefact,
    flag,
    gather,
    not_understood,
    number,
    read_json,
)
from midsl.diagnostics.model import fail

CONFIG, WEIGHTS = "config.json", "params.pt"
_FIELDS = {
    "base_model_name_or_path", "d_model", "num_hidden_layers", "bias", "base_model_revision", "unembed_hash",
    "lens_type",
}  # fmt: skip


def layout(layer: int) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {"weight": (f"{layer}.weight", ("new", "in")), "bias": (f"{layer}.bias", ("new",))}


def read(folder: Path, layer: int | None) -> Artefact:
    """What a folder says of one layer. Raises MI0514 for what is not understood."""
    if layer is None:
        raise fail("MI0514", f"{folder} has a decomposition for each layer", help="say which: `layer: 3`")
    path = folder / CONFIG
    config = read_json(path)
    if unknown := sorted(config.keys() - _FIELDS):
        raise not_understood(f"what is `{unknown[0]}`?", path)
    if (kind := config.get("lens_type", "linear_tuned_lens")) != "linear_tuned_lens":
        raise not_understood(f"the lens type `{kind}` is not known", path, "linear_tuned_lens")
    if not flag(config, "bias", True, path):
        raise not_understood("translators without a bias are not known", path)
    layers, d = number(config, "num_hidden_layers", path), number(config, "d_model", path)
    if not 0 <= layer < layers:
        raise fail("MI0406", f"there is no translator of layer {layer}", help=f"{path} has {layers}")
    sizes = {"in": d, "code": d, "out": d}
    hook = f"blocks.{layer}.hook_resid_pre"
    settings = {"layers": layers}
    return Artefact(
        "tuned_lens",
        "translator",
        sizes,
        settings,
        gather(folder / WEIGHTS, layout(layer), sizes),
        hook=hook,
        config=config,
        also=tuple(keys(layers)),
    )


def keys(layers: int) -> list[str]:
    """The keys of a file that holds so many translators."""
    return [f"{i}.{part}" for i in range(layers) for part in ("weight", "bias")]
