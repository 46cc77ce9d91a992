"""Edits that functions give, written out: `do zero(h)` is `do { h := 0 }` to whoever judges it.

Without this a function, of the library or of the spec's own, would hide from the lints what it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import TypeVar

from midsl.source import Span
from midsl.syntax import ast

N = TypeVar("N")
DEEPEST = 8
"""Functions are not recursive; a file that says otherwise is refused elsewhere."""


def edits_of(node: ast.Node | None, functions: Mapping[str, ast.Fn], depth: int = 0) -> Iterator[ast.Set]:
    """Every `site := value` that the edits of a run come to, in order; a function's stand at its call."""
    if isinstance(node, ast.Set):
        yield node
    elif isinstance(node, ast.Edits):
        for item in node.items:
            yield from edits_of(item, functions, depth)
    elif isinstance(node, ast.Call):
        fn = functions.get(name_of(node.func))
        if fn is not None and fn.body is not None and not fn.bindings and depth < DEEPEST:
            yield from edits_of(_filled(fn.body, _arguments(fn, node), node.span), functions, depth + 1)


def name_of(func: ast.Expr) -> str:
    """What is called, with its module: `zero`, `edits.zero`."""
    if isinstance(func, ast.Field) and isinstance(func.base, ast.Name):
        return f"{func.base.id}.{func.name}"
    return func.id if isinstance(func, ast.Name) else ""


def _arguments(fn: ast.Fn, call: ast.Call) -> dict[str, ast.Expr]:
    free = iter(fn.params)
    given = {p.name: p.default for p in fn.params if p.default is not None}
    for arg in call.args:
        name = arg.name if arg.name is not None else next((p.name for p in free), None)
        if name is not None:
            given[name] = arg.value
    return given


def _filled(node: N, given: Mapping[str, ast.Expr], at: Span) -> N:
    """A body with its parameters replaced by what they are given; the rest of it stands at the call."""
    if isinstance(node, ast.Name) and node.id in given:
        return given[node.id]  # type: ignore[return-value]
    if isinstance(node, tuple):
        return tuple(_filled(n, given, at) for n in node)  # type: ignore[return-value]
    if not isinstance(node, ast.Node):
        return node
    names = [f.name for f in fields(node) if f.name not in ("span", "name_span")]
    return replace(node, **{n: _filled(getattr(node, n), given, at) for n in names}, span=at)
