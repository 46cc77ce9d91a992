"""Documentation comments: which `##` lines belong to which declaration."""

from __future__ import annotations

from bisect import bisect_right

from midsl.source import SourceFile, Span
from midsl.syntax.lexer import Lexed


class Docs:
    """The `##` comments of a file, each handed to the first declaration that asks for it.

    A comment alone on its line documents the declaration that starts on the next line (several such
    lines add up). A comment behind code documents the declaration that ends before it on the line,
    or else the one whose opening line it ends.
    """

    def __init__(self, source: SourceFile, lexed: Lexed) -> None:
        self._source = source
        self._above: dict[int, str] = {}  # by the line of the comment
        self._behind: dict[int, tuple[int, int, str]] = {}  # by line: end of the token before, start, text
        ends = sorted(t.end for t in lexed.tokens if t.text)
        for start, _, text in lexed.docs:
            line, col = source.line_col(start)
            before = source.line(line)[: col - 1]
            if before.strip():
                at = bisect_right(ends, start)
                self._behind[line] = (ends[at - 1] if at else 0, start, text)
            else:
                self._above[line] = text

    def take(self, span: Span) -> str:
        """Return the documentation of the declaration at a span, and keep it from any other."""
        line, _ = self._source.line_col(span.start)
        above: list[str] = []
        before = self._source.line(line)[: self._source.line_col(span.start)[1] - 1]
        while not before.strip() and (line - 1 - len(above)) in self._above:
            above.insert(0, self._above[line - 1 - len(above)])
        for i in range(len(above)):
            del self._above[line - 1 - i]
        last, _ = self._source.line_col(span.end)
        for at in dict.fromkeys((last, line)):
            if at in self._behind:
                end, start, text = self._behind[at]
                if end == span.end or span.start < start < span.end:
                    del self._behind[at]
                    above.append(text)
                    break
        return "\n".join(above)
