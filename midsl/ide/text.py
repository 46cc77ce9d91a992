"""Places as the Language Server Protocol counts them: lines from 0, columns in UTF-16 units from 0."""

from __future__ import annotations

from midsl.source import SourceFile


def offset_at(source: SourceFile, line: int, character: int) -> int:
    """Return the character offset of a place; one past a line's end is that end.

    >>> offset_at(SourceFile("a", "ab\\n\\U0001d4b3c"), 1, 2)
    4
    """
    text = source.line(line + 1)
    start = _start(source, line)
    units = 0
    for i, char in enumerate(text):
        if units >= character:
            return start + i
        units += 2 if ord(char) > 0xFFFF else 1
    return start + len(text)


def place_of(source: SourceFile, offset: int) -> tuple[int, int]:
    """Return the (line, column) of a character offset.

    >>> place_of(SourceFile("a", "ab\\n\\U0001d4b3c"), 4)
    (1, 2)
    """
    line, col = source.line_col(min(max(offset, 0), len(source.text)))
    before = source.line(line)[: col - 1]
    return line - 1, sum(2 if ord(c) > 0xFFFF else 1 for c in before)


def _start(source: SourceFile, line: int) -> int:
    at = 0
    for _ in range(line):
        found = source.text.find("\n", at)
        if found < 0:
            return len(source.text)
        at = found + 1
    return at
