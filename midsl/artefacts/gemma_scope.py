"""Gemma Scope: one `params.npz`, JumpReLU, no configuration."""

from __future__ import annotations

from pathlib import Path

from midsl.artefacts.base import Artefact, gather, not_understood
from midsl.artefacts.headers import header
from midsl.artefacts.sae_lens import LAYOUTS

WEIGHTS = "params.npz"


def read(path: Path) -> Artefact:
    """What a file (or the folder that it is in) says."""
    path = path / WEIGHTS if path.is_dir() else path
    found = header(path) or {}
    encoder, decoder = found.get("W_enc", ((), ""))[0], found.get("W_dec", ((), ""))[0]
    if len(encoder) != 2 or len(decoder) != 2:
        raise not_understood("there is no `W_enc` and `W_dec`", path, f"it has {', '.join(sorted(found))}")
    sizes = {"in": encoder[0], "code": encoder[1], "out": decoder[1]}
    kept = gather(path, LAYOUTS["jumprelu"], sizes)
    return Artefact("gemma_scope", "jumprelu", sizes, {"subtract": False, "rescale": False}, kept)
