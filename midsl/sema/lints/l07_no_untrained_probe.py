"""L07: a probe can read much from an untrained network; what training put there is the difference."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.view import Finding, View, callee
from midsl.syntax import ast

_UNTRAINED = ("untrained", "hf_random", "toy", "reinit")


def find(view: View) -> Iterator[Finding]:
    """Probes in a file with neither an untrained model nor a control."""
    if view.has_control:
        return
    if any(callee(n).startswith(_UNTRAINED) for n in view.nodes if isinstance(n, ast.Call)):
        return
    for b in view.calls("probe"):
        yield Finding(
            f"probe `{b.name}` has no untrained control",
            b.name_span,
            "what it reads may be there before training",
            "fit the same probe on an untrained model of this shape, and report both",
        )
