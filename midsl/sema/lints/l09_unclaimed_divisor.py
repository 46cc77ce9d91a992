"""L09: an effect in shares of a gap is noise where the gap is near zero."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.view import Finding, View
from midsl.syntax import ast


def find(view: View) -> Iterator[Finding]:
    """Reports that divide by a name of which no `expect` of the experiment says anything."""
    for body in view.bodies:
        claimed = {n.id for e in body.all(ast.Expect) for n in ast.walk(e) if isinstance(n, ast.Name)}
        for report in body.all(ast.Report):
            assert isinstance(report, ast.Report)
            value = report.value
            if not isinstance(value, ast.Binary) or value.op != "/" or not isinstance(value.right, ast.Name):
                continue
            name = value.right
            touched = any(isinstance(n, ast.Run) for n in body.reach(name))
            if name.id not in claimed and touched:
                yield Finding(
                    f"`{report.name}` is a share of `{name.id}`, which may be near zero",
                    name.span,
                    "no `expect` says how large it is",
                    f'claim it: `expect {name.id} > 0, "there is an effect to share out"`',
                )
