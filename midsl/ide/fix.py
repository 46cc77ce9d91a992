"""`midsl fix`: check, put the fixes in, check again, until nothing is left that has one.

A round that does not leave fewer errors (or, of a sound file, fewer warnings) is taken back: a fix is a
guess at what was meant, and one that makes things worse was wrong.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from midsl.diagnostics.fixes import apply, fixes_in
from midsl.diagnostics.model import Diagnostic
from midsl.sema.check import check_source
from midsl.sema.filefacts import FileFacts
from midsl.source import SourceFile

_ROUNDS = 20  # each mends what the one before could not see, such as errors behind a syntax error


@dataclass
class Fixed:
    """A text before and after, the fixes in between, and what is left to say of it."""

    before: str
    text: str
    fixes: list[dict[str, Any]] = field(default_factory=list)
    left: list[Diagnostic] = field(default_factory=list)

    def diff(self, name: str) -> str:
        """The change as a unified diff; "" if there is none."""
        pair = (self.before.splitlines(keepends=True), self.text.splitlines(keepends=True))
        return "".join(difflib.unified_diff(*pair, name, name))


def fix_source(source: SourceFile) -> Fixed:
    """Mend what has a fix; lines and columns of the fixes are those of the text each was made in."""
    done = Fixed(source.text, source.text)
    found = _check(source)
    for _ in range(_ROUNDS):
        fixes = fixes_in(source, found)
        if not fixes:
            break
        after = SourceFile(source.name, apply(source.text, [f for _, f in fixes]), source.path)
        then = _check(after)
        if _weight(then) >= _weight(found) and not _moved_on(found, then):
            break
        for d, fix in fixes:
            line, col = source.line_col(fix.span.start)
            what = {"code": d.code, "line": line, "col": col, "old": fix.span.text, "new": fix.text}
            done.fixes.append(what)
        source, found = after, then
    done.text, done.left = source.text, found
    return done


def _check(source: SourceFile) -> list[Diagnostic]:
    return list(check_source(source, FileFacts()).bag)


def _weight(found: list[Diagnostic]) -> tuple[int, int]:
    errors = sum(d.severity == "error" for d in found)
    return errors, len(found) - errors


def _moved_on(found: list[Diagnostic], then: list[Diagnostic]) -> bool:
    """Whether the syntax was at fault and is not any more: only then does the rest get a hearing."""
    return any(d.code.startswith("MI01") for d in found) and not any(d.code.startswith("MI01") for d in then)
