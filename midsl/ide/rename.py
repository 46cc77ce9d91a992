"""Where a name is defined, where it is used, and what renaming it changes."""

from __future__ import annotations

import re

from midsl.diagnostics.model import Fix
from midsl.ide.analysis import Analysis
from midsl.sema.values import ExternV, FnV
from midsl.source import Span
from midsl.syntax.tables import load_tables


def definition(a: Analysis, offset: int) -> Span | None:
    """Return where the thing at an offset is defined; of imports, in the file they come from."""
    meant = a.names.at(offset)
    if meant is not None and meant.kind != "import":
        return meant.span
    found = a.value_at(offset)
    if found is None and meant is not None:  # the name inside an import line
        uses = (a.value_of(s) for s in a.names.of(meant))
        found = next(((meant.span, v) for v in uses if v is not None), None)
    if found is not None:
        value = found[1]
        if isinstance(value, ExternV):
            return value.decl.span
        if isinstance(value, FnV) and value.span.end:
            return value.span
    return meant.span if meant is not None else None


def references(a: Analysis, offset: int) -> list[Span]:
    """Return every place that names the same thing, its definition first of all by place."""
    meant = a.names.at(offset)
    return a.names.of(meant) if meant is not None else []


def rename(a: Analysis, offset: int, new: str) -> list[Fix] | str:
    """Return the edits that give a name another spelling, or why it cannot have it."""
    meant = a.names.at(offset)
    if meant is None:
        return "there is no name of this file here"
    if meant.kind == "import" and not re.search(rf"\bas\s+{meant.name}\b", meant.node.span.text):
        return f"`{meant.name}` is named by the module it comes from"
    if not re.fullmatch(r"[a-z_][A-Za-z0-9_]*", new) or new in load_tables().reserved:
        return f"`{new}` cannot be a name"
    for span in a.names.of(meant):
        other = a.names.visible(span.start).get(new)
        if other is not None and other is not meant:
            return f"`{new}` already means something here"
    return [Fix(span, new) for span in a.names.of(meant)]
