"""Shapes of the tensors in a file, from its header: safetensors and npz, without torch."""

from __future__ import annotations

import json
import struct
import zipfile
from math import prod
from pathlib import Path

from midsl.diagnostics.model import fail
from midsl.unpack import check_archive

Header = dict[str, tuple[tuple[int, ...], str]]
"""Key -> shape and precision (F32, F16, BF16, ..)."""

AGAIN = "fetch or make the file again"
_LONGEST = 100_000_000
_NPZ = {"f4": "F32", "f2": "F16", "f8": "F64", "i8": "I64", "i4": "I32"}


def header(path: Path) -> Header | None:
    """What a file holds; None for a `.pt`, which only torch can tell.

    Raises:
        MiError: MI0504 if it cannot be read, MI0510 if it is damaged.
    """
    read = {".safetensors": _safetensors, ".npz": _npz}.get(path.suffix)
    try:
        if read is None:
            path.stat()
            return None
        return read(path)
    except OSError as error:
        raise fail("MI0504", f"cannot read {path}: {error.strerror or error}", help=AGAIN) from None
    except (ValueError, KeyError, TypeError, RecursionError, struct.error, zipfile.BadZipFile) as error:
        raise fail("MI0510", f"{path} is damaged: {error}", help=AGAIN) from None


def _safetensors(path: Path) -> Header:
    with path.open("rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        if length > _LONGEST:
            raise ValueError("its header has no end")
        found = json.loads(f.read(length))
    return {k: (tuple(map(int, v["shape"])), v["dtype"]) for k, v in found.items() if k != "__metadata__"}


def _npz(path: Path) -> Header:
    from numpy.lib import format as npy

    found: Header = {}
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as f:
                version = npy.read_magic(f)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(f)
                there = archive.getinfo(name).file_size - f.tell()
            if dtype.hasobject:
                raise fail(
                    "MI0508", f"{path}: `{name}` would run code when loaded", help="keep numbers alone"
                )
            if there != prod(shape) * dtype.itemsize:
                raise ValueError(f"`{name}` says that it is {list(shape)} and has {there} bytes")
            kind = f"{dtype.kind}{dtype.itemsize}"
            found[name.removesuffix(".npy")] = (shape, _NPZ.get(kind, kind))
    return found
