"""L04: a sparse autoencoder scores well on many things by being large; a random one tells how many."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.view import Finding, View, callee
from midsl.syntax import ast


def find(view: View) -> Iterator[Finding]:
    """Autoencoders that reports read, in a file without a control, a random one or the table of both."""
    called = [callee(n) for n in view.nodes if isinstance(n, ast.Call)]
    if view.has_control or any("random" in c or c == "dictionary_scores" for c in called):
        return
    dictionaries = view.calls("sae", "transcoder", "crosscoder")
    if any(_as_drawn(b.value) for b in dictionaries):
        return
    for b in dictionaries:
        if b.role != "decomposition":
            continue
        reports = [r for body in view.bodies for r in body.all(ast.Report)]
        bodies = [n for body in view.bodies for r in body.all(ast.Report) for n in body.reach(r)]
        if reports and any(isinstance(n, ast.Name) and n.id == b.name for n in ast.walk(tuple(bodies))):
            yield Finding(
                f"scores of `{b.name}` stand alone",
                b.name_span,
                "no control tells what a random dictionary of this size would score",
                "report `dictionary_scores(...)`, which has one, or add `random_dictionary(...)`",
            )


def _as_drawn(value: ast.Expr) -> bool:
    """Whether a dictionary is one that nothing was fitted to: ``fit: {}``."""
    if not isinstance(value, ast.Call):
        return False
    fits = [a.value for a in value.args if a.name == "fit"]
    return any(isinstance(f, ast.Record) and not f.fields for f in fits)
