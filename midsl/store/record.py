"""What is known of a run before it starts: enough to run it again and to say what differed.

It is written first, into the run's manifest, so that a run that dies at once still says what it
was. Nothing here imports torch: versions are read from the installed packages' metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import subprocess
import sys
import time
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def uuid7() -> uuid.UUID:
    """Return a new UUID of version 7: its first 48 bits are the time, so ids sort by age.

    Source: RFC 9562, section 5.7.
    """
    millis = time.time_ns() // 1_000_000
    bits = (millis << 80) | secrets.randbits(80)
    bits = bits & ~(0xF << 76) | (0x7 << 76)
    bits = bits & ~(0x3 << 62) | (0x2 << 62)
    return uuid.UUID(int=bits)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ModelRecord(_Record):
    """A model of the run: how it was asked for and what was found."""

    name: str
    ref: str
    args: dict[str, Any] = {}
    arch: str = ""
    weights_sha256: str = ""
    tokenizer_fingerprint: str = ""
    numerics: str = ""


class IneligibleRecord(_Record):
    """A data row that was left out, and why."""

    row: int
    reason: str


class DatasetRecord(_Record):
    """A data set of the run; `rows` were kept of `rows_total`."""

    name: str
    ref: str
    args: dict[str, Any] = {}
    fingerprint: str = ""
    rows: int = 0
    rows_total: int = 0
    provenance: str = ""
    ineligible: list[IneligibleRecord] = []


class PlanRecord(_Record):
    """The plan: IR text, the passes that ran, predicted counts before and after them, `explain`."""

    ir: str = ""
    passes: list[Any] = []
    naive: dict[str, Any] = {}
    optimised: dict[str, Any] = {}
    explain: str = ""


class RunRecord(_Record):
    """A run before it starts; `environment` is what `environment()` returns, or more."""

    run_uuid: str = Field(default_factory=lambda: str(uuid7()))
    spec_path: str
    spec_name: str
    spec_source: str
    spec_hash: str
    params: dict[str, Any] = {}
    argv: list[str] = []
    models: list[ModelRecord] = []
    datasets: list[DatasetRecord] = []
    environment: dict[str, Any] = {}
    plan: PlanRecord = PlanRecord()
    seed: int | None = None
    numerics: str = ""


def _git(folder: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment(folder: Path | None = None) -> dict[str, Any]:
    """Return what the run runs in: versions, machine, threads, and the git commit of `folder`.

    `git_commit` and `git_dirty` are None where the folder is in no repository or git is missing.
    """
    where = folder or Path.cwd()
    packages = {d.name.lower(): d.version for d in metadata.distributions() if d.name}
    status = _git(where, "status", "--porcelain", "--untracked-files=no")
    return {
        "midsl": packages.get("midsl"),
        "torch": packages.get("torch"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "git_commit": _git(where, "rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "packages": dict(sorted(packages.items())),
    }


def json_text(value: Any) -> str:
    """Return JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def digest(value: Any) -> str:
    """Return a short hash of a JSON value."""
    return hashlib.sha256(json_text(value).encode()).hexdigest()[:32]
