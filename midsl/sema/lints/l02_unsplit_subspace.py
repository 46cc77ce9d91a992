"""L02: a patched subspace may work through a direction that the model's weights never read."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.view import Finding, View, callee
from midsl.syntax import ast


def find(view: View) -> Iterator[Finding]:
    """Writes to the code of a `basis` that no `split` takes apart."""
    bases = {b.name for b in view.bindings if b.role == "basis"}
    split = {
        a.value.id
        for n in view.nodes
        if isinstance(n, ast.Call) and callee(n) == "split"
        for a in n.args[:1]
        if isinstance(a.value, ast.Name)
    }
    for body in view.bodies:
        for _, edit in body.edits:
            base = edit.target.base if isinstance(edit.target, (ast.Field, ast.Index)) else None
            base = base.base if isinstance(base, ast.Field) else base
            if isinstance(base, ast.Name) and base.id in bases - split:
                yield Finding(
                    f"subspace `{base.id}` is patched whole",
                    edit.span,
                    "the effect may come from its part that no weight reads",
                    f"sweep its parts too: `sweep part in split({base.id}, by: W)`; compare row with full",
                )
