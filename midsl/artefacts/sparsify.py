"""sparsify: a folder for each hookpoint, `cfg.json` and `sae.safetensors`."""

from __future__ import annotations

from pathlib import Path

from midsl.artefacts.base import (
    Artefact,
    Layout,
    flag,
    gather,
    not_understood,
    number,
    read_json,
)

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
LAYOUT: Layout = {
    "enc": ("encoder.weight", ("code", "in")),
    "b_enc": ("encoder.bias", ("code",)),
    "dec": ("W_dec", ("code", "out")),
    "b": ("b_dec", ("out",)),
}
SKIP: Layout = {"skip": ("W_skip", ("new", "in"))}
_FIELDS = {
    "activation", "expansion_factor", "normalize_decoder", "num_latents", "k", "multi_topk",
    "skip_connection", "transcode", "d_in", "signed",
}  # fmt: skip


def read(folder: Path) -> Artefact:
    """What a folder says. Raises MI0514 for what would be another decomposition if it were passed over."""
    path = folder / CONFIG
    config = read_json(path)
    if unknown := sorted(config.keys() - _FIELDS):
        raise not_understood(f"what is `{unknown[0]}`?", path)
    kind = config.get("activation", "topk")
    if kind not in ("topk", "groupmax"):
        raise not_understood(f"the activation `{kind}` is not known", path, "known are topk and groupmax")
    if config.get("signed"):
        raise not_understood("`signed` latents are not known", path)
    d_in = number(config, "d_in", path)
    latents = config.get("num_latents") or d_in * number(config, "expansion_factor", path)
    sizes = {"in": d_in, "code": latents, "out": d_in}
    skip = flag(config, "skip_connection", False, path)
    two = flag(config, "transcode", False, path)
    k = number(config, "k", path)
    if kind == "groupmax" and latents % k:
        raise not_understood(f"{latents} latents do not make {k} groups", path)
    settings = {"subtract": not two, "k": k, "rescale": False}
    layout = {**LAYOUT, **(SKIP if skip else {})}
    kept = gather(folder / WEIGHTS, layout, sizes)
    return Artefact("sparsify", kind, sizes, settings, kept, config=config)
