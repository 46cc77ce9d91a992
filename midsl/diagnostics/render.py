"""Diagnostics as text for a terminal and as JSON for programs.

The text shows the source lines that matter, marks the primary span with `^` and every secondary one
with `-`, and puts what each has to say where the eye already is: behind the last mark of a line,
below the others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from midsl.diagnostics.fixes import fix_of
from midsl.diagnostics.model import Diagnostic
from midsl.diagnostics.visible import visible
from midsl.source import NO_SOURCE, SourceFile, Span

_TAB = 4
_COLORS = {"error": "31", "warning": "33", "note": "36"}
_SECONDARY = "34"


@dataclass(frozen=True)
class _Mark:
    """A stretch of one line, in columns of the terminal, and what to say about it."""

    start: int
    width: int
    text: str
    primary: bool


def render_text(diagnostics: Iterable[Diagnostic], color: bool = False) -> str:
    """Return the diagnostics as text, one blank line between two, a line end after the last."""
    return "\n".join(_render(_visible(d), color) for d in diagnostics)


def _visible(d: Diagnostic) -> Diagnostic:
    """What is said, with control characters written out: some of it are names that a spec or a file gave."""
    notes = tuple(replace(n, text=visible(n.text)) for n in d.notes)
    return replace(d, message=visible(d.message), label=visible(d.label), help=visible(d.help), notes=notes)


def render_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Return the diagnostics as JSON values.

    Each has `code severity message file line col end_line end_col label notes help fix`; lines and
    columns count characters from 1, the end column is the first one behind the span. What has no
    place in a file has null for all five. A note has `label` and its own place.
    `fix` is null, or a place and the `text` it becomes.
    """
    return [
        {
            "code": d.code,
            "severity": d.severity,
            "message": d.message,
            **_place(d.span),
            "label": d.label,
            "notes": [{"label": n.text, **_place(n.span)} for n in d.notes],
            "help": d.help,
            "fix": _fix(d),
        }
        for d in diagnostics
    ]


def _fix(d: Diagnostic) -> dict[str, Any] | None:
    fix = fix_of(d)
    return None if fix is None else {"text": fix.text, **_place(fix.span)}


def _place(span: Span) -> dict[str, Any]:
    if span.source is NO_SOURCE:
        return dict.fromkeys(("file", "line", "col", "end_line", "end_col"))
    line, col = span.source.line_col(span.start)
    end_line, end_col = span.source.line_col(span.end)
    return {
        "file": span.source.name,
        "line": line,
        "col": col,
        "end_line": end_line,
        "end_col": end_col,
    }


def _render(d: Diagnostic, color: bool) -> str:
    main = _COLORS[d.severity]
    out = [_paint(f"{d.severity}[{d.code}]", main, color) + f": {d.message}\n"]
    sources: list[SourceFile] = []
    for span in (d.span, *(n.span for n in d.notes)):
        if span.source is not NO_SOURCE and span.source not in sources:
            sources.append(span.source)
    marks = {id(s): _marks(d, s) for s in sources}
    gutter = max((len(str(line)) for m in marks.values() for line in m), default=1)
    for source in sources:
        own = d.span.source is source
        place = d.span if own else next(n.span for n in d.notes if n.span.source is source)
        out.append(f"{' ' * gutter}{'-->' if own else ':::'} {visible(str(place))}\n")
        previous = 0
        for line in sorted(marks[id(source)]):
            if previous and line > previous + 1:
                out.append(f"{'...' if line > previous + 2 else f'{previous + 1:>{gutter}} |'}")
                if line == previous + 2 and (between := _shown(source.line(previous + 1))):
                    out.append(f" {between}")
                out.append("\n")
            shown = _shown(source.line(line))
            out.append(f"{line:>{gutter}} |{' ' + shown if shown else ''}\n")
            for text in _underline(marks[id(source)][line], main, color):
                out.append(f"{' ' * gutter} | {text}\n")
            previous = line
    # The label of what has no place still has to be said.
    notes = [d.label] if d.label and d.span.source is NO_SOURCE else []
    notes += [n.text for n in d.notes if n.span.source is NO_SOURCE]
    out += [f"{' ' * gutter} = note: {_hang(n, gutter + 9)}\n" for n in notes]
    if d.help:
        out.append(f"{' ' * gutter} = help: {_hang(d.help, gutter + 9)}\n")
    return "".join(out)


def _hang(text: str, indent: int) -> str:
    return text.replace("\n", "\n" + " " * indent)


def _marks(d: Diagnostic, source: SourceFile) -> dict[int, list[_Mark]]:
    """Return the marks of each line of a source, left to right.

    A span over several lines marks its first line to the end and its last from the start of the
    text; its label stands at the last.
    """
    out: dict[int, list[_Mark]] = {}
    wanted = [(d.span, d.label, True)] + [(n.span, n.text, False) for n in d.notes]
    for span, text, primary in wanted:
        if span.source is not source:
            continue
        line, col = source.line_col(min(span.start, len(source.text)))
        last, end = source.line_col(min(max(span.end, span.start), len(source.text)))
        if last > line and end == 1:  # ends with the line end before
            last, end = last - 1, len(source.line(last - 1)) + 1
        for at in dict.fromkeys((line, last)):
            full = source.line(at)
            left = col if at == line else len(full) - len(full.lstrip()) + 1
            right = end if at == last else max(len(full.rstrip()) + 1, left + 1)
            start, stop = _columns(full, left), _columns(full, right)
            said = text if at == last else ""
            out.setdefault(at, []).append(_Mark(start, max(1, stop - start), said, primary))
    for marks in out.values():
        marks.sort(key=lambda m: (m.start, m.primary))
    return out


def _underline(marks: list[_Mark], main: str, color: bool) -> list[str]:
    """Draw the marks of a line: the last one's text behind it, the others' below, right to left."""
    pieces: list[tuple[int, str, str]] = []
    at = 0
    for m in marks:
        start = max(m.start, at)
        width = m.start + m.width - start
        if width > 0:
            pieces.append((start, ("^" if m.primary else "-") * width, main if m.primary else _SECONDARY))
            at = start + width
    last = marks[-1]
    behind = last.text if all(m.start + m.width <= at for m in marks) else ""
    first = _line(pieces, color) + (" " + _flat(behind) if behind else "")
    out = [first]
    for m in reversed(marks):
        if m.text and not (m is last and behind):
            out.append(" " * m.start + _paint(_flat(m.text), main if m.primary else _SECONDARY, color))
    return out


def _flat(text: str) -> str:
    return text.replace("\n", " ")


def _line(pieces: list[tuple[int, str, str]], color: bool) -> str:
    out, at = "", 0
    for start, text, paint in pieces:
        out += " " * (start - at) + _paint(text, paint, color)
        at = start + len(text)
    return out


def _shown(line: str) -> str:
    """Return a source line as it is printed: tabs widened, control characters made visible."""
    out = ""
    width = 0
    for char in line.rstrip():
        piece = " " * (_TAB - width % _TAB) if char == "\t" else char if char.isprintable() else "\ufffd"
        out += piece
        width += _width(piece)
    return out


def _columns(line: str, col: int) -> int:
    """Return how many columns of the terminal stand before a 1-based character of a line."""
    at = 0
    for char in line[: col - 1]:
        at += _TAB - at % _TAB if char == "\t" else _width(char) if char.isprintable() else 1
    return at


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _paint(text: str, code: str, color: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if color and text else text
