"""circuit-tracer's cross-layer transcoders: `W_enc_{i}.safetensors` and `W_dec_{i}.safetensors` of layer i.

Features of layer i are read there alone, and written to i and all later ones: `W_dec_{i}` [code, n - i, out].
Here that is one tensor over all layers, 0 where nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from midsl.artefacts.base import Artefact, Kept, Layout, Setting, gather, not_understood
from midsl.artefacts.headers import header

KIND = "cross_layer_transcoder"
_FILE = re.compile(r"(W_enc|W_dec)_(\d+)\.safetensors")


def encoder(folder: Path, layer: int) -> Path:
    """The file of what a layer reads, with its biases."""
    return folder / f"W_enc_{layer}.safetensors"


def decoder(folder: Path, layer: int) -> Path:
    """The file of what a layer's features write."""
    return folder / f"W_dec_{layer}.safetensors"


def layouts(layer: int, jumps: bool) -> tuple[Layout, Layout]:
    """What the two files of a layer hold."""
    reads: dict[str, tuple[str, tuple[str, ...]]] = {
        "enc": (f"W_enc_{layer}", ("code", "in")),
        "b_enc": (f"b_enc_{layer}", ("code",)),
        "b": (f"b_dec_{layer}", ("out",)),
    }
    if jumps:
        reads["threshold"] = (f"threshold_{layer}", ("code",))
    return reads, {"dec": (f"W_dec_{layer}", ("code", "target", "out"))}


def files(folder: Path) -> list[str]:
    """The files of such a transcoder that are in a folder."""
    return sorted(p.name for p in folder.iterdir() if _FILE.fullmatch(p.name))


def read(folder: Path, path: Path, config: Mapping[str, Any]) -> Artefact:
    """What a folder says. Raises MI0514 for what is not understood, MI0504 for a file that is missing."""
    if "transcoders" in config:
        help = "leave `transcoders` out"
        raise not_understood(f"a `{KIND}` is the files beside it, and lists none", path, help)
    layers = sum(name.startswith("W_enc") for name in files(folder))
    wanted = {f(folder, i).name for i in range(layers) for f in (encoder, decoder)}
    each = "each of the layers 0, 1, .. has a `W_enc_` and a `W_dec_`"
    if odd := sorted(wanted.symmetric_difference(files(folder))):
        said = f"there is no `{odd[0]}`" if odd[0] in wanted else f"what is `{odd[0]}`?"
        raise not_understood(said, path, each)
    if not layers:
        raise not_understood("there is no `W_enc_0.safetensors`", path, each)
    found = header(encoder(folder, 0)) or {}
    shape, jumps = found.get("W_enc_0", ((), ""))[0], "threshold_0" in found
    if len(shape) != 2:
        help = f"it has {', '.join(sorted(found))}"
        raise not_understood("there is no `W_enc_0`", encoder(folder, 0), help)
    kind = "jumprelu" if jumps else "relu"
    if (activation := config.get("activation", kind)) != kind:
        raise not_understood(f"the activation is `{activation}`, and the tensors are of `{kind}`", path)
    if "k" in config:
        raise not_understood("`k` says nothing here", path, "leave it out")
    sizes = {"in": shape[1], "code": shape[0], "out": shape[1]}
    kept: dict[str, list[Kept]] = {}
    for i in range(layers):
        reads, writes = layouts(i, jumps)
        here = gather(encoder(folder, i), reads, sizes)
        here |= gather(decoder(folder, i), writes, {**sizes, "target": layers - i})
        for name, one in here.items():
            kept.setdefault(name, []).append(replace(one, least=0.0) if name == "threshold" else one)
    settings: dict[str, Setting] = {"subtract": False, "rescale": False}
    return Artefact(
        "circuit_tracer",
        kind,
        sizes,
        settings,
        {name: tuple(each) for name, each in kept.items()},
        _everywhere(config.get("feature_input_hook")),
        _everywhere(config.get("feature_output_hook")),
        config=config,
        layers=layers,
    )


def _everywhere(hook: object) -> str:
    return f"blocks.*.{hook}" if isinstance(hook, str) and hook else ""
