"""Plots of a spec as specifications for drawing, with the words that a plot of tokens needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from midsl.ir import nodes as ir
from midsl.ir.plots import text_axis
from midsl.ir.program import left_axes
from midsl.plan.bound import Bound
from midsl.show.vega import vega
from midsl.store.rows import ResultTable


def drawn(plot: ir.Plot, table: ResultTable, bound: Bound) -> dict[str, Any]:
    """Return the Vega-Lite specification of a plot."""
    channels = dict(plot.channels)
    texts = token_texts(plot.value, table, bound, channels) if plot.kind == "tokens" else None
    return vega(plot.kind, table, channels, texts)


def token_texts(report: ir.Node, table: ResultTable, bound: Bound, channels: Mapping[str, str]) -> list[str]:
    """Return the token at each row's example and position: of the first data that the value reads there."""
    assert isinstance(report, ir.Report)
    along = text_axis(table.keys, channels)
    owner = next(a.owner for a in left_axes(report) if a.name == along)
    inside = list(ir.walk(report.value))
    node = next(n for n in inside if isinstance(n, ir.Part) and n.owner == owner)
    tokens = bound.part(node).tokens
    at = (np.asarray(table.keys[k], dtype=np.int64) for k in ("example", along))
    ids = tokens[tuple(at)].tolist()
    model = next((n.model for n in inside if isinstance(n, ir.Forward) and n.data == node), None)
    tokenizer = bound.tokenizer(model) if model is not None else None
    return [tokenizer.token(i) if tokenizer is not None else str(i) for i in ids]
