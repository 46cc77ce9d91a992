"""L12: what nothing reads is not computed, so a forgotten binding is a check that never happens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from midsl.sema.lints.view import Finding, View
from midsl.syntax import ast

_SINKS = (ast.Report, ast.Expect, ast.Plot, ast.Save, ast.View)


def find(view: View) -> Iterator[Finding]:
    """Bindings that no other statement names: of experiments, and of files that have some."""
    if not view.bodies and not any(isinstance(d, ast.Experiment) for d in view.module.decls):
        return  # a library: others read its names
    everywhere = _names(view.nodes)
    for b in view.bindings:
        if b.role != "control" and b.name not in everywhere:
            yield _unused(b)
    for body in view.bodies:
        if not any(isinstance(s, _SINKS) for s in body.decl.body):
            continue  # told already: it reports nothing
        inside = _names(body.nodes)
        for stmt in body.decl.body:
            if isinstance(stmt, ast.Binding) and stmt.role != "control" and stmt.name not in inside:
                yield _unused(stmt)


def _names(nodes: Iterable[ast.Node]) -> set[str]:
    """What some nodes name; a report without a value names a binding."""
    named = {n.id for n in nodes if isinstance(n, ast.Name)}
    return named | {n.name for n in nodes if isinstance(n, ast.Report) and n.value is None}


def _unused(b: ast.Binding) -> Finding:
    return Finding(
        f"`{b.name}` is bound and never read",
        b.name_span,
        "so it is never computed",
        "report it, claim something of it, or remove it",
    )
