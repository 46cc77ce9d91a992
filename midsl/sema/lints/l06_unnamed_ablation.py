"""L06: one circuit is 0% or 100% faithful by how the rest is ablated, so a number needs its kind."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.view import Finding, View
from midsl.syntax import ast

_SCORES = ("faithful", "complete", "minimal", "sufficien")
_KINDS = ("zero", "mean", "resample", "corrupt", "noise", "swap", "random", "edge", "node")


def find(view: View) -> Iterator[Finding]:
    """Reports of faithfulness whose name, comment and experiment say nothing of the ablation."""
    for body in view.bodies:
        for report in body.all(ast.Report):
            assert isinstance(report, ast.Report)
            said = f"{report.name} {report.docs} {body.decl.name} {body.decl.docs}".lower()
            if any(s in report.name.lower() for s in _SCORES) and not any(k in said for k in _KINDS):
                yield Finding(
                    f"`{report.name}` does not say how the rest was ablated",
                    report.span,
                    "the kind of ablation decides this number",
                    f"name it: `report {report.name}_mean = ...`, or `## mean over prompts` behind it",
                )
