"""Reading the tensors of a file: safetensors, npz, and `.pt` with nothing in it but tensors."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from midsl.artefacts.base import check_keys, content, not_understood
from midsl.artefacts.headers import AGAIN
from midsl.diagnostics.model import fail
from midsl.unpack import check_archive


def read_tensor(
    path: Path,
    key: str,
    sha256: str,
    wanted: Sequence[str],
    also: Sequence[str] = (),
    fixed: Mapping[str, Any] | None = None,
) -> Tensor:
    """One tensor of a file, in the precision that it is kept in.

    `wanted`, `also`: the keys that the file must and may have; `fixed`: what some of them hold.

    Raises:
        MiError: MI0504 if the file is gone or was changed since it was looked at, MI0508 if it would run
            code, MI0510 if it is damaged, MI0514 if it holds other tensors.
    """
    try:
        if content(path) != sha256:
            raise fail("MI0504", f"{path} was changed while it was in use", help="run again")
        found = _whole(path, sha256)
    except OSError as error:
        raise fail("MI0504", f"cannot read {path}: {error.strerror or error}", help=AGAIN) from None
    check_keys(path, found, set(wanted), also)
    for name, value in (fixed or {}).items():
        if name in found and not _holds(found[name], value):
            raise not_understood(f"`{name}` is {found[name].tolist()} and not {value}", path)
    if found[key].dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise not_understood(f"`{key}` is kept as {found[key].dtype}", path)
    return found[key]


def _holds(tensor: Tensor, value: int | Sequence[int]) -> bool:
    return bool((tensor == value).all()) if isinstance(value, int) else tensor.tolist() == list(value)


@lru_cache(1)
def _whole(path: Path, sha256: str) -> dict[str, Tensor]:
    """All tensors of a file: those of one decomposition are asked for one after the other."""
    if path.suffix == ".pt":
        return _pickled(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with np.load(path, allow_pickle=False) as arrays:
            return {k: torch.from_numpy(arrays[k]) for k in arrays.files}
    except (SafetensorError, ValueError, zipfile.BadZipFile) as error:
        raise fail("MI0510", f"{path} is damaged: {error}", help=AGAIN) from None


def _pickled(path: Path) -> dict[str, Tensor]:
    check_archive(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise fail("MI0508", f"{path} would run code when loaded", help="keep the tensors alone") from None
    except (RuntimeError, EOFError, OSError, KeyError, MemoryError) as error:
        raise fail("MI0510", f"{path} is damaged: {error}", help=AGAIN) from None
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise not_understood("it is not a table of tensors", path)
    return found
