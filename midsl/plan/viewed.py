"""What a `view` shows: rows of data as tokens with the names of their positions, a column, or any value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from midsl.data.dataset import Part
from midsl.ir import nodes as ir
from midsl.plan.bound import Bound
from midsl.plan.results import Results
from midsl.plan.words import decoder
from midsl.store.rows import Viewed


def viewed(sink: ir.View, results: Results, bound: Bound) -> Viewed:
    """What a `view` shows, once its value is there."""
    value = sink.value
    if isinstance(value, ir.Part):
        columns, rows = _part(bound.part(value), decoder(value, bound))
    elif isinstance(value, ir.Column):
        assert isinstance(value.part, ir.Part)
        columns, rows = _column(value.name, bound.part(value.part), decoder(value.part, bound))
    else:
        table = results.report(sink.as_report)
        columns, rows = tuple(table.columns), list(table.rows())
    return Viewed(sink.experiment, sink.text, columns, rows)


def _part(part: Part, token: Callable[[int], str]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Each row as its tokens, and where its named positions are; of states as the numbers that it is."""
    if "state" in part.columns and part.columns["state"].kind == "state":
        return _column("state", part, token)
    rows = []
    for i, (ids, n) in enumerate(zip(part.tokens, part.lengths, strict=True)):
        text = "|".join(token(int(t)) for t in ids[:n])
        rows.append((int(part.examples[i]), text, ", ".join(_places(part, i))))
    return ("example", "tokens", "positions"), rows


def _places(part: Part, i: int) -> list[str]:
    found = []
    for name, column in part.columns.items():
        if column.kind == "pos":
            found.append(f"{name} {column.values[i]}")
        elif column.kind == "span":
            lo, hi = (int(v) for v in column.values[i])
            found.append(f"{name} {lo}..{hi}")
    return found


def _column(
    name: str, part: Part, token: Callable[[int], str]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """One line for each row: its label, number, position or token."""
    if name in ("tokens", "next"):
        start = int(name == "next")
        cells: list[Any] = [
            "|".join(token(int(t)) for t in ids[start:n])
            for ids, n in zip(part.tokens, part.lengths, strict=True)
        ]
    else:
        column = part.columns[name]
        cells = list(np.asarray(column.values).tolist())
        if column.kind == "token":
            cells = [token(int(c)) for c in cells]
        elif column.kind == "span":
            cells = [f"{lo}..{hi}" for lo, hi in cells]
        elif column.kind == "state":
            cells = [" ".join(f"{x:.4g}" for x in c) for c in cells]
    return ("example", name), [(int(e), c) for e, c in zip(part.examples, cells, strict=True)]
