"""L03: without a dose of zero a steering curve has no origin, and a broken edit looks like an effect."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.view import Finding, View, is_zero
from midsl.syntax import ast


def find(view: View) -> Iterator[Finding]:
    """Edits `self + dose * ...` whose dose is swept over a list without 0."""
    for body in view.bodies:
        for _, edit in body.edits:
            for node in ast.walk(edit.value):
                if not isinstance(node, ast.Binary) or node.op not in ("+", "-"):
                    continue
                if not isinstance(node.left, ast.SelfRef):
                    continue
                for name in _factors(node.right):
                    clause = body.clauses.get(name.id)
                    doses = clause.source if clause is not None else None
                    if (
                        isinstance(doses, ast.ListExpr)
                        and _numbers(doses)
                        and not any(map(is_zero, doses.items))
                    ):
                        yield Finding(
                            "steering without a dose of zero",
                            doses.span,
                            "none of these leaves the run as it was",
                            "add 0.0 and expect that nothing changes there",
                        )


def _factors(added: ast.Expr) -> Iterator[ast.Name]:
    """The names that what is added is computed with; those inside a call choose what it is, not how much."""
    match added:
        case ast.Name():
            yield added
        case ast.Unary(_, operand):
            yield from _factors(operand)
        case ast.Binary(_, left, right):
            yield from _factors(left)
            yield from _factors(right)


def _numbers(doses: ast.ListExpr) -> bool:
    """Whether a list holds numbers that add up to doses, and not labels or indices."""
    inner = [x.operand if isinstance(x, ast.Unary) else x for x in doses.items]
    return bool(inner) and all(isinstance(x, ast.Literal_) and type(x.value) in (int, float) for x in inner)
