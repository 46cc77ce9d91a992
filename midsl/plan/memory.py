"""The memory model: how many rows a run may take at once, and whether a plan fits at all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from midsl.diagnostics.model import fail
from midsl.source import Span

MAX_ROW_TOKENS = 3072
"""Rows x positions of one chunk, the fastest of 1024 to 6144 on a CPU: memory of this size is used again, not
fetched anew from the system, and more costs more of it."""


def available_bytes() -> int:
    """Memory that a plan may use: ``MIDSL_MEMORY`` bytes if set, else what the system says is free."""
    given = os.environ.get("MIDSL_MEMORY")
    if given:
        return int(float(given))
    limits = [_meminfo()]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def _meminfo() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Budget:
    """How many rows fit, from the peak bytes of one and of two rows."""

    base: int
    per_row: int

    def rows(self, available: int, length: int, span: Span, what: str) -> int:
        """Rows per chunk; refuses (MI0602, exit code 4) if not even one fits."""
        room = available - self.base
        fits = room // max(1, self.per_row)
        if fits < 1:
            need = self.base + self.per_row
            raise fail(
                "MI0602",
                f"{what} needs {human(need)} for a single row, and {human(available)} are free",
                span,
                label=f"rows of {length} tokens",
                help=f"shorter rows would fit: about {max(1, int(length * available / need))} tokens",
                exit_code=4,
            )
        return max(1, min(int(fits), MAX_ROW_TOKENS // max(1, length) or 1))

    def together(self, rows: int, available: int, span: Span, what: str) -> int:
        """Rows that must go together: all of them, or a refusal (MI0602, exit code 4)."""
        need = self.base + self.per_row * rows
        if need > available:
            raise fail(
                "MI0602",
                f"{what} over {rows} rows needs {human(need)}",
                span,
                label="all rows at once",
                help=f"about {max(0, available - self.base) // max(1, self.per_row)} rows would fit",
                exit_code=4,
            )
        return rows


def out_of_memory(err: BaseException) -> bool:
    """Whether an exception says that memory ran out; PyTorch says so of a CPU in words only."""
    return isinstance(err, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(err)


def human(n: float) -> str:
    """Bytes for people.

    >>> human(3_400_000)
    '3.4 MB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return ""
