"""Fixes: the edit of the text that a diagnostic's help describes, where there is just one.

A diagnostic may carry its fix. Those that say "did you mean" need not: the message quotes the name
that is wrong, the help the one that is right, and the span says where to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from midsl.diagnostics.model import Diagnostic, Fix
from midsl.source import NO_SOURCE, SourceFile, Span

_MEANT = re.compile(r"^did you mean `([^`]+)`\?$")
_QUOTED = re.compile(r"`([^`]+)`")


def fix_of(d: Diagnostic) -> Fix | None:
    """Return the fix of a diagnostic, or None if a person has to decide.

    >>> source = SourceFile("a.mi", "loss(bsae)")
    >>> message, help = "unknown name `bsae`", "did you mean `base`?"
    >>> fix_of(Diagnostic("MI0201", message, Span(source, 0, 10), help=help)).text
    'base'
    """
    if d.fix is not None or d.span.source is NO_SOURCE:
        return d.fix
    meant = _MEANT.match(d.help)
    if meant is None:
        return None
    right = meant.group(1)
    for wrong in reversed(_QUOTED.findall(d.message)):
        for name in dict.fromkeys((wrong, wrong.rpartition(".")[2] if "." not in right else wrong)):
            hits = list(re.finditer(rf"(?<![\w.]){re.escape(name)}(?!\w)", d.span.text))
            hits = hits or list(re.finditer(rf"\b{re.escape(name)}(?!\w)", d.span.text))
            if len(hits) == 1:
                at = d.span.start + hits[0].start()
                return Fix(Span(d.span.source, at, at + len(name)), right)
    return None


def fixes_in(source: SourceFile, diagnostics: Iterable[Diagnostic]) -> list[tuple[Diagnostic, Fix]]:
    """Return the fixes that fall into a source, in the order of the text, no two of which overlap."""
    found = [(d, f) for d in diagnostics if (f := fix_of(d)) is not None and f.span.source is source]
    found.sort(key=lambda pair: (pair[1].span.start, pair[1].span.end))
    out: list[tuple[Diagnostic, Fix]] = []
    for d, fix in found:
        if not out or out[-1][1].span.end < fix.span.start or (out[-1][1].span.end == fix.span.start != 0):
            out.append((d, fix))
    return out


def apply(text: str, fixes: Iterable[Fix]) -> str:
    """Return a text with fixes that do not overlap put in."""
    for fix in sorted(fixes, key=lambda f: f.span.start, reverse=True):
        text = text[: fix.span.start] + fix.text + text[fix.span.end :]
    return text
