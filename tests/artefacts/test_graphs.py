"""Graphs of other packages: read into specs, written from runs, and what is not understood is refused.

Files are put together here from what the formats say, field by field, and not by midsl's own writers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import networkx as nx
import pytest
import torch
from click.testing import CliRunner

import midsl
from midsl.artefacts.graphs import find, tracer
from midsl.artefacts.graphs.base import GraphFile
from midsl.cli import main
from midsl.diagnostics.model import MiError
from midsl.plan.export_graph import export_graph
from midsl.sema.check import check_source
from midsl.sema.filefacts import FileFacts
from midsl.source import SourceFile

SPEC = """language mi 1
from std.graphs import graph_file, influence, top
let g = graph_file("{file}")
experiment e {{
  report all = g
  report best = top(g, k: 2)
  report total = sum(where(g.edges.kept, g.edges.weight, 0.0), over: [src, dst])
}}
"""


def neuronpedia() -> dict[str, Any]:
    """One feature each in layers 0 and 1, an error, two tokens, a logit."""

    def node(name: str, feature_type: str, layer: str, pos: int, **more: Any) -> dict[str, Any]:
        told = {"node_id": name, "layer": layer, "ctx_idx": pos, "feature_type": feature_type}
        return {**told, "feature": None, "jsNodeId": f"{name}-0", "clerp": "", **more}

    edges = [("E_5_0", "0_9_1", 0.5), ("E_7_1", "0_9_1", 1.5), ("0_9_1", "1_4_1", -2.0)]
    edges += [("1_4_1", "3_11_1", 3.0), ("0_1_1", "3_11_1", 0.25)]
    return {
        "metadata": {"slug": "s", "scan": "m", "prompt_tokens": ["a", "b"], "prompt": "ab"},
        "qParams": {"pinnedIds": ["0_9_1"], "supernodes": [], "linkType": "both"},
        "nodes": [
            node("0_9_1", "cross layer transcoder", "0", 1, feature=54, activation=2.0, influence=0.5),
            node("1_4_1", "cross layer transcoder", "1", 1, feature=19, activation=1.0, influence=0.75),
            node("0_1_1", "mlp reconstruction error", "1", 1),
            node("E_5_0", "embedding", "E", 0),
            node("E_7_1", "embedding", "E", 1),
            node("3_11_1", "logit", "3", 1, token_prob=0.5, is_target_logit=True),
        ],
        "links": [{"source": s, "target": t, "weight": w} for s, t, w in edges],
    }


def mib() -> dict[str, Any]:
    edges = {"input->a0.h0<q>": 0.5, "a0.h0->m0": -1.0, "m0->logits": 2.0, "a0.h0->logits": -2.0}
    edges["input->logits"] = 0.0
    return {
        "cfg": {"n_layers": 1, "n_heads": 1, "parallel_attn_mlp": False, "d_model": 8},
        "nodes": {n: {"in_graph": n != "m0", "score": 0.25} for n in ("input", "a0.h0", "m0", "logits")},
        "edges": {n: {"score": w, "in_graph": "m0" not in n} for n, w in edges.items()},
    }


def raw() -> dict[str, Any]:
    """Two of three features (layer, pos, index), one layer, two tokens, two logits: 2 + 2 + 2 + 2 nodes."""
    matrix = torch.zeros(8, 8)
    matrix[1, 0], matrix[0, 4], matrix[6, 1], matrix[7, 2] = 1.5, -0.5, 2.0, 0.25  # rows are targets
    return {
        "input_string": "ab",
        "adjacency_matrix": matrix,
        "cfg": {"n_layers": 1, "model_name": "m"},
        "active_features": torch.tensor([[0, 0, 9], [0, 0, 3], [0, 1, 7]]),
        "selected_features": torch.tensor([0, 2]),
        "activation_values": torch.tensor([1.0, 2.0, 3.0]),
        "logit_targets": torch.tensor([11, 12]),
        "logit_probabilities": torch.tensor([0.5, 0.25]),
        "vocab_size": 20,
        "input_tokens": torch.tensor([5, 6]),
        "scan": "m",
    }


def graphml(path: Path) -> None:
    made = nx.DiGraph()
    made.add_node("a", score=1.0)
    made.add_node("b", score=2.0)
    made.add_edge("a", "b", weight=0.5)
    made.add_edge("b", "b", weight=-1.0)
    nx.write_graphml(made, path)


def _json(make: Callable[[], dict[str, Any]]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(json.dumps(make()), encoding="utf-8")

    return write


FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "neuronpedia": ("g.json", _json(neuronpedia)),
    "mib": ("g.json", _json(mib)),
    "circuit_tracer": ("g.pt", lambda path: torch.save(raw(), path)),
    "graphml": ("g.graphml", graphml),
}
WEIGHTS = {
    "neuronpedia": {
        ("t5@0", "f0.9@1"): 0.5,
        ("t7@1", "f0.9@1"): 1.5,
        ("f0.9@1", "f1.4@1"): -2.0,
        ("f1.4@1", "o11@1"): 3.0,
        ("e1@1", "o11@1"): 0.25,
    },
    "mib": {("input", "a0.h0<q>"): 0.5, ("a0.h0", "logits"): -2.0, ("input", "logits"): 0.0},
    "circuit_tracer": {
        ("f0.9@0", "f0.7@1"): 1.5,
        ("t5@0", "f0.9@0"): -0.5,
        ("f0.7@1", "o11@1"): 2.0,
        ("e0@0", "o12@1"): 0.25,
    },
    "graphml": {("a", "b"): 0.5, ("b", "b"): -1.0},
}
"""The edges that each file has."""
COLUMNS = {
    "neuronpedia": {"activation": {"f0.9@1": 2.0, "f1.4@1": 1.0}, "prob": {"o11@1": 0.5}},
    "mib": {"score": {"m0": 0.25, "a0.h0<q>": 0.25}, "kept": {"m0": 0.0, "input": 1.0}},
    "circuit_tracer": {"activation": {"f0.9@0": 1.0, "f0.7@1": 3.0}, "prob": {"o12@1": 0.25, "t5@0": 0.0}},
    "graphml": {"score": {"a": 1.0, "b": 2.0}},
}
ABOUT: dict[str, dict[str, Any]] = {
    "neuronpedia": neuronpedia()["metadata"],
    "mib": mib()["cfg"],
    "circuit_tracer": {"input_string": "ab", "vocab_size": 20, "scan": "m", "cfg": {"n_layers": 1}},
    "graphml": {},
}


def read(path: Path) -> GraphFile:
    return tracer.read(path).checked(path) if path.suffix == ".pt" else find.read(path)


def weights(graph: GraphFile) -> dict[tuple[str, str], float]:
    """The edges that are kept."""
    found = zip(graph.src, graph.dst, graph.edges["weight"], graph.edges["kept"], strict=True)
    return {(graph.names[s], graph.names[t]): float(w) for s, t, w, k in found if k}


@pytest.fixture(params=FILES)
def format(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A format, with a file of it in the working folder."""
    monkeypatch.chdir(tmp_path)
    name: str = request.param
    FILES[name][1](Path(FILES[name][0]))
    return name


def test_a_file_is_read_into_a_spec_and_written_from_its_run(format: str) -> None:
    file = Path(FILES[format][0])
    done = midsl.run(SPEC.format(file=file), store="store")
    answer = {t.report: t for t in done.tables}
    edges = answer["all_edges.weight"]
    found = dict(
        zip(zip(edges.keys["src"], edges.keys["dst"], strict=True), edges.value.tolist(), strict=True)
    )
    assert found == WEIGHTS[format]
    for column, values in COLUMNS[format].items():
        table = answer[f"all_nodes.{column}"]
        own = dict(zip(table.keys["node"], table.value.tolist(), strict=True))
        assert {n: own[n] for n in values} == values, column
    assert answer["total"].value.tolist() == [sum(WEIGHTS[format].values())]
    assert len(answer["best_edges.weight"]) == 2
    Path("about.json").write_text(json.dumps(ABOUT[format]), encoding="utf-8")
    out = file.with_stem("out")
    export_graph(Path("store"), "latest", "e.all", format, out, {}, Path("about.json"))
    first, again = read(file), read(out)
    assert set(again.names) == set(first.names) or format == "mib"
    assert weights(again) == weights(first) == WEIGHTS[format]
    for column, read_ in first.nodes.items():
        own = dict(zip(again.names, again.nodes[column], strict=True))
        assert {n: own[n] for n in first.names if n in own} == {
            n: v for n, v in zip(first.names, read_, strict=True) if n in own
        }, column


def test_the_command_writes_what_it_says(format: str) -> None:
    runner = CliRunner()
    spec = Path("spec.mi")
    spec.write_text(SPEC.format(file=FILES[format][0]), encoding="utf-8")
    assert runner.invoke(main, ["run", str(spec)]).exit_code == 0
    Path("about.json").write_text(json.dumps(ABOUT[format]), encoding="utf-8")
    out = Path(FILES[format][0]).with_stem("out")
    command = ["export-graph", "spec", "e.all", "--format", format, "--to", str(out), "--about", "about.json"]
    done = runner.invoke(main, [*command, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["edges"] == len(WEIGHTS[format])
    assert runner.invoke(main, command).exit_code == 2, "what is there is not written over"
    assert runner.invoke(main, [*command, "--force"]).exit_code == 0
    assert weights(read(out)) == WEIGHTS[format]


def test_a_graph_has_its_nodes_when_it_is_checked(format: str) -> None:
    """A `.pt` is any graph until torch is there; all others have their nodes."""
    node = next(iter(WEIGHTS[format]))[0]
    for name, good in ((node, True), ("nobody", format == "circuit_tracer")):
        text = (
            SPEC.format(file=FILES[format][0])
            + f'experiment f {{ report x = g.edges.weight[src: "{name}"] }}\n'
        )
        assert bool(check_source(SourceFile("t.mi", text), FileFacts()).bag.errors) != good


def change(format: str, how: Callable[[Any], object]) -> None:
    """Rewrite the file with something in it changed."""
    path = Path(FILES[format][0])
    found = torch.load(path, weights_only=True) if path.suffix == ".pt" else json.loads(path.read_text())
    how(found)
    if path.suffix == ".pt":
        torch.save(found, path)
    else:
        path.write_text(json.dumps(found))


class Config:
    n_layers = 1


def packed(path: Path, module: str, **state: object) -> None:
    """A file as the package writes it (0.5.0): objects of its own classes, which are nowhere here."""
    pair: Any = NamedTuple("pair", [("token_str", str), ("vocab_idx", int)])
    target = type("LogitTarget", (pair,), {"__module__": "circuit_tracer.attribution.targets"})
    made: dict[str, Any] = {
        "UnifiedConfig": type("UnifiedConfig", (), {"__module__": module}),
        "LogitTarget": target,
    }
    cfg = made["UnifiedConfig"]()
    vars(cfg).update(n_layers=1, d_model=8, model_name="m", dtype=torch.float32, n_key_value_heads=None)
    targets = [made["LogitTarget"](t, i) for t, i in (("x", 11), ("y", 12))]
    paths = [m.split(".") for m in (module, "circuit_tracer.attribution.targets")]
    names = {".".join(p[: i + 1]) for p in paths for i in range(len(p))}
    modules = {name: ModuleType(name) for name in names}
    for kind in made.values():
        setattr(modules[kind.__module__], kind.__name__, kind)
    with pytest.MonkeyPatch.context() as patch:  # pickle wants to find the classes that it names
        for name, there in modules.items():
            patch.setitem(sys.modules, name, there)
        torch.save({**raw(), "cfg": cfg, "logit_targets": targets, **state}, path)


def test_what_is_written_has_the_class_that_the_package_looks_for(tmp_path: Path) -> None:
    """As `Graph.from_pt` loads it: by pickle alone, from a module of that name."""
    torch.save(raw(), tmp_path / "g.pt")
    tracer.write(read(tmp_path / "g.pt"), tmp_path / "again.pt")
    assert read(tmp_path / "again.pt").about["cfg"] == {"n_layers": 1, "model_name": "m"}
    kind = type("UnifiedConfig", (), {})
    parts = ["circuit_tracer", "utils", "tl_nnsight_mapping"]
    with pytest.MonkeyPatch.context() as patch:
        for i in range(len(parts)):
            name = ".".join(parts[: i + 1])
            patch.setitem(sys.modules, name, ModuleType(name))
        sys.modules[name].UnifiedConfig = kind  # type: ignore[attr-defined]
        found = torch.load(tmp_path / "again.pt", weights_only=False)
    assert type(found["cfg"]) is kind and vars(found["cfg"]) == {"n_layers": 1, "model_name": "m"}


def test_objects_of_the_package_are_read_without_it(tmp_path: Path) -> None:
    packed(tmp_path / "g.pt", "circuit_tracer.utils.tl_nnsight_mapping")
    found = read(tmp_path / "g.pt")
    assert weights(found) == WEIGHTS["circuit_tracer"]
    assert found.about["cfg"] == {
        "n_layers": 1,
        "d_model": 8,
        "model_name": "m",
        "n_key_value_heads": None,
    }
    packed(tmp_path / "v.pt", "circuit_tracer.utils.tl_nnsight_mapping", vocab_size=12)
    with pytest.raises(MiError, match="no logits of the vocabulary"):
        read(tmp_path / "v.pt")
    packed(tmp_path / "h.pt", "circuit_tracer.other")
    with pytest.raises(MiError, match=r"it needs `circuit_tracer\.other\.UnifiedConfig`") as error:
        read(tmp_path / "h.pt")
    assert error.value.diagnostics[0].code == "MI0508"


CHANGES: list[tuple[str, str, str, Callable[[Any], object]]] = [
    ("neuronpedia", "MI0514", "what is `extra` of a node", lambda g: g["nodes"][0].update(extra=1)),
    ("neuronpedia", "MI0514", "what is `more` of the file", lambda g: g.update(more=1)),
    ("neuronpedia", "MI0514", "what is a `lorsa`", lambda g: g["nodes"][0].update(feature_type="lorsa")),
    ("neuronpedia", "MI0514", "feature 55", lambda g: g["nodes"][0].update(feature=55)),
    ("neuronpedia", "MI0514", "which is no node", lambda g: g["links"][0].update(target="x")),
    ("neuronpedia", "MI0514", "two nodes have the id", lambda g: g["nodes"].append(g["nodes"][0])),
    ("neuronpedia", "MI0514", "query-key", lambda g: g.update(qk_only_nodes=[1])),
    ("neuronpedia", "MI0514", "two edges go from", lambda g: g["links"].append(g["links"][0])),
    ("neuronpedia", "MI0514", "in no known format", lambda g: g.pop("links")),
    ("mib", "MI0514", "what is the node `a0`", lambda g: g["nodes"].update(a0={"in_graph": True})),
    ("mib", "MI0514", "has neurons", lambda g: g["nodes"]["m0"].update(neurons=[True])),
    ("mib", "MI0514", "what is the edge", lambda g: g["edges"].update({"m0->m1->m2": {"in_graph": True}})),
    ("mib", "MI0514", "ends at no node", lambda g: g["edges"].update({"m0->m7": {"in_graph": True}})),
    ("mib", "MI0514", "KeyError", lambda g: g["edges"]["m0->logits"].pop("in_graph")),
    ("circuit_tracer", "MI0514", "there is no `scan`", lambda g: g.pop("scan")),
    ("circuit_tracer", "MI0514", "what is `x`", lambda g: g.update(x=1)),
    ("circuit_tracer", "MI0514", "it has 4 nodes", lambda g: g.update(input_tokens=g["input_tokens"][:0])),
    ("circuit_tracer", "MI0514", "n_layers", lambda g: g.update(cfg={})),
    ("circuit_tracer", "MI0508", "run code", lambda g: g.update(cfg=Config())),
    ("circuit_tracer", "MI0514", "no numbers", lambda g: g["adjacency_matrix"].fill_(float("nan"))),
]


@pytest.mark.parametrize(("format", "code", "said", "how"), CHANGES)
def test_what_is_not_understood_is_refused(
    format: str,
    code: str,
    said: str,
    how: Callable[[Any], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    FILES[format][1](Path(FILES[format][0]))
    change(format, how)
    with pytest.raises(MiError) as error:
        midsl.run(SPEC.format(file=FILES[format][0]), store="store")
    (found,) = error.value.diagnostics
    assert found.code == code and said in found.message, found.message
    assert found.span.text.startswith("graph_file("), "it is said where the file is named"


@pytest.mark.parametrize(
    ("format", "about", "said"),
    [
        ("neuronpedia", {}, "also says `slug`"),
        ("mib", {}, "also says `n_layers`"),
        ("mib", ABOUT["mib"], "no place for a node called `n0`"),
        ("neuronpedia", ABOUT["neuronpedia"], "no place for a node called `n0`"),
        ("circuit_tracer", ABOUT["circuit_tracer"], "no place for a node called `n0`"),
    ],
)
def test_what_a_format_has_no_place_for_is_refused(
    format: str, about: Mapping[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    midsl.run(
        "language mi 1\nlet w = [[1.0 * a + b for a in 0..2] for b in 0..2]\n"
        'experiment e { sweep k in [1, 2]\nreport g = graph(k * w, from: "n{a}", to: "n{b}") }\n',
        store="store",
    )
    Path("about.json").write_text(json.dumps(about), encoding="utf-8")
    at = {"k": "2"}
    with pytest.raises(MiError) as error:
        export_graph(Path("store"), "latest", "e.g", format, Path("out"), at, Path("about.json"))
    assert error.value.diagnostics[0].code == "MI0514" and said in error.value.diagnostics[0].message
    for wrong in ({}, {"k": "3"}, {"j": "1"}):
        with pytest.raises(MiError) as error:
            export_graph(Path("store"), "latest", "e.g", "graphml", Path("out"), wrong, None)
        assert error.value.diagnostics[0].code == "MI0807"
    with pytest.raises(MiError, match="no graph"):
        export_graph(Path("store"), "latest", "e.h", "graphml", Path("out"), at, None)
    export_graph(Path("store"), "latest", "e.g", "graphml", Path("out.graphml"), at, None)
    assert weights(read(Path("out.graphml"))) == {("n1", "n0"): 2.0, ("n0", "n1"): 2.0, ("n1", "n1"): 4.0}
