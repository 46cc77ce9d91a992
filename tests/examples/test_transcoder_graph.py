"""The attribution graph of one prompt: its claims hold, fail with a broken method, and it goes to others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.examples.common import EXAMPLES, ask, changed, midsl

SPEC = EXAMPLES / "transcoder_graph.mi"
BROKEN = {
    "gradients go through the MLPs": (
        "let r      = replaced(m, d.clean, made)\n  let e      = direct_effects(r, read",
        "let r      = run m on d.clean\n  let e      = direct_effects(r, read",
        "features_off < 1e-5 and logits_off < 1e-5",
    ),
    "transcoders that were not fitted": (
        "steps: 1500",
        "steps: 1",
        "s.replacement > c.replacement + 0.05 and s.completeness > c.completeness",
    ),
    "features that speak for 9": (
        "top_mask(helps, k: 5",
        "top_mask(0 - helps, k: 5",
        "free > mean(else_, over: draw) + 1.5 and free > 0.4 * told",
    ),
    "influence on something else": (
        "at: g.nodes.prob, all",
        "at: 2 * g.nodes.prob, all",
        "max(abs(told - ways.all), over: node) < 1e-12 and max(abs(ways.at), over: node) ~= 0",
    ),
}
"""What breaks the method, by what it is, and the claim that has to notice."""


@pytest.mark.slow
def test_it_holds_is_drawn_and_goes_to_neuronpedia(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert midsl("run", SPEC, "--store", store).exit_code == 0
    (kept,) = ask(store, "SELECT count(*) AS n FROM prompt.pruned_nodes WHERE kept > 0")
    assert 5 < kept["n"] < 30
    made = midsl("report", "latest", "--store", store, "--out", tmp_path / "report.html")
    assert made.exit_code == 0, made.output
    page = (tmp_path / "report.html").read_text()
    assert "o7@2" in page and "f1." in page, "the view of the graph names its nodes"

    about = tmp_path / "about.json"
    tokens = ["3", "4", "11"]
    told = {"slug": "sum", "scan": "toy", "prompt": "3 4 11", "prompt_tokens": tokens}
    about.write_text(json.dumps({**told, "input_string": "3 4 11", "vocab_size": 12, "cfg": {"n_layers": 2}}))
    where = ("--store", store, "--about", about)
    for format, to in (("neuronpedia", "sum.json"), ("circuit_tracer", "sum.pt")):
        given = ("--format", format, "--to", tmp_path / to)
        done = midsl("export-graph", "latest", "prompt.whole", *given, *where)
        assert done.exit_code == 0, done.output
    graph = json.loads((tmp_path / "sum.json").read_text())
    (edges,) = ask(store, "SELECT count(*) AS n FROM prompt.whole_edges")
    assert len(graph["links"]) == edges["n"] > 1000 and graph["metadata"]["prompt_tokens"] == tokens


@pytest.mark.slow
@pytest.mark.parametrize("how", BROKEN)
def test_claims_fail_when_the_method_is_broken(how: str, tmp_path: Path) -> None:
    old, new, claim = BROKEN[how]
    store = tmp_path / "store"
    assert midsl("run", changed(SPEC, tmp_path, old, new, count=-1), "--store", store).exit_code == 3
    assert claim in {c["text"] for c in ask(store, "SELECT text FROM checks WHERE NOT passed")}
