"""What a name is: its kind, type and sizes, and what its `##` comment says."""

from __future__ import annotations

import re

from midsl.graph.names import BY_NAME
from midsl.ide.analysis import Analysis
from midsl.ide.names import Definition
from midsl.ir.types import Axis
from midsl.sema.builtin_docs import BUILTIN_DOCS
from midsl.sema.typenames import type_of, written
from midsl.sema.values import (
    BuiltinV,
    DataV,
    ExternV,
    FnV,
    ModelV,
    PartV,
    RunV,
    SiteV,
    SpaceV,
    TensorV,
    Value,
)
from midsl.source import Span
from midsl.syntax import ast


def hover(a: Analysis, offset: int) -> tuple[Span, str] | None:
    """Return where the thing at an offset stands, and Markdown about it."""
    meant = a.names.at(offset)
    if meant is not None:
        span = next(s for s, d in a.names.uses if d is meant and s.start <= offset <= s.end)
        value = _value(a, meant) or a.value_of(span)
        return span, _text(meant.name, meant.kind, value, getattr(meant.node, "docs", ""))
    found = a.value_at(offset)
    if found is None:
        return None
    span, value = found
    last = re.search(r"(\w+)\W*$", span.text)
    return span, _text(last.group(1) if last else span.text, "", value, _site_doc(value))


def describe(value: Value) -> str:
    """A value in one line: its type, and the sizes of its axes where they are known.

    >>> from midsl.sema.values import ConstV
    >>> describe(ConstV(3))
    'Int = 3'
    """
    if isinstance(value, TensorV):
        return str(value.type) + _sizes(value.type.axes)
    if isinstance(value, SiteV):
        stars = f", one for each {' and '.join(value.stars)}" if value.stars else ""
        sizes = ", ".join(f"{n} {value.model.sizes[n]}" for n in value.row.axes if n in value.model.sizes)
        return f"Site[{', '.join(value.row.axes)}]" + (f" ({sizes})" if sizes else "") + stars
    if isinstance(value, ModelV):
        return "Model (" + ", ".join(f"{k} {v}" for k, v in value.sizes.items()) + ")"
    if isinstance(value, DataV):
        return f"Data with {', '.join([*value.splits, *value.sides, *value.columns])}"
    if isinstance(value, PartV):
        return f"Data ({value.name}) with {', '.join(value.columns)}"
    if isinstance(value, RunV):
        return f"Run on {value.part.name or 'the data'}" + (" with edits" if value.node.edits else "")
    if isinstance(value, (FnV, ExternV)):
        return signature(value)
    if isinstance(value, BuiltinV):
        return BUILTIN_DOCS[value.name][0]
    if isinstance(value, SpaceV):
        return f"module {value.name}"
    shown = getattr(value, "value", None)
    return type_of(value) + (f" = {shown!r}" if isinstance(shown, (int, float, str)) else "")


def signature(value: FnV | ExternV) -> str:
    """A function as it is declared, its body left out."""
    params = value.decl.params if isinstance(value, ExternV) else value.params
    name = value.decl.name if isinstance(value, ExternV) else value.name
    shown = [re.sub(r"\s+", " ", p.span.text) or p.name for p in params]
    returns = value.decl.returns if isinstance(value, ExternV) else value.returns
    return f"fn {name}({', '.join(shown)})" + (f" -> {written(returns)}" if returns is not None else "")


def _sizes(axes: tuple[Axis, ...]) -> str:
    known = [f"{a} {a.size}" for a in axes if a.size is not None]
    return f" ({', '.join(known)})" if known else ""


def _value(a: Analysis, meant: Definition) -> Value | None:
    expr = getattr(meant.node, "value", None)
    return a.value_of(expr.span) if isinstance(expr, ast.Node) and meant.kind != "sweep" else None


def _site_doc(value: Value) -> str:
    if not isinstance(value, SiteV):
        return ""
    return next((n.doc for n in BY_NAME.values() if n.name == value.site.name.rpartition("}.")[2]), "")


def _text(name: str, kind: str, value: Value | None, docs: str) -> str:
    if value is not None and not docs:
        docs = value.decl.docs if isinstance(value, ExternV) else _site_doc(value)
        docs = value.docs if isinstance(value, FnV) else docs
    if isinstance(value, BuiltinV):
        docs = BUILTIN_DOCS[value.name][1]
    head = f"{kind} {name}".strip()
    body = f"{head}: {describe(value)}" if value is not None else head
    return f"```mi\n{body}\n```" + (f"\n\n{docs}" if docs else "")
