"""Archives are looked at before they are unpacked: a small file must not fill the memory."""

from __future__ import annotations

import zipfile
from pathlib import Path

from midsl.diagnostics.model import fail

RATIO = 100
"""Tensors hardly compress; only files that are empty or made to harm unpack to more than this many times
their size."""
SMALL = 1 << 28
"""Bytes that any archive may unpack to."""


def check_archive(path: Path) -> None:
    """Look at the table of contents of a zip file (`.npz`, `.pt`); other files pass.

    Raises:
        MiError: MI0510 if it unpacks to more than 100 times its size, and more than 256 MiB.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        whole = sum(item.file_size for item in archive.infolist())
    if whole > max(SMALL, RATIO * path.stat().st_size):
        raise fail(
            "MI0510",
            f"{path} unpacks to {whole:,} bytes, {whole // path.stat().st_size} times its size",
            help="if it is sound, save it without compression",
        )
