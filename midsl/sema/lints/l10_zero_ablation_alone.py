"""L10: zero is a value like another, and often one the model never sees; a mean or a swap is the check."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.view import Finding, View, is_zero
from midsl.syntax import ast


def find(view: View) -> Iterator[Finding]:
    """Sites set to 0 that no other edit of the experiment sets to anything else."""
    for body in view.bodies:
        others = [s.target for _, s in body.edits if not is_zero(s.value)]
        done: list[ast.Expr] = []
        for _, edit in body.edits:
            code = any(isinstance(n, ast.Field) and n.name == "code" for n in body.reach(edit.target))
            if is_zero(edit.value) and edit.target not in [*others, *done] and not code:
                done.append(edit.target)
                yield Finding(
                    "zero is the only ablation tried here",
                    edit.span,
                    "zero may be far from anything the model sees",
                    "compare with its mean: `h := mean(base[h], over: batch)`, or with another run's value",
                )
