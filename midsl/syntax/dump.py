"""The syntax tree as text: one node a line, children indented; what `--dump ast` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from midsl.source import SourceFile
from midsl.syntax.ast import Node


def dump(node: Node) -> str:
    """Return a tree as text; spans are left out, empty optionals too."""
    return "\n".join(_lines("", node, 0)) + "\n"


def _lines(label: str, value: object, depth: int) -> Iterator[str]:
    head = "  " * depth + (f"{label}: " if label else "")
    if isinstance(value, Node):
        plain, nested = [], []
        for f in fields(value):
            child = getattr(value, f.name)
            if f.name in ("span", "name_span") or isinstance(child, SourceFile):
                continue
            if _has_nodes(child):
                nested.append((f.name, child))
            elif child not in (None, (), "", frozenset()) or type(child) is bool or f.name == "value":
                plain.append(f"{f.name}={child!r}")
        yield head + " ".join([type(value).__name__, *plain])
        for name, child in nested:
            yield from _lines(name, child, depth + 1)
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):  # a field of a record
        yield from _lines(f"{label} {value[0]}" if label else value[0], value[1], depth)
    elif isinstance(value, tuple):
        for child in value:
            yield from _lines(label, child, depth)
    else:
        yield f"{head}{value!r}"


def _has_nodes(value: object) -> bool:
    return isinstance(value, Node) or (isinstance(value, tuple) and any(_has_nodes(v) for v in value))
