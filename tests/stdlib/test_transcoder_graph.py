"""Attribution graphs of transcoders, against numbers worked out by other ways, and through the formats."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import midsl
from midsl.artefacts.graphs import find, tracer
from midsl.artefacts.graphs.base import GraphFile
from midsl.plan.driver import Execution, compile_spec
from midsl.plan.export_graph import export_graph
from tests.artefacts.test_peers import peer
from tests.plan.corpus import exact_session, tables

Floats = NDArray[np.float64]
HEAD = """language mi 1
import std.models as models
from std.attribution.transcoder_graph import direct_effects, graph_scores, pruned_graph, replaced
from std.attribution.transcoder_graph import spelled, transcoder_graph, unfed
from std.decomp import transcoder
from std.graphs import influence
from std.tasks import repeats
param d_sae: Int = 6
model m = models.toy(layers: 2, heads: 2, d_model: 6, d_mlp: 8, vocab: 8, ctx: 8, seed: 0)
data text = repeats(m.tokenizer, n: 16, period_min: 2, period_max: 2, ctx: 5, seed: 0)
data row  = repeats(m.tokenizer, n: 1, period_min: 2, period_max: 2, ctx: 5, seed: 5)
site read = m.blocks[*].ln2.normalized
site made = m.blocks[*].mlp_out
let f = { on: text, optim: adam(lr: 1e-2), steps: 40, batch: 32, seed: 0 }
decomposition tcs = transcoder(from: read, to: made, d_sae: d_sae, fit: f)
"""
SUMS = """
experiment sums {
  let r    = replaced(m, row, made)
  let e    = direct_effects(r, read, made, m.blocks[0].resid_pre, tcs, 5, [1, 3])
  let bare = unfed(m, row, r, m.blocks[0].resid_pre, made, tcs)
  let of_mlps = sum(e.features, over: [layer, pos, feature]) + sum(e.errors, over: [layer, pos])
  let pre_ = spelled(dot(r[read] - bare[read], tcs.encoder, over: d_model), 5)
  report added = mean(of_mlps + sum(e.tokens, over: pos), over: batch)
  report pre = mean(rename(pre_, layer: to_layer, feature: to_feature), over: batch)
}
"""
GRAPH = """
experiment made_of {
  let r = replaced(m, row, made)
  let g = transcoder_graph(r, read, made, m.blocks[0].resid_pre, tcs, [7, 2, 7, 2, 7], [1, 3], length: 5)
  let s = graph_scores(g)
  report whole = graph(g, nodes: { influence: influence(g, g.nodes.prob) })
  report left  = pruned_graph(g, nodes: 0.7, edges: 0.9)
  report replacement = s.replacement
  report completeness = s.completeness
}
"""


@pytest.mark.parametrize("layers", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_what_features_read_adds_up_in_float64(layers: int, tmp_path: Path) -> None:
    """And the prompt runs once for all edges: the second run is the one without tokens.

    With skips over three layers it is as many more: what they hand on goes through one more with each.
    """
    path = tmp_path / "sums.mi"
    path.write_text(HEAD + SUMS if not layers else with_skips(HEAD + SUMS, layers))
    compiled = compile_spec(path)
    execution = Execution(compiled)
    execution.run(session=exact_session(compiled))
    got = {k: t.value for k, t in tables(execution).items()}
    assert np.abs(got["sums.added"] - got["sums.pre"]).max() < 1e-12 * np.abs(got["sums.pre"]).max()
    assert np.abs(got["sums.pre"]).max() > 0.1
    assert execution.totals.forwards == 2 + layers


def with_skips(text: str, layers: int) -> str:
    """The same of transcoders with a linear skip, in a model of so many layers."""
    text = text.replace("layers: 2", f"layers: {layers}").replace("[1, 3])", f"[1, 3], skips: {layers})")
    text = text.replace("made, tcs)", f"made, tcs, skips: {layers})")
    return text.replace("import transcoder\n", "import skip_transcoder\n").replace(
        "= transcoder(", "= skip_transcoder("
    )


@pytest.mark.slow
def test_memory_and_passes_are_the_same_for_any_number_of_features(tmp_path: Path) -> None:
    """What is kept grows by the codes alone: 42 more features at 5 positions in 2 layers, 4 bytes each."""
    path = tmp_path / "sums.mi"
    path.write_text(HEAD + SUMS)
    costs = []
    for size in ("6", "48"):
        compiled = compile_spec(path, {"d_sae": size})
        session = compiled.session()
        (step,) = [s for s in compiled.plan.runs if s.grads]
        cost = session.predict(step)
        costs.append((cost.forwards, cost.flops, cost.peak_bytes - cost.bytes, cost.bytes))
    (*few, kept), (*many, more) = costs
    assert many == few and more - kept == 42 * 5 * 2 * 4


def table(done: midsl.Results, name: str) -> dict[tuple[str, ...], float]:
    found = next(t for t in done.tables if t.report == name)
    keys = list(zip(*found.keys.values(), strict=True)) or [()]
    return dict(zip(keys, found.value.tolist(), strict=True))


def about() -> Path:
    """What the formats say besides a graph."""
    told = {
        "slug": "s",
        "scan": "m",
        "prompt_tokens": list("abcde"),
        "prompt": "abcde",
        "input_string": "abcde",
    }
    Path("about.json").write_text(json.dumps({**told, "vocab_size": 8, "cfg": {"n_layers": 2}}))
    return Path("about.json")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, midsl.Results]:
    """The folder and the results of a graph that was made, with its store there."""
    folder = tmp_path_factory.mktemp("graph")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, midsl.run(HEAD + GRAPH, store="store")


@pytest.mark.slow
def test_scores_influence_and_formats(
    ran: tuple[Path, midsl.Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, done = ran
    monkeypatch.chdir(folder)
    edges = table(done, "whole_edges.weight")
    nodes = {
        c: {k[0]: v for k, v in table(done, f"whole_nodes.{c}").items()}
        for c in ("kept", "prob", "activation", "influence")
    }
    names = [n for n, kept in nodes["kept"].items() if kept]
    assert {n[0] for n in names} == set("feto") and {s for s, _ in edges} | {t for _, t in edges} <= {*names}
    at = {n: i for i, n in enumerate(names)}
    a = np.zeros((len(names), len(names)))  # [target, source], as circuit-tracer has it
    for (s, t), weight in edges.items():
        a[at[t], at[s]] = weight
    n = np.abs(a) / np.maximum(np.abs(a).sum(1, keepdims=True), 1e-10)
    w = np.array([nodes["prob"][name] for name in names])
    by_inverse = w @ (np.linalg.inv(np.eye(len(names)) - n) - np.eye(len(names)))
    by_ways = np.zeros(len(names))  # from the logits backwards, each node once all that it feeds is known
    order = nx.DiGraph([(s, t) for s, t in edges])
    for name in reversed(list(nx.topological_sort(order))):
        i = at[name]
        by_ways[i] = (n[:, i] * (by_ways + w)).sum()
    told = np.array([nodes["influence"][name] for name in names])
    np.testing.assert_allclose(by_ways, by_inverse, atol=1e-10)
    np.testing.assert_allclose(told, by_inverse, atol=1e-6)
    tokens, errors = ([name[0] == kind for name in names] for kind in "te")
    want = told[tokens].sum() / (told[tokens].sum() + told[errors].sum())
    assert table(done, "replacement")[()] == pytest.approx(want, abs=1e-6) and 0.1 < want < 0.999
    part, all_ = 1 - n[:, errors].sum(1), by_inverse + w
    want = (part * all_).sum() / all_.sum()
    assert table(done, "completeness")[()] == pytest.approx(want, abs=1e-6) and want < 0.999
    left = table(done, "left_edges.weight")
    assert 0 < len(left) < len(edges) and all(edges[k] == v for k, v in left.items())

    about()
    for format, file in (("neuronpedia", "g.json"), ("circuit_tracer", "g.pt")):
        export_graph(Path("store"), "latest", "made_of.whole", format, Path(file), {}, Path("about.json"))
        again: GraphFile = tracer.read(Path(file)) if file.endswith("pt") else find.read(Path(file))
        pairs = zip(again.src, again.dst, again.edges["weight"], strict=True)
        weights: dict[tuple[str, ...], float] = {
            (again.names[s], again.names[t]): float(x) for s, t, x in pairs
        }
        assert weights.keys() == edges.keys()
        assert all(weights[k] == pytest.approx(v, rel=1e-6) for k, v in edges.items())
        active = dict(zip(again.names, again.nodes["activation"], strict=True))
        assert all(active[k] == pytest.approx(nodes["activation"][k], rel=1e-6) for k in names)


@pytest.mark.slow
def test_the_package_itself_loads_what_is_written_and_says_the_same(
    ran: tuple[Path, midsl.Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores, influence and what pruning leaves, by circuit-tracer's own code (0.5.0); skipped without it."""
    theirs = peer("circuit_tracer.graph")
    folder, done = ran
    monkeypatch.chdir(folder)
    export_graph(Path("store"), "latest", "made_of.whole", "circuit_tracer", Path("g.pt"), {}, about())
    graph = theirs.Graph.from_pt("g.pt")
    replacement, completeness = theirs.compute_graph_scores(graph)
    assert replacement == pytest.approx(table(done, "replacement")[()], abs=1e-5)
    assert completeness == pytest.approx(table(done, "completeness")[()], abs=1e-5)
    names = tracer.read(Path("g.pt")).names
    weights = torch.zeros(len(names))
    weights[-len(graph.logit_targets) :] = graph.logit_probabilities
    influence = theirs.compute_node_influence(graph.adjacency_matrix, weights).tolist()
    ours = table(done, "whole_nodes.influence")
    assert influence == pytest.approx([ours[n,] for n in names], abs=1e-5)
    left = theirs.prune_graph(graph, node_threshold=0.7, edge_threshold=0.9)
    kept = {n for (n,), k in table(done, "left_nodes.kept").items() if k}
    assert {n for n, k in zip(names, left.node_mask.tolist(), strict=True) if k} == kept
    dst, src = left.edge_mask.nonzero(as_tuple=True)
    edges = {(names[s], names[d]) for s, d in zip(src.tolist(), dst.tolist(), strict=True)}
    assert edges == {(s, d) for s, d in table(done, "left_edges.weight")}
