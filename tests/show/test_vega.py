"""Vega-Lite specifications, checked for their structure."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from midsl.diagnostics.model import MiError
from midsl.ir.plots import PLOTS
from midsl.show.vega import TEXT, to_json, vega
from midsl.store.rows import Key, ResultTable

MARKS = {"rect", "line", "bar", "point", "errorbar", "tick"}


def report(se: float = float("nan")) -> ResultTable:
    keys: dict[str, list[Key]] = {
        "layer": [0, 0, 1, 1],
        "head": [0, 1, 0, 1],
        "part": ["row", "full", "row", None],
    }
    value = np.array([0.5, -2.0, np.nan, np.inf])
    return ResultTable("e", "effect", keys, value, np.full(4, 3), np.full(4, se), "logit")


def views(spec: dict[str, Any]) -> list[dict[str, Any]]:
    view = spec.get("spec", spec)
    return view.get("layer", [view])  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", sorted(set(PLOTS) - {"tokens", "graph"}))
@pytest.mark.parametrize("se", [float("nan"), 0.25])
@pytest.mark.parametrize("facet", [{}, {"facet": "part"}])
def test_every_kind_is_whole(kind: str, se: float, facet: dict[str, str]) -> None:
    table = report(se)
    spec = json.loads(to_json(vega(kind, table, facet)))
    assert spec["$schema"].endswith("vega-lite/v5.json")
    rows = spec["data"]["values"]
    assert [list(r) for r in rows] == [table.columns] * 4
    assert [r["value"] for r in rows] == [0.5, -2.0, None, None]
    assert spec["title"]["subtitle"].startswith("2 of 4 points")
    assert ("facet" in spec) == bool(facet)
    shared = spec.get("spec", spec).get("encoding", {})
    for view in views(spec):
        assert view["mark"]["type"] in MARKS
        encoding = shared | view.get("encoding", {})
        assert encoding
        for channel in encoding.values():
            for one in channel if isinstance(channel, list) else [channel]:
                assert one.get("field") in [*table.columns, None]
                assert "field" in one or "value" in one or one.get("aggregate") == "count"


def test_heatmap_colours_are_symmetric_and_axes_as_asked() -> None:
    spec = vega("heatmap", report(), {"x": "head", "y": "layer", "facet": "part"})
    encoding = spec["spec"]["encoding"]
    assert (encoding["x"]["field"], encoding["y"]["field"]) == ("head", "layer")
    assert encoding["x"]["type"] == "ordinal"
    assert encoding["color"]["scale"]["domain"] == [-2.0, 2.0]
    assert encoding["color"]["title"] == "value [logit]"
    assert spec["facet"]["type"] == "nominal" and spec["facet"]["sort"] is None


def test_error_bars_only_where_there_are_errors() -> None:
    assert [v["mark"]["type"] for v in views(vega("line", report()))] == ["line"]
    assert [v["mark"]["type"] for v in views(vega("line", report(0.1)))] == ["line", "errorbar"]
    assert [v["mark"]["type"] for v in views(vega("line", report(0.1), {"y": "n"}))] == ["line"]


def test_channels_that_are_left_out_are_filled_with_keys() -> None:
    encoding = vega("line", report())["encoding"]
    assert [encoding[c]["field"] for c in ("x", "y", "color")] == ["layer", "value", "head"]
    encoding = vega("bar", report(), {"x": "part"})["encoding"]
    assert [encoding[c]["field"] for c in ("x", "y", "color", "xOffset")] == [
        "part",
        "value",
        "layer",
        "layer",
    ]
    assert encoding["x"]["type"] == "nominal"
    assert "bin" in vega("histogram", report())["encoding"]["x"]
    assert "bin" not in vega("histogram", report(), {"x": "part"})["encoding"]["x"]


def test_a_dot_in_a_name_is_no_path() -> None:
    table = ResultTable("e", "r", {"a.b[0]": [1, 2]}, np.ones(2), np.ones(2, int), np.ones(2))
    assert vega("line", table)["encoding"]["x"]["field"] == "a\\.b\\[0\\]"


@pytest.mark.parametrize(
    ("kind", "channels", "code"),
    [
        ("pie", {}, "MI0206"),
        ("line", {"size": "n"}, "MI0206"),
        ("line", {"x": "pos"}, "MI0205"),
        ("heatmap", {"x": "value"}, "MI0205"),
        ("tokens", {}, "MI0206"),
    ],
)
def test_what_cannot_be_drawn_is_refused(kind: str, channels: dict[str, str], code: str) -> None:
    with pytest.raises(MiError) as error:
        vega(kind, report(), channels)
    assert error.value.diagnostics[0].code == code
    assert error.value.diagnostics[0].help or kind == "tokens"


@pytest.mark.parametrize("kind", sorted(set(PLOTS) - {"histogram"}))
def test_a_single_value_has_no_axis(kind: str) -> None:
    with pytest.raises(MiError):
        vega(kind, ResultTable("e", "r", {}, np.ones(1), np.ones(1, int), np.ones(1)))


def test_tokens_stand_on_the_colours_of_their_values() -> None:
    keys: dict[str, list[Key]] = {"example": [0, 0, 1, 1], "pos": [0, 1, 0, 1]}
    table = ResultTable("e", "r", keys, np.array([0.5, -2.0, np.nan, 1.0]), np.ones(4, int), np.ones(4))
    spec = vega("tokens", table, {}, ["The", " cat", "The", " dog"])
    assert [row[TEXT] for row in spec["data"]["values"]] == ["The", " cat", "The", " dog"]
    rect, text = views(spec)
    assert rect["encoding"]["color"]["scale"]["domain"] == [-2.0, 2.0]
    assert text["mark"]["type"] == "text" and text["encoding"]["text"]["field"] == TEXT
    assert spec["encoding"]["x"]["field"] == "pos" and spec["encoding"]["y"]["field"] == "example"


def test_bins_and_strips() -> None:
    encoding = vega("hist2d", report(), {"x": "n"})["encoding"]
    assert "bin" in encoding["x"] and "bin" in encoding["y"] and encoding["y"]["field"] == "value"
    assert "bin" not in vega("hist2d", report(), {"x": "part"})["encoding"]["x"], "words have no bins"
    strip = vega("strip", report(), {"x": "part", "color": "layer"})
    assert strip["encoding"]["x"]["type"] == "nominal" and strip["encoding"]["color"]["field"] == "layer"
