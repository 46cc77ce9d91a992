"""`RunWriter`: one run's folder, written a stage at a time.

``manifest.json`` is the commit point: it lists the parts that count, and it is replaced in one
step after they are all on the disk. A run killed at any moment leaves the stages that were
committed, and at most some files that no manifest mentions.

The writer holds the run's lock file while it lives; a run whose manifest says "running" and whose
lock is free has died, and is taken for interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from midsl.diagnostics.model import Diagnostic, fail
from midsl.source import NO_SPAN
from midsl.store.lock import copy_file, try_lock, write_text
from midsl.store.parts import Parts
from midsl.store.record import RunRecord
from midsl.store.rows import Artifact, CellRow, CheckRow, LossRow, ResultTable

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
LOCK = ".lock"

Status = Literal["done", "failed_checks", "failed", "partial", "interrupted", "verified", "differs"]


def now() -> str:
    """Return the time, in UTC, as DuckDB reads it."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(sep=" ")


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "unnamed"


class RunWriter:
    """Writes one run; `folder` is where it goes."""

    def __init__(self, folder: Path, record: RunRecord) -> None:
        """Make the run's folder and its first manifest.

        Raises:
            MI0901: if the folder is there already.
        """
        if folder.exists():
            raise fail("MI0901", f"run {record.run_uuid} has been begun before", exit_code=1)
        folder.mkdir(parents=True)
        (folder / "parts").mkdir()
        self.folder = folder
        self.run_uuid = record.run_uuid
        self._lock = try_lock(folder / LOCK)
        self._reports: set[tuple[str, str]] = set()
        self._manifest: dict[str, Any] = {
            "format": MANIFEST_FORMAT,
            "status": "running",
            "exit_code": None,
            "error": None,
            "started_at": now(),
            "finished_at": None,
            "record": record.model_dump(mode="json"),
            "stages": [],
        }
        self._save()

    def amend(self, record: RunRecord) -> None:
        """Replace what is known of the run, before its first stage: what was trained has weights now.

        Raises:
            MI0901: if a stage was written already.
        """
        if self._manifest["stages"]:
            raise fail("MI0901", f"run {self.run_uuid} has rows already", exit_code=1)
        self._manifest["record"] = record.model_dump(mode="json") | {"run_uuid": self.run_uuid}
        self._save()

    def stage(
        self,
        name: str,
        tables: Sequence[ResultTable] = (),
        checks: Sequence[CheckRow] = (),
        cells: Sequence[CellRow] = (),
        artifacts: Sequence[Artifact] = (),
        diagnostics: Sequence[Diagnostic] = (),
        fingerprint: str | None = None,
        losses: Sequence[LossRow] = (),
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        """Write what a stage produced: after this returns all of it is kept, before that nothing.

        `fingerprint` stands for all that decided its rows: a later run may take them by it. `fingerprints`:
        the parts that it is made of, and of what was said of the rows.

        Raises:
            MI0313: two reports of the run share a name (letter case aside, as in SQL).
            MI0901: the run is finished.
        """
        if self._lock is None:
            raise fail("MI0901", f"run {self.run_uuid} is finished", exit_code=1)
        titles: set[tuple[str, str]] = set()
        for table in tables:
            title = (table.experiment.casefold(), table.report.casefold())
            if title in self._reports | titles:
                raise fail("MI0313", f"the run has two reports called `{table.title}`")
            titles.add(title)
        number = f"{len(self._manifest['stages']):04d}"
        stored = [self._store(number, i, a) for i, a in enumerate(artifacts)]
        with Parts() as parts:
            for table in tables:
                parts.add_result(table)
            parts.add("checks", [_check(c) for c in checks])
            parts.add("cells", [_cell(name, c) for c in cells])
            parts.add("losses", [(x.fit, x.node_key, x.step, x.loss) for x in losses])
            parts.add("artifacts", stored)
            parts.add("diagnostics", [_finding(d) for d in diagnostics])
            about = {"run_uuid": self.run_uuid, "spec_hash": self._manifest["record"]["spec_hash"]}
            written = parts.write(self.folder / "parts", f"{number}-{_file_name(name)}", about)
        of = {"fingerprint": fingerprint, "fingerprints": dict(fingerprints or {})}
        self._manifest["stages"].append({"name": name, "parts": written, **of})
        self._save()
        self._reports |= titles

    def finish(self, status: Status, exit_code: int, error: str | None = None) -> None:
        """Record how the run ended; nothing can be staged after it."""
        self._manifest |= {"status": status, "exit_code": exit_code, "error": error, "finished_at": now()}
        self._save()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _save(self) -> None:
        write_text(self.folder / MANIFEST, json.dumps(self._manifest, ensure_ascii=False, indent=1))

    def _store(self, number: str, index: int, artifact: Artifact) -> tuple[Any, ...]:
        """Copy an artifact's file into the run's folder; returns its row."""
        where = None
        if artifact.path is not None:
            suffix = "".join(artifact.path.suffixes[-2:])
            target = self.folder / "artifacts" / f"{number}-{index}-{_file_name(artifact.name)}{suffix}"
            target.parent.mkdir(exist_ok=True)
            copy_file(artifact.path, target)
            where = target.relative_to(self.folder.parent.parent).as_posix()
            with target.open("rb") as f:
                sha, size = hashlib.file_digest(f, "sha256").hexdigest(), target.stat().st_size
        else:
            body = (artifact.text or "").encode()
            sha, size = hashlib.sha256(body).hexdigest(), len(body)
        return artifact.kind, artifact.name, where, artifact.text, sha, size


def _check(c: CheckRow) -> tuple[Any, ...]:
    return c.experiment, c.text, c.message, c.passed, c.observed, c.line, c.kind


def _cell(stage: str, c: CellRow) -> tuple[Any, ...]:
    cost = (c.seconds, c.cpu_seconds, c.forwards, c.layer_tokens, c.flops, c.bytes, c.peak_bytes)
    return stage, c.node_key, c.name, c.kind, c.status, c.reused_from, *cost


def _finding(d: Diagnostic) -> tuple[Any, ...]:
    file, line, col = None, None, None
    if d.span != NO_SPAN:
        file = d.span.source.name
        line, col = d.span.source.line_col(d.span.start)
    return d.severity, d.code, d.message, file, line, col, d.label, d.help
