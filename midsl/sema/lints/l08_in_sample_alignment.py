"""L08: an alignment map that may bend enough fits any pairs it has seen; only unseen ones count."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.sema.lints.view import Finding, View, argument, overlap, path
from midsl.syntax import ast


def find(view: View) -> Iterator[Finding]:
    """Interchange runs through a map on the pairs that it was found with."""
    found = {}
    for b in view.bindings:
        rows = [p for name in ("source", "base") if (p := path(argument(b.value, name)))]
        if rows:
            found[b.name] = rows
    for body in view.bodies:
        for run in body.runs:
            names = {n.id for n in ast.walk(run.edits) if isinstance(n, ast.Name)} & set(found)
            for name in sorted(names):
                if any(overlap(path(run.data), rows) for rows in found[name]):
                    yield Finding(
                        f"`{name}` is tested on the pairs it was found with",
                        run.data.span,
                        "in-sample interchange accuracy says little",
                        "split the pairs, find on one part and test on the other: `d.test.corrupt`",
                    )
