"""Where derived files live that can always be made again: grammar tables, model info, trained toys."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder: ``$MIDSL_CACHE_DIR``, ``$XDG_CACHE_HOME/midsl`` or ``~/.cache/midsl``.

    The folder need not exist yet; whoever writes makes it.
    """
    if own := os.environ.get("MIDSL_CACHE_DIR"):
        return Path(own)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "midsl"
    return Path.home() / ".cache" / "midsl"


def kept(path: Path) -> bool:
    """Whether the cache has a file; if so it counts as used now, and `midsl cache gc` takes others first."""
    try:
        os.utime(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:  # somebody else's cache, read only
        pass
    return True


@dataclass(frozen=True)
class Entry:
    """One thing in the cache that can be removed alone: what kind, where, how large, when last used."""

    kind: str
    paths: tuple[Path, ...]
    bytes: int
    used: float

    @property
    def name(self) -> str:
        return self.paths[0].name


COMPILED = ("inductor", "segments")
"""Folders that belong together: marks say what the compiler has kept."""
GRACE = 600.0
"""Seconds for which a used entry stays: a run that found it there may be about to read it."""


def entries(root: Path | None = None) -> list[Entry]:
    """Return what is in the cache, longest unused first."""
    root = root or cache_dir()
    found = []
    compiled = [root / name for name in COMPILED if (root / name).exists()]
    if compiled:
        found.append(_entry("compiled", *compiled))
    for path in root.glob("*"):
        if path.is_file():
            found.append(_entry(path.name.partition("-")[0], path))
        elif path.name not in COMPILED:
            found += [_entry(path.name, p) for p in path.iterdir()]
    return sorted(found, key=lambda e: (e.used, str(e.paths[0])))


def collect(size: int, root: Path | None = None, now: float | None = None, dry: bool = False) -> list[Entry]:
    """Remove what has been unused longest until the cache has at most `size` bytes; return what went.

    Entries used within `GRACE` seconds stay, so the bound may not be reached. `dry` removes nothing.
    """
    every = entries(root)
    total, gone = sum(e.bytes for e in every), []
    for e in every:
        if total <= size or e.used > (now or time.time()) - GRACE:
            break
        for path in () if dry else e.paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        total -= e.bytes
        gone.append(e)
    return gone


def _entry(kind: str, *paths: Path) -> Entry:
    """An entry of files and folders, with what is in them."""
    size, used = 0, 0.0
    for path in paths:
        for p in (path, *path.rglob("*")) if path.is_dir() else (path,):
            try:
                about = p.stat()
            except FileNotFoundError:  # somebody else's temporary file
                continue
            used = max(used, about.st_mtime)
            size += about.st_size if p.is_file() else 0
    return Entry(kind, paths, size, used)
