"""L05: patching explains how a model does a task; that it does it has to be claimed first."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.view import Body, Finding, View
from midsl.syntax import ast


def find(view: View) -> Iterator[Finding]:
    """Experiments that sweep edits, in a file where no `expect` rests on untouched runs alone."""
    if any(_untouched(body, e.condition) for body in view.bodies for e in body.all(ast.Expect)):  # type: ignore[attr-defined]
        return
    for body in view.bodies:
        sweeps = [n for n in body.decl.body if isinstance(n, ast.Sweep)]
        if sweeps and body.edits:
            yield Finding(
                f"experiment `{body.decl.name}` sweeps edits of a model that may not do the task",
                sweeps[0].span,
                "no `expect` says what the model does without them",
                'claim it: `expect gap > 0, "the model does the task"`, with `gap` from runs without `do`',
            )


def _untouched(body: Body, condition: ast.Expr) -> bool:
    """Whether a claim depends on runs, and on none with edits."""
    runs = [n for n in body.reach(condition) if isinstance(n, ast.Run)]
    return bool(runs) and all(r.edits is None for r in runs)
