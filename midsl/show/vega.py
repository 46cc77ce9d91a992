"""Reports as Vega-Lite specifications (version 5): plain data, with the rows inside.

A specification is a dict that JSON can hold; nothing is fetched when it is drawn. Points without a
finite value cannot be drawn, and the subtitle counts them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail
from midsl.ir.plots import PLOTS, text_axis
from midsl.show.graph import graph_values, graph_view
from midsl.show.heatmap import pick_axes
from midsl.show.table import is_number
from midsl.store.rows import ResultTable

Json = dict[str, Any]
TEXT = "text of the token"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # a name; drawing fetches nothing from it


def vega(
    kind: str,
    table: ResultTable,
    channels: Mapping[str, str] | None = None,
    texts: Sequence[str] | None = None,
) -> Json:
    """Return the specification of one plot of a report.

    Args:
        kind: one of `PLOTS`.
        texts: of `tokens` only: what stands at each row's position.
        channels: channel -> column (a key, `value`, `n` or `se`); what is missing is chosen: keys
            for x (and y of a heatmap), `value` for what is drawn over them.

    Raises:
        MI0206: no such kind or channel. MI0205: the report has no such column, or too few keys.
    """
    channels = dict(channels or {})
    if kind not in PLOTS:
        raise fail("MI0206", f"there is no plot `{kind}`", help=f"plots are: {', '.join(PLOTS)}")
    for channel, column in channels.items():
        if channel not in PLOTS[kind]:
            known = ", ".join(PLOTS[kind])
            raise fail("MI0206", f"`{kind}` has no channel `{channel}`", help=f"its channels are: {known}")
        if column not in table.columns:
            has = ", ".join(table.columns)
            raise fail("MI0205", f"`{table.title}` has no column `{column}`", help=f"it has: {has}")
    values = _values(table)
    if kind == "tokens":
        if texts is None:
            help = "plot it in the spec: `plot tokens(name)`"
            raise fail("MI0206", f"`{table.title}` does not say which tokens its rows stand for", help=help)
        values = [row | {TEXT: text} for row, text in zip(values, texts, strict=True)]
    if kind == "graph":
        missing = [c for c in ("src", "dst") if c not in table.keys]
        if missing:
            has = ", ".join(table.columns)
            raise fail("MI0205", f"`{table.title}` has no column `{missing[0]}`", help=f"it has: {has}")
        values = graph_values(table, channels.get("facet"))
    spec: Json = {"$schema": SCHEMA, "title": _title(table), "data": {"values": values}}
    spec["usermeta"] = {"midsl": {"kind": kind, "report": table.title, "channels": dict(channels)}}
    facet = channels.pop("facet", None)
    view = _KINDS[kind](table, channels)
    if facet is not None:
        return spec | {"facet": _axis(table, facet), "columns": 4, "spec": view}
    return spec | view


def to_json(spec: Json) -> str:
    """Return a specification as text; nothing in it may be NaN or infinite."""
    return json.dumps(spec, ensure_ascii=False, allow_nan=False)


def _title(table: ResultTable) -> Json:
    missing = int((~np.isfinite(table.value)).sum())
    title: Json = {"text": table.title}
    if missing:
        title["subtitle"] = f"{missing} of {len(table)} points have no finite value and are not drawn"
    return title


def _values(table: ResultTable) -> list[Json]:
    def plain(v: Any) -> Any:
        if isinstance(v, np.generic):
            v = v.item()
        return None if isinstance(v, float) and not math.isfinite(v) else v

    return [{c: plain(v) for c, v in zip(table.columns, row, strict=True)} for row in table.rows()]


def _type(table: ResultTable, column: str) -> str:
    words = any(v is not None and not is_number(v) for v in table.keys.get(column, []))
    return "nominal" if words else "quantitative"


def _field(table: ResultTable, column: str, of: str | None = None, **more: Any) -> Json:
    """Encode a column; `of` overrides what its values suggest, except that words stay nominal."""
    kind = _type(table, column)
    title = f"{column} [{table.unit}]" if column == "value" and table.unit else column
    # Vega-Lite reads dots and brackets in a field name as a path into the row.
    name = "".join(f"\\{c}" if c in ".[]\\" else c for c in column)
    encoding: Json = {"field": name, "type": of if of and kind != "nominal" else kind, "title": title}
    return encoding | more


def _axis(table: ResultTable, column: str) -> Json:
    """Encode a column with one place per value; words in the order in which the rows have them."""
    encoding = _field(table, column, "ordinal")
    return encoding | {"sort": None} if encoding["type"] == "nominal" else encoding


def _tooltip(table: ResultTable) -> list[Json]:
    return [_field(table, c) for c in table.columns]


def _heatmap(table: ResultTable, channels: dict[str, str]) -> Json:
    x, y = pick_axes(table, channels.get("x"), channels.get("y"))
    color = channels.get("color", "value")
    numbers = table.value if color == "value" else np.asarray(_column(table, color))
    encoding = {
        "x": _axis(table, x) | {"axis": {"labelAngle": 0}},
        "color": _field(table, color, "quantitative", scale=_around_zero(numbers)),
        "tooltip": _tooltip(table),
    }
    if y is not None:
        encoding["y"] = _axis(table, y)
    return {"mark": {"type": "rect"}, "encoding": encoding, "width": {"step": 20}, "height": {"step": 20}}


def _around_zero(numbers: NDArray[np.float64]) -> Json:
    """A scale of colours that is symmetric; the domain is said, for `domainMid` is ignored at one sign."""
    finite = np.abs(numbers[np.isfinite(numbers)])
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    return {"scheme": "redblue", "reverse": True, "domain": [-top, top]}


def _column(table: ResultTable, column: str) -> list[Any]:
    at = table.columns.index(column)
    return [row[at] if row[at] is not None else math.nan for row in table.rows()]


def _first_free_key(table: ResultTable, channels: dict[str, str]) -> str | None:
    return next((k for k in table.keys if k not in channels.values()), None)


def _over_a_key(table: ResultTable, channels: dict[str, str]) -> dict[str, str]:
    """Fill in x, y and color of a plot of values over one key."""
    filled = dict(channels)
    if "x" not in filled:
        x = _first_free_key(table, filled)
        if x is None:
            raise fail(
                "MI0205",
                f"`{table.title}` has no key left for the x axis",
                help="name fewer axes for the other channels",
            )
        filled["x"] = x
    filled.setdefault("y", "value")
    if "color" not in filled and (color := _first_free_key(table, filled)) is not None:
        filled["color"] = color
    return filled


def _with_error_bars(table: ResultTable, y: str, view: Json, mark: Json) -> Json:
    if y != "value" or not np.isfinite(table.se).any():
        return {"mark": mark, **view}
    bars: Json = {"mark": {"type": "errorbar"}, "encoding": {"yError": {"field": "se"}}}
    if mark["type"] == "bar":
        bars["encoding"]["color"] = {"value": "black"}  # in the bar's own colour half of it would vanish
    return {**view, "layer": [{"mark": mark}, bars]}


def _line(table: ResultTable, channels: dict[str, str]) -> Json:
    c = _over_a_key(table, channels)
    encoding = {"x": _field(table, c["x"]), "y": _field(table, c["y"])}
    if "color" in c:
        encoding["color"] = _axis(table, c["color"])
    return _with_error_bars(table, c["y"], {"encoding": encoding}, {"type": "line", "point": True})


def _bar(table: ResultTable, channels: dict[str, str]) -> Json:
    c = _over_a_key(table, channels)
    encoding = {"x": _axis(table, c["x"]), "y": _field(table, c["y"], stack=None)}
    if "color" in c:
        encoding["color"] = _axis(table, c["color"])
        encoding["xOffset"] = _axis(table, c["color"])
    return _with_error_bars(table, c["y"], {"encoding": encoding}, {"type": "bar"})


def _scatter(table: ResultTable, channels: dict[str, str]) -> Json:
    c = _over_a_key(table, channels)
    encoding: Json = {"x": _field(table, c["x"]), "y": _field(table, c["y"]), "tooltip": _tooltip(table)}
    if "color" in c:
        encoding["color"] = _field(table, c["color"])
    return {"mark": {"type": "point", "filled": True}, "encoding": encoding}


def _histogram(table: ResultTable, channels: dict[str, str]) -> Json:
    x = channels.get("x", "value")
    count = {"aggregate": "count", "type": "quantitative", "title": "rows"}
    encoding: Json = {"x": _field(table, x, bin={"maxbins": 40}), "y": count}
    if _type(table, x) == "nominal":
        encoding["x"].pop("bin")
    if "color" in channels:
        encoding["color"] = _axis(table, channels["color"])
    return {"mark": {"type": "bar"}, "encoding": encoding}


def _strip(table: ResultTable, channels: dict[str, str]) -> Json:
    c = _over_a_key(table, channels)
    encoding: Json = {"x": _axis(table, c["x"]), "y": _field(table, c["y"]), "tooltip": _tooltip(table)}
    if "color" in channels:
        encoding["color"] = _axis(table, c["color"])
    return {"mark": {"type": "tick", "thickness": 2}, "encoding": encoding, "width": {"step": 24}}


def _hist2d(table: ResultTable, channels: dict[str, str]) -> Json:
    c = _over_a_key(table, channels)
    count = {"aggregate": "count", "type": "quantitative", "title": "rows", "scale": {"scheme": "blues"}}
    x, y = (
        _axis(table, column)
        if _type(table, column) == "nominal"
        else _field(table, column, bin={"maxbins": 30})
        for column in (c["x"], c["y"])
    )
    encoding = {"x": x, "y": y, "color": count}
    return {"mark": {"type": "rect"}, "encoding": encoding}


def _tokens(table: ResultTable, channels: dict[str, str]) -> Json:
    """A line of text for each example, each token on the colour of its value."""
    shared: Json = {"x": _axis(table, text_axis(table.keys, channels)), "y": _axis(table, "example")}
    color = _field(table, "value", "quantitative", scale=_around_zero(table.value))
    # Words stand on colours of their own, light ones but at the ends of the scale.
    word = {"field": TEXT, "type": "nominal"}
    tooltip = [*_tooltip(table), word]
    layers = [
        {"mark": {"type": "rect"}, "encoding": {"color": color, "tooltip": tooltip}},
        {"mark": {"type": "text", "fontSize": 10, "color": "black"}, "encoding": {"text": word}},
    ]
    return {"layer": layers, "encoding": shared, "width": {"step": 56}, "height": {"step": 18}}


def _graph(table: ResultTable, channels: dict[str, str]) -> Json:
    """Nodes and edges: the colour of an edge is its weight."""
    return graph_view(_field(table, "value", "quantitative", scale=_around_zero(table.value)))


_KINDS: dict[str, Callable[[ResultTable, dict[str, str]], Json]] = {
    "heatmap": _heatmap,
    "line": _line,
    "bar": _bar,
    "scatter": _scatter,
    "histogram": _histogram,
    "strip": _strip,
    "hist2d": _hist2d,
    "tokens": _tokens,
    "graph": _graph,
}
