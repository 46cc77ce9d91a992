"""circuit-tracer: `config.yaml` and `layer_{i}.safetensors`, a transcoder for each layer.

One across layers is in files of its own (`midsl.artefacts.cross_layer`). Encoders are the transpose of
SAELens': `W_enc` [code, in].
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from midsl.artefacts import cross_layer
from midsl.artefacts.base import WHERE, Artefact, Kept, Layout, Setting, gather, not_understood, number
from midsl.artefacts.headers import AGAIN, header
from midsl.diagnostics.model import fail

CONFIG, KIND = "config.yaml", "transcoder_set"
LAYOUT: Layout = {
    "enc": ("W_enc", ("code", "in")),
    "dec": ("W_dec", ("code", "out")),
    "b_enc": ("b_enc", ("code",)),
    "b": ("b_dec", ("out",)),
}
THRESHOLD: Layout = {"threshold": ("activation_function.threshold", ("code",))}
SKIP: Layout = {"skip": ("W_skip", ("new", "in"))}
_FIELDS = {
    "model_kind", "model_name", "feature_input_hook", "feature_output_hook", "scan", "transcoders",
    "activation", "k", "repo_id", "revision", "subfolder",
}  # fmt: skip


def read(folder: Path, layer: int | None) -> Artefact:
    """What a folder says, of one layer if it has one for each. Raises MI0514 for what is not understood."""
    path = folder / CONFIG
    config = configured(path)
    if unknown := sorted(config.keys() - _FIELDS):
        raise not_understood(f"what is `{unknown[0]}`?", path)
    kind = config.get("model_kind")
    if kind == cross_layer.KIND:
        if layer is not None:
            help = "read it with `cross_layer_file`"
            raise not_understood(f"a `{kind}` is one of all layers", path, help)
        return cross_layer.read(folder, path, config)
    if kind != KIND:
        raise not_understood(f"the kind `{kind}` is not known", path, f"{KIND} or {cross_layer.KIND}")
    if layer is None:
        raise fail("MI0514", f"{folder} has a decomposition for each layer", help="say which: `layer: 3`")
    file = weights(folder, config, layer)
    found = header(file) or {}
    encoder, decoder = found.get("W_enc", ((), ""))[0], found.get("W_dec", ((), ""))[0]
    if len(encoder) != 2 or len(decoder) != 2:
        raise not_understood("there is no `W_enc` and `W_dec`", file, f"it has {', '.join(sorted(found))}")
    sizes = {"in": encoder[1], "code": encoder[0], "out": decoder[1]}
    jump = THRESHOLD["threshold"][0] in found
    settings: dict[str, Setting] = {"subtract": False, "rescale": False}
    kind = "jumprelu" if jump else "relu"
    if (activation := config.get("activation", kind)) == "topk" and not jump:
        kind = "topk"
        settings["k"] = number(config, "k", path)
    elif activation != kind:
        raise not_understood(f"the activation is `{activation}`, and the tensors are of `{kind}`", path)
    layout = {**LAYOUT, **(THRESHOLD if jump else {}), **(SKIP if "W_skip" in found else {})}
    hooks = [_full(config.get(f"feature_{way}_hook"), layer) for way in ("input", "output")]
    kept: dict[str, Kept] = gather(file, layout, sizes)
    if jump:
        kept["threshold"] = replace(kept["threshold"], least=0.0)  # below, it lets through what is negative
    return Artefact("circuit_tracer", kind, sizes, settings, kept, hooks[0], hooks[1], config=config)


def _full(hook: object, layer: int) -> str:
    return f"blocks.{layer}.{hook}" if isinstance(hook, str) and hook else ""


def weights(folder: Path, config: dict[str, Any], layer: int) -> Path:
    """The file of one layer: MI0406 if there is none."""
    listed = config.get("transcoders")
    if listed is None:
        return folder / f"layer_{layer}.safetensors"
    if not isinstance(listed, list) or not 0 <= layer < len(listed):
        raise fail("MI0406", f"there is no transcoder of layer {layer}", help=f"see {folder / CONFIG}")
    if "://" in str(listed[layer]):
        raise not_understood(
            f"{listed[layer]} is no local file", folder / CONFIG, "fetch it, and name the file in its place"
        )
    return folder / str(listed[layer])


def configured(path: Path) -> dict[str, Any]:
    """The configuration of a folder. Raises MI0504 if it cannot be read, MI0510 if it is no table of YAML."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise fail("MI0504", f"cannot read {path}: {error.strerror}", help=WHERE) from None
    except yaml.YAMLError as error:
        raise fail("MI0510", f"{path} is not YAML: {error}", help=AGAIN) from None
    if not isinstance(found, dict):
        raise fail("MI0510", f"{path} is not a configuration: it holds no table", help=AGAIN)
    return found
