"""All lints over one file, less those that a comment allows.

`## allow(L03): why` above a statement, or behind it on its line, silences that lint there; above an
experiment, in all of it. The reason is not optional: an exception without one is a mistake in waiting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from midsl.diagnostics.codes import LINTS
from midsl.diagnostics.model import Bag, Diagnostic, Fix
from midsl.sema.lints import (
    l01_same_split,
    l02_unsplit_subspace,
    l03_no_zero_dose,
    l04_no_random_dictionary,
    l05_no_task_check,
    l06_unnamed_ablation,
    l07_no_untrained_probe,
    l08_in_sample_alignment,
    l09_unclaimed_divisor,
    l10_zero_ablation_alone,
    l11_estimate_alone,
    l12_unused,
)
from midsl.sema.lints.view import Finding, View
from midsl.source import SourceFile, Span
from midsl.syntax import ast
from midsl.syntax.lexer import lex
from midsl.syntax.tables import load_tables

FINDERS: dict[str, Callable[[View], Iterator[Finding]]] = {
    "L01": l01_same_split.find,
    "L02": l02_unsplit_subspace.find,
    "L03": l03_no_zero_dose.find,
    "L04": l04_no_random_dictionary.find,
    "L05": l05_no_task_check.find,
    "L06": l06_unnamed_ablation.find,
    "L07": l07_no_untrained_probe.find,
    "L08": l08_in_sample_alignment.find,
    "L09": l09_unclaimed_divisor.find,
    "L10": l10_zero_ablation_alone.find,
    "L11": l11_estimate_alone.find,
    "L12": l12_unused.find,
}
_ALLOW = re.compile(r"allow\(\s*([^)]*?)\s*\)(?:\s*:\s*(\S.*))?")


def lint(
    module: ast.Module,
    functions: Mapping[str, ast.Fn] | None = None,
    within: Callable[[str], Iterable[ast.Fn]] = lambda _: (),
) -> list[Diagnostic]:
    """Return the warnings of a file, in the order of the text.

    Args:
        functions: those that it can call, by name.
        within: of such a name, the function and all those that it calls in turn.
    """
    view = View(module, functions or {}, within)
    allows = _allows(module.source)
    found: list[Diagnostic] = []
    for code, find in FINDERS.items():
        for f in find(view):
            lines = {_line(f.span), *(_line(d.span) for d in _around(module, f.span))}
            hits = [a for a in allows if a.code == code and a.reason and lines & a.lines]
            for a in hits:
                a.used = True
            if not hits:
                found.append(Diagnostic(code, f.message, f.span, f.label, (), f.help, "warning"))
    found += [a.complaint() for a in allows if not a.used]
    return sorted(found, key=lambda d: (d.span.start, d.code))


class _Allow:
    """One `allow(...)`: the lint it names, its reason, and the lines it speaks for."""

    def __init__(self, code: str, reason: str, span: Span, lines: set[int]) -> None:
        self.code, self.reason, self.span, self.lines = code, reason, span, lines
        self.used = False

    def complaint(self) -> Diagnostic:
        if self.code not in LINTS:
            label, help = "no such lint", f"lints: {', '.join(LINTS)}"
        elif not self.reason:
            label, help = "it gives no reason", f"say why: `## allow({self.code}): the reason`"
        else:
            label, help = f"{self.code} has nothing to say here", "remove it"
        message = f"`allow({self.code})` silences nothing"
        fix = Fix(self.span, "") if help == "remove it" else None
        return Diagnostic("L00", message, self.span, label, (), help, "warning", fix)


def _allows(source: SourceFile) -> list[_Allow]:
    if "allow(" not in source.text:
        return []
    docs = [(start, end, text) for start, end, text in lex(source, load_tables(), Bag()).docs]
    alone = {
        line
        for start, _, _ in docs
        if not source.line(line := source.line_col(start)[0])[: source.line_col(start)[1] - 1].strip()
    }
    out = []
    for start, end, text in docs:
        if (found := _ALLOW.match(text)) is None:
            continue
        line = source.line_col(start)[0]
        last = line
        while last in alone:  # the comment goes on, then comes what it speaks of
            last += 1
        span = Span(source, start, end)
        out.append(_Allow(found.group(1), found.group(2) or "", span, {line, last}))
    return out


def _line(span: Span) -> int:
    return span.source.line_col(span.start)[0]


def _around(module: ast.Module, span: Span) -> Iterator[ast.Node]:
    """The declaration and the statement that a place stands in."""
    for decl in module.decls:
        if decl.span.start <= span.start < decl.span.end:
            yield decl
            body = decl.body if isinstance(decl, (ast.Experiment, ast.Method)) else ()
            yield from (s for s in body if s.span.start <= span.start < s.span.end)
