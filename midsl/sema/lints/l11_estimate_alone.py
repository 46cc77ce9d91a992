"""L11: a gradient guesses what patching would do; saturation makes it guess wrong."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.unfold import name_of
from midsl.sema.lints.view import Finding, View, callee
from midsl.syntax import ast


def find(view: View) -> Iterator[Finding]:
    """Reports from `grad` in a file that never edits a run."""
    if any(body.edits for body in view.bodies):
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


def _takes_gradient(node: ast.Node, view: View) -> bool:
    """Whether a node is a call of `grad`, or of a function that has one in it."""
    if callee(node) == "grad":
        return True
    fn = view.functions.get(name_of(node.func)) if isinstance(node, ast.Call) else None
    return fn is not None and any(callee(n) == "grad" for n in ast.walk(fn))
