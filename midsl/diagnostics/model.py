"""The one diagnostic type; renderers live in render.py, the catalogue in codes.py.

A check collects diagnostics in a `Bag` and goes on, so that a file reports several errors at once;
code that cannot go on raises `MiError`, which carries one or more of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from midsl.source import NO_SPAN, Span

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Label:
    """A secondary span and what it has to say."""

    span: Span
    text: str


@dataclass(frozen=True)
class Fix:
    """An edit of the text: what a span becomes; an empty span is a place to insert at."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One finding: a code of the catalogue, a message, where, why, and how to mend it.

    `label` is shown under the primary span and must make sense alone; `help` says what to do,
    and `fix` does it where no choice is left (`fixes.fix_of` knows more of them).
    """

    code: str
    message: str
    span: Span = NO_SPAN
    label: str = ""
    notes: tuple[Label, ...] = ()
    help: str = ""
    severity: Severity = "error"
    fix: Fix | None = None


class MiError(Exception):
    """Raised where work cannot go on: carries the diagnostics, and the exit code they lead to."""

    def __init__(self, *diagnostics: Diagnostic, exit_code: int = 2) -> None:
        super().__init__("; ".join(f"{d.code}: {d.message}" for d in diagnostics))
        self.diagnostics = diagnostics
        self.exit_code = exit_code

    def at(self, span: Span) -> MiError:
        """The same error, with `span` where a diagnostic has none (loaders know no spans)."""
        placed = (replace(d, span=span) if d.span == NO_SPAN else d for d in self.diagnostics)
        return MiError(*placed, exit_code=self.exit_code)

    def seen_from(self, span: Span, text: str) -> MiError:
        """The same error; where it lies in another file than `span`, with that place as a note."""

        def noted(d: Diagnostic) -> Diagnostic:
            if any(s.source is span.source for s in (d.span, *(n.span for n in d.notes))):
                return d
            return replace(d, notes=(*d.notes, Label(span, text)))

        return MiError(*map(noted, self.diagnostics), exit_code=self.exit_code)


def fail(
    code: str,
    message: str,
    span: Span = NO_SPAN,
    *,
    label: str = "",
    help: str = "",
    notes: Iterable[Label] = (),
    exit_code: int = 2,
) -> MiError:
    """Build the exception for one error: ``raise fail("MI0201", "unknown name `x`", span)``."""
    return MiError(Diagnostic(code, message, span, label, tuple(notes), help), exit_code=exit_code)


@dataclass
class Bag:
    """Diagnostics in the order they were found."""

    items: list[Diagnostic] = field(default_factory=list)

    def add(self, diagnostic: Diagnostic) -> None:
        if diagnostic not in self.items:
            self.items.append(diagnostic)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        for d in diagnostics:
            self.add(d)

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.items if d.severity == "error"]

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)
