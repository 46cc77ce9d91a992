"""Graphs as Vega-Lite: nodes in layers from left to right, edges as lines, thick by size of weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from midsl.store.rows import ResultTable

Json = dict[str, Any]
Edge = tuple[str, str]


def layout(edges: Sequence[Edge]) -> dict[str, tuple[int, float]]:
    """Where each node stands: its layer, and its place in it from top to bottom, centred on 0.

    The layer is the length of the longest way to it. Edges back, of which a loop has one, are left out of
    that; nodes of a layer are ordered by the mean place of those that lead to them.

    >>> layout([("a", "b"), ("b", "c"), ("a", "c")])
    {'a': (0, 0.0), 'b': (1, 0.0), 'c': (2, 0.0)}
    """
    nodes = list(dict.fromkeys(n for e in edges for n in e))
    before: dict[str, list[str]] = {n: [] for n in nodes}
    for s, t in _forward(nodes, edges):
        before[t].append(s)
    layer: dict[str, int] = {}
    for n in _in_order(nodes, before):
        layer[n] = max((layer[b] + 1 for b in before[n]), default=0)
    rows: dict[int, list[str]] = {}
    for n in nodes:
        rows.setdefault(layer[n], []).append(n)
    at: dict[str, tuple[int, float]] = {}
    for depth in sorted(rows):
        centre = {n: float(np.mean([at[b][1] for b in before[n]])) if before[n] else 0.0 for n in rows[depth]}
        members = sorted(rows[depth], key=lambda n: centre[n])  # stable: of equals, as they came
        for i, n in enumerate(members):
            at[n] = (depth, i - (len(members) - 1) / 2)
    return {n: at[n] for n in nodes}


def _forward(nodes: Sequence[str], edges: Sequence[Edge]) -> list[Edge]:
    """Edges without those that close a loop, in a walk that takes nodes and edges as they come."""
    out: dict[str, list[str]] = {n: [] for n in nodes}
    for s, t in edges:
        out[s].append(t)
    state: dict[str, int] = {}  # 1: on the way, 2: done
    kept: list[Edge] = []
    for root in nodes:
        stack = [(root, iter(out[root]))] if root not in state else []
        state.setdefault(root, 1)
        while stack:
            node, left = stack[-1]
            after = next(left, None)
            if after is None:
                state[node] = 2
                stack.pop()
            elif state.get(after) != 1:
                kept.append((node, after))
                if after not in state:
                    state[after] = 1
                    stack.append((after, iter(out[after])))
    return kept


def _in_order(nodes: Sequence[str], before: Mapping[str, Sequence[str]]) -> list[str]:
    """Nodes, each after all that lead to it."""
    left = {n: len(b) for n, b in before.items()}
    out: dict[str, list[str]] = {n: [] for n in nodes}
    for n, b in before.items():
        for s in b:
            out[s].append(n)
    ready = [n for n in nodes if not left[n]]
    for n in ready:
        for t in out[n]:
            left[t] -= 1
            if not left[t]:
                ready.append(t)
    return ready


def graph_values(table: ResultTable, facet: str | None) -> list[Json]:
    """What is drawn: a record for each edge and each node that one touches; a picture for each facet."""
    groups: dict[Any, list[tuple[str, str, float | None]]] = {}
    value = [float(v) if np.isfinite(v) else None for v in table.value]
    keys = table.keys[facet] if facet is not None else [None] * len(table)
    for k, s, t, v in zip(keys, table.keys["src"], table.keys["dst"], value, strict=True):
        groups.setdefault(k, []).append((str(s), str(t), v))
    found: list[Json] = []
    for k, rows in groups.items():
        own = {facet: k} if facet is not None else {}
        at = layout([(s, t) for s, t, _ in rows])
        for s, t, v in rows:
            (x, y), (x2, y2) = at[s], at[t]
            found.append(
                {**own, "is": "edge", "src": s, "dst": t, "value": v, "size": abs(v or 0.0)}
                | {"x": x, "y": y, "x2": x2, "y2": y2}
            )
        found += [{**own, "is": "node", "node": n, "x": x, "y": y} for n, (x, y) in at.items()]
    return found


def graph_view(colour: Json) -> Json:
    """The layers of the picture: edges, nodes, names; `colour` is how a weight is shown."""
    plain: Json = {"type": "quantitative", "axis": None, "scale": {"zero": False, "padding": 24}}
    place: Json = {"x": {"field": "x", **plain}, "y": {"field": "y", **plain}}
    ends = {"x2": {"field": "x2"}, "y2": {"field": "y2"}}
    width = {"field": "size", "type": "quantitative", "legend": None, "scale": {"range": [0.5, 4]}}
    told = [{"field": c, "type": "nominal"} for c in ("src", "dst")]
    told.append({"field": "value", "type": "quantitative"})
    edges: Json = {
        "transform": [{"filter": "datum.is == 'edge'"}],
        "mark": {"type": "rule", "opacity": 0.8},
        "encoding": {**place, **ends, "color": colour, "strokeWidth": width, "tooltip": told},
    }
    only = [{"filter": "datum.is == 'node'"}]
    name: Json = {"field": "node", "type": "nominal"}
    nodes: Json = {
        "transform": only,
        "mark": {"type": "point", "filled": True, "size": 60, "color": "gray"},
        "encoding": {**place, "tooltip": [name]},
    }
    names: Json = {
        "transform": only,
        "mark": {"type": "text", "dy": -10, "fontSize": 10},
        "encoding": {**place, "text": name},
    }
    return {"layer": [edges, nodes, names], "width": 480, "height": 320}
