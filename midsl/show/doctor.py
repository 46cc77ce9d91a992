"""What `midsl doctor` finds: what is here, what is missing, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from midsl.cachedir import cache_dir, entries

State = Literal["ok", "missing", "broken"]
EXTRAS = {
    "hf": ("transformers", "tokenizers"),
    "export": ("pyarrow",),
    "plot": ("vl_convert",),
    "notebook": ("IPython", "pandas"),
    "lsp": ("pygls",),
}
"""The modules of each extra."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `do` is what to do where it is not as it should be."""

    what: str
    state: State
    found: str
    do: str = ""


def examine(store: Path) -> list[Finding]:
    """Look at what midsl needs, torch left alone: its version is read, it is not loaded."""
    return [_python(), _torch(), _compiler(), _memory(), _cache(), _store(store), _hub(), *_extras()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Finding("python", "ok" if good else "broken", version, "" if good else "midsl needs Python 3.11")


def _torch() -> Finding:
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return Finding("torch", "broken", "not installed", "pip install torch")
    major, minor = (int(n) for n in version.split(".")[:2])
    if not (2, 8) <= (major, minor) < (2, 14):
        return Finding("torch", "broken", version, 'pip install "torch>=2.8,<2.14"')
    return Finding("torch", "ok", f"{version}; runs are on the CPU, {_threads()} threads")


def _threads() -> str:
    return os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count() or 1)


def _compiler() -> Finding:
    found = next(
        (p for name in (os.environ.get("CXX", ""), "g++", "clang++") if (p := shutil.which(name))), ""
    )
    if found:
        return Finding("compiler", "ok", found)
    why = "segments are run one operation at a time, as with --compile never"
    return Finding("compiler", "missing", why, "install g++ or clang++")


def _memory() -> Finding:
    own = os.environ.get("MIDSL_MEMORY")
    if own is not None:
        good = own.strip().isdigit()
        return Finding(
            "memory",
            "ok" if good else "broken",
            f"MIDSL_MEMORY={own}",
            "" if good else "give bytes, in digits",
        )
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return Finding(
            "memory", "missing", "its size cannot be told", "set MIDSL_MEMORY to bytes to plan with"
        )
    return Finding("memory", "ok", f"{pages * size / 1e9:.1f} GB")


def _cache() -> Finding:
    folder = cache_dir()
    if not _writable(folder):
        return Finding(
            "cache", "broken", f"{folder} cannot be written", "set MIDSL_CACHE_DIR to another folder"
        )
    every = entries()
    size = sum(e.bytes for e in every) / 1e6
    do = "midsl cache gc --size 5GB" if size > 20_000 else ""
    return Finding("cache", "ok", f"{folder}, {len(every)} entries, {size:.1f} MB", do)


def _store(store: Path) -> Finding:
    if not store.exists():
        return Finding("store", "ok", f"{store.resolve()}, made by the first run")
    if not _writable(store):
        return Finding("store", "broken", f"{store} cannot be written", "give --store another folder")
    runs = sum(1 for _ in (store / "runs").glob("*/manifest.json"))
    return Finding("store", "ok", f"{store.resolve()}, {runs} runs")


def _writable(folder: Path) -> bool:
    """Whether a file can be made in a folder, or in the first one above it that is there."""
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _hub() -> Finding:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    models = sum(1 for _ in home.glob("models--*")) if home.is_dir() else 0
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    said = "offline (HF_HUB_OFFLINE)" if offline else "asked when a spec names a model that is not here"
    return Finding("hub", "ok", f"{models} models in {home}; {said}")


def _extras() -> list[Finding]:
    found = []
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if find_spec(m) is None]
        state: State = "missing" if missing else "ok"
        what = f"without {', '.join(missing)}" if missing else ", ".join(modules)
        found.append(Finding(f"[{extra}]", state, what, f'pip install "midsl[{extra}]"' if missing else ""))
    return found
