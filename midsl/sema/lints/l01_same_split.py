"""L01: what is fitted on some rows is judged on the same ones, and looks better than it is."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.view import Finding, View, argument, overlap, path
from midsl.syntax import ast


def find(view: View) -> Iterator[Finding]:
    """Runs that read a fitted lens or a trained model on the rows it was fitted on."""
    fitted = {b.name: on for b in view.bindings if (on := _rows(b.value))}
    for body in view.bodies:
        for run in body.runs:
            used = {n.id for n in ast.walk(run) if isinstance(n, ast.Name)} & set(fitted)
            for name in sorted(used):
                if overlap(path(run.data), fitted[name]):
                    rows = ".".join(path(run.data))
                    yield Finding(
                        f"`{name}` is judged on the rows it was fitted on",
                        run.data.span,
                        f"`{name}` was fitted on `{'.'.join(fitted[name])}`",
                        f"split the data and run on the other part, as in `{rows.split('.')[0]}.held_out`",
                    )


def _rows(value: ast.Expr) -> tuple[str, ...]:
    """The data a fitted value was fitted on."""
    fit = argument(value, "fit")
    trained = isinstance(value, ast.Call) and path(value.func)[-1:] == ("train",)
    return path(argument(fit, "on") if fit is not None else argument(value, "on") if trained else None)
