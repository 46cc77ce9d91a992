"""One version of one open file, checked once, and asked many things."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from midsl.diagnostics.model import Bag, Diagnostic, MiError
from midsl.ide.names import Names, names_of
from midsl.reach import Reach, working_in
from midsl.sema.check import check_source
from midsl.sema.filefacts import FileFacts
from midsl.sema.values import Value
from midsl.source import SourceFile, Span
from midsl.syntax import ast
from midsl.syntax.parse import parse


@dataclass
class Analysis:
    """A text with what checking it told.

    Attributes:
        source: the text.
        tree: its module, without the statements that do not parse; None if nothing could be made of it.
        diagnostics: all there is to say.
        values: what each expression came to.
    """

    source: SourceFile
    tree: ast.Module | None
    diagnostics: list[Diagnostic]
    values: dict[Span, Value] = field(default_factory=dict)

    @cached_property
    def names(self) -> Names:
        return names_of(self.tree) if self.tree is not None else Names()

    def value_at(self, offset: int) -> tuple[Span, Value] | None:
        """The innermost expression at an offset that came to something, and what."""
        hits = [
            s
            for s in self.values
            if s.source is self.source and s.start <= offset <= s.end and s.end > s.start
        ]
        if not hits:
            return None
        best = min(hits, key=lambda s: s.end - s.start)
        return best, self.values[best]

    def value_of(self, span: Span) -> Value | None:
        """What the expression at just this span came to."""
        return self.values.get(span)


def analyse(text: str, path: Path) -> Analysis:
    """Check a text as the file at a path; never raises for what is in it."""
    source = SourceFile(path.name, text, path)
    values: dict[Span, Value] = {}
    try:
        with working_in(Reach(path.parent)):
            checked = check_source(source, FileFacts(), watch=values)
    except MiError as err:
        return Analysis(source, parse(source, Bag()), list(err.diagnostics), values)
    tree = checked.module.tree if checked.module is not None else None
    return Analysis(source, tree, list(checked.bag), values)
