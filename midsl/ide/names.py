"""Which names of a file mean the same: each use with its definition, by the scopes of the syntax."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

from midsl.source import Span
from midsl.syntax import ast


@dataclass(frozen=True, eq=False)
class Definition:
    """A name where it is bound.

    Attributes:
        name, span: the name, and where it is written.
        kind: how: a role, `param`, `fn`, `sweep`, `argument`, `import`, ...
        node: the declaration, statement or parameter around it.
    """

    name: str
    span: Span
    kind: str
    node: ast.Node


Scope = Mapping[str, Definition]


@dataclass
class Names:
    """All names of a file.

    Attributes:
        definitions: in the order of the walk.
        uses: (where, what it means); a definition is a use of itself.
        scopes: (stretch of the file, what may be named there), outer ones first.
    """

    definitions: list[Definition] = field(default_factory=list)
    uses: list[tuple[Span, Definition]] = field(default_factory=list)
    scopes: list[tuple[Span, Scope]] = field(default_factory=list)

    def at(self, offset: int) -> Definition | None:
        """What the name at an offset means."""
        return next((d for s, d in self.uses if s.start <= offset <= s.end), None)

    def visible(self, offset: int) -> dict[str, Definition]:
        """What may be named at an offset."""
        found: dict[str, Definition] = {}
        for span, scope in self.scopes:
            if span.start <= offset <= span.end:
                found |= scope
        return found

    def of(self, definition: Definition) -> list[Span]:
        """Every place where a definition is named, itself included."""
        return sorted({s for s, d in self.uses if d is definition}, key=lambda s: s.start)


def names_of(module: ast.Module) -> Names:
    """Find every name of a file."""
    out = Names()
    top: dict[str, Definition] = {}
    whole = Span(module.source, 0, len(module.source.text))
    for imp in module.imports:
        if imp.alias:
            _define(out, top, imp.alias, imp, "import", last=True)
        for name in imp.names:
            _define(out, top, name, imp, "import", last=True)
    for decl in module.decls:
        for name, kind in _declared(decl):
            _define(out, top, name, decl, kind)
    out.scopes.append((whole, top))
    for decl in module.decls:
        _walk(out, decl, top)
    return out


def _declared(node: ast.Node) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Binding) and node.role == "control":
        return  # it has the name of the binding that it stands in for
    if isinstance(node, ast.Binding):
        yield node.name, node.role
    elif isinstance(node, (ast.Param, ast.Fn, ast.Method, ast.Experiment)):
        yield node.name, type(node).__name__.lower()
    elif isinstance(node, ast.Report) and node.value is not None:
        yield node.name, "report"


def _define(
    out: Names, scope: dict[str, Definition], name: str, node: ast.Node, kind: str, last: bool = False
) -> None:
    """Bind a name that is written in a node: its first whole word there, or the last."""
    hits = list(re.finditer(rf"\b{re.escape(name)}\b", node.span.text))
    if isinstance(node, ast.Binding) and node.name_span.end:
        span = node.name_span
    elif not hits:
        return
    else:
        # behind the keyword, for a name that is spelled like one: `report report = 1`
        skip = 1 if not last and hits[0].start() == 0 and len(hits) > 1 and kind not in _BARE else 0
        at = node.span.start + hits[-1 if last else skip].start()
        span = Span(node.span.source, at, at + len(name))
    found = Definition(name, span, kind, node)
    scope[name] = found
    out.definitions.append(found)
    out.uses.append((span, found))


_BARE = ("sweep", "argument", "comprehension")  # nodes that begin with the name itself


def _walk(out: Names, node: object, scope: dict[str, Definition]) -> None:
    if isinstance(node, tuple):
        for item in node:
            _walk(out, item, scope)
    if not isinstance(node, ast.Node):
        return
    inner = dict(scope)
    if isinstance(node, ast.Name):
        if node.id in scope:
            out.uses.append((node.span, scope[node.id]))
    elif isinstance(node, ast.Binding) and node.role == "control" and node.name in scope:
        out.uses.append((node.name_span, scope[node.name]))
    elif isinstance(node, ast.Report) and node.value is None and node.name in scope:
        at = node.span.start + node.span.text.index(node.name, len("report"))
        out.uses.append((Span(node.span.source, at, at + len(node.name)), scope[node.name]))
    if isinstance(node, (ast.Fn, ast.Method)):
        for p in node.params:
            _define(out, inner, p.name, p, "argument")
    if isinstance(node, ast.Lambda):
        for name in node.params:
            _define(out, inner, name, node, "lambda")
    if isinstance(node, ast.Comprehension):
        _walk(out, node.source, scope)
        tail = Span(node.span.source, node.item.span.end, node.source.span.start)
        _define(out, inner, node.var, ast.Name(node.var, span=tail), "comprehension")
        _walk(out, (node.item, node.where), inner)
        out.scopes.append((node.span, inner))
        return
    body = node.body if isinstance(node, (ast.Method, ast.Experiment, ast.Test)) else ()
    if isinstance(node, ast.Fn):
        body = node.bindings
    for stmt in body:
        for name, kind in _declared(stmt):
            _define(out, inner, name, stmt, kind)
        if isinstance(stmt, ast.Sweep):
            for clause in stmt.clauses:
                _define(out, inner, clause.name, clause, "sweep")
    if inner != scope:
        out.scopes.append((node.span, inner))
    for f in fields(node):
        if f.name not in ("span", "name_span", "docs"):
            _walk(out, getattr(node, f.name), inner)
