"""L11: a gradient guesses what patching would do; saturation makes it guess wrong."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.unfold import name_of
from midsl.sema.lints.view import Finding, View, callee
from midsl.syntax import ast


def find(view: View) -> Iterator[Finding]:
    """Reports from `grad` in a file that never edits a run but to take a gradient."""
    if any(body.edits or any(_patches(n, view) for n in body.nodes) for body in view.bodies):
        return
    for body in view.bodies:
        for report in body.all(ast.Report):
            assert isinstance(report, ast.Report)
            if any(_takes_gradient(n, view) for n in body.reach(report)):
                yield Finding(
                    f"`{report.name}` is an estimate that nothing checks",
                    report.span,
                    "it comes from a gradient, and no run is patched",
                    "patch the largest ones: `sweep h in top_sites(abs(...), k: 8)` and `do { h := clean }`",
                )


def _patches(node: ast.Node, view: View) -> bool:
    """Whether a node is a call of a function that edits runs, and not to take gradients of them."""
    inside = _inside(node, view)
    return any(isinstance(n, ast.Run) and n.edits is not None for n in inside) and "grad" not in map(
        callee, inside
    )


def _takes_gradient(node: ast.Node, view: View) -> bool:
    """Whether a node is a call of `grad`, or of a function in which, however deep, one is."""
    return "grad" in (callee(node), *map(callee, _inside(node, view)))


def _inside(node: ast.Node, view: View) -> list[ast.Node]:
    """All that stands in the function that a node calls, and in those that it calls in turn."""
    inside = view.within(name_of(node.func)) if isinstance(node, ast.Call) else ()
    return [n for fn in inside for n in ast.walk(fn)]
