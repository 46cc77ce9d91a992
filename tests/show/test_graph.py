"""Pictures of graphs: where nodes stand, and what is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midsl.diagnostics.model import MiError
from midsl.plan.driver import Execution, compile_source
from midsl.plan.plots import drawn
from midsl.show.graph import layout
from midsl.show.svg import can_draw, svg
from midsl.show.vega import to_json, vega
from midsl.source import SourceFile
from midsl.store.rows import Key, ResultTable


def edges(**more: list[Key]) -> ResultTable:
    keys: dict[str, list[Key]] = {"src": ["embed", "a0.h0", "embed"], "dst": ["a0.h0", "logits", "logits"]}
    nan = np.full(3, np.nan)
    value = np.array([0.5, -2.0, np.nan])
    return ResultTable("e", "g_edges.weight", {**more, **keys}, value, np.ones(3, int), nan, "logit")


def test_layers_are_longest_ways_and_every_edge_points_right() -> None:
    found = [("embed", "m0"), ("embed", "logits"), ("m0", "m1"), ("m1", "logits"), ("embed", "m1")]
    at = layout(found)
    assert [at[n][0] for n in ("embed", "m0", "m1", "logits")] == [0, 1, 2, 3]
    assert all(at[s][0] < at[t][0] for s, t in found)


def test_nodes_of_a_layer_stand_apart_below_those_that_lead_to_them() -> None:
    at = layout([("a", "x"), ("b", "y"), ("c", "z"), ("a", "z")])
    assert [at[n] for n in "abc"] == [(0, -1.0), (0, 0.0), (0, 1.0)]
    assert sorted(at[n][1] for n in "xyz") == [-1.0, 0.0, 1.0] and at["x"][1] < at["y"][1]


def test_a_loop_has_a_place_too() -> None:
    at = layout([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "d")])
    assert [at[n][0] for n in "abcd"] == [0, 1, 2, 3]


def test_edges_and_nodes_are_drawn_with_what_they_are() -> None:
    spec: dict[str, Any] = json.loads(to_json(vega("graph", edges())))
    lines = [r for r in spec["data"]["values"] if r["is"] == "edge"]
    nodes = {r["node"]: r for r in spec["data"]["values"] if r["is"] == "node"}
    assert [r["value"] for r in lines] == [0.5, -2.0, None] and set(nodes) == {"embed", "a0.h0", "logits"}
    assert (lines[1]["x"], lines[1]["x2"]) == (nodes["a0.h0"]["x"], nodes["logits"]["x"])
    assert [view["mark"]["type"] for view in spec["layer"]] == ["rule", "point", "text"]
    assert spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == [-2.0, 2.0]
    assert spec["title"]["subtitle"].startswith("1 of 3 points")
    if can_draw():
        drawn = svg(spec)
        assert drawn.startswith("<svg") and all(f">{n}<" in drawn for n in nodes)


def test_a_facet_has_nodes_of_its_own() -> None:
    spec: dict[str, Any] = json.loads(to_json(vega("graph", edges(k=[1, 1, 2]), {"facet": "k"})))
    found = {(r["k"], r["node"]) for r in spec["data"]["values"] if r["is"] == "node"}
    assert found == {(1, "embed"), (1, "a0.h0"), (1, "logits"), (2, "embed"), (2, "logits")}
    assert spec["facet"]["field"] == "k"
    if can_draw():
        assert svg(spec).count("embed") >= 2


def test_what_has_no_edges_is_refused() -> None:
    alone = ResultTable("e", "x", {"layer": [0]}, np.ones(1), np.ones(1, int), np.ones(1))
    with pytest.raises(MiError) as error:
        vega("graph", alone)
    assert error.value.diagnostics[0].code == "MI0205"


ATTRIBUTED = """language mi 1
import std.models as models
from std.tasks import repeats
from std.decomp import transcoder
from std.attribution.transcoder_graph import pruned_graph, replaced, transcoder_graph
model m = models.toy(layers: 2, heads: 2, d_model: 6, d_mlp: 8, vocab: 8, ctx: 8, seed: 0)
## allow(L04): as drawn
decomposition tcs = transcoder(from: m.blocks[*].ln2.normalized, to: m.blocks[*].mlp_out, d_sae: 6)
data row  = repeats(m.tokenizer, n: 1, period_min: 2, period_max: 2, ctx: 5, seed: 5)
site read = m.blocks[*].ln2.normalized
site made = m.blocks[*].mlp_out
experiment attribution {
  let r = replaced(m, row, made)
  let g = transcoder_graph(r, read, made, m.blocks[0].resid_pre, tcs, [7, 2, 7, 2, 7], [1, 3], length: 5)
  report whole = g
  report left  = pruned_graph(g, nodes: 0.9, edges: 0.95)
  plot graph(whole)
  plot graph(left)
}
"""


@pytest.mark.slow
def test_attribution_graphs_are_drawn_edge_by_edge() -> None:
    """What `std.attribution` makes of a run, and what `std.graphs` leaves of it: marks are counted."""
    done = Execution(compile_source(SourceFile("a.mi", ATTRIBUTED), Path()))
    done.run()
    plots = [p for s in done.stages for p in s.plots]
    assert [t.report for _, t in plots] == ["whole_edges.weight", "left_edges.weight"]
    assert len(plots[0][1]) > len(plots[1][1]) > 3, "fewer edges once it is pruned"
    for plot, table in plots:
        spec = json.loads(to_json(drawn(plot, table, done.bound)))
        lines = [r for r in spec["data"]["values"] if r["is"] == "edge"]
        nodes = {r["node"] for r in spec["data"]["values"] if r["is"] == "node"}
        pairs = list(zip(table.keys["src"], table.keys["dst"], strict=True))
        assert [(r["src"], r["dst"]) for r in lines] == pairs and nodes == {n for pair in pairs for n in pair}
        assert any(str(n).startswith("f") for n in nodes) and any(str(n).startswith("o") for n in nodes)
        if can_draw():
            picture = svg(spec)
            assert all(f">{n}<" in picture for n in nodes)
            held = {"rule mark": lines, "point": nodes, "text mark": nodes}
            marks = {w: picture.count(f'aria-roledescription="{w}"') for w in held}
            assert marks == {w: len(x) for w, x in held.items()}
