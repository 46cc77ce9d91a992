"""`ModelInfo` on disk, so that `check` knows a model's sites without torch or weights.

One JSON file per architecture key. A file that cannot be read counts as absent: it is a cache, and
the next export writes it anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from midsl.cachedir import cache_dir, kept
from midsl.graph.info import ModelInfo

VERSION = 2
"""Raised when the same architecture would be described differently; older files are then left unread."""


def info_path(key: str) -> Path:
    """Return where the description of an architecture is kept."""
    name = hashlib.sha256(f"{VERSION}:{key}".encode()).hexdigest()[:32]
    return cache_dir() / "modelinfo" / f"{name}.json"


def load_info(key: str) -> ModelInfo | None:
    """Return the stored description of an architecture, or None."""
    path = info_path(key)
    try:
        text = path.read_bytes() if kept(path) else None
    except OSError:
        text = None
    if text is None:
        return None
    from pydantic import TypeAdapter, ValidationError  # only where there is a file: its import is slow

    try:
        info = TypeAdapter(ModelInfo).validate_json(text)
    except ValidationError:
        return None
    return info if info.key == key else None


def save_info(info: ModelInfo) -> None:
    """Store a description, replacing an older one at once or not at all.

    Raises:
        OSError: if the cache folder cannot be written.
    """
    path = info_path(info.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            json.dump(asdict(info), f)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
