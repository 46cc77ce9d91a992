"""Source files and spans: every diagnostic points into one of these."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True, eq=False)
class SourceFile:
    """One `.mi` text with its name; lines and columns count from 1."""

    name: str
    text: str
    path: Path | None = None

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        starts += [i + 1 for i, c in enumerate(self.text) if c == "\n"]
        return starts

    def line_col(self, offset: int) -> tuple[int, int]:
        """Return the 1-based (line, column) of a character offset.

        >>> SourceFile("a.mi", "x\\nyz").line_col(3)
        (2, 2)
        """
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """Return the text of a 1-based line, without its newline."""
        if not 1 <= number <= len(self._starts):
            return ""
        end = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[self._starts[number - 1] : end]


@dataclass(frozen=True)
class Span:
    """Characters ``start..end`` of a source; spans never take part in equality of what carries them."""

    source: SourceFile = field(repr=False)
    start: int
    end: int

    def to(self, other: Span) -> Span:
        """Return the span from the start of this one to the end of the other."""
        return Span(self.source, min(self.start, other.start), max(self.end, other.end))

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def __str__(self) -> str:
        line, col = self.source.line_col(self.start)
        return f"{self.source.name}:{line}:{col}"


NO_SOURCE = SourceFile("<built-in>", "")
NO_SPAN = Span(NO_SOURCE, 0, 0)
