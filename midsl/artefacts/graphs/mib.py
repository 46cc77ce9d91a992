"""Circuit JSON of EAP-IG, which the MIB benchmark takes: heads and MLPs, edges to the inputs of heads.

Inputs of heads are nodes of their own here, `a1.h0<k>`, as they are in `m.edges`; what the format says of a
node is of `a1.h0`. Its `input` is what is called `embed` and `pos_embed` there, in one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midsl.artefacts.base import not_understood
from midsl.artefacts.graphs.base import GraphFile, Number, need, no_place, only

FORMAT = "mib"
CFG = ("n_layers", "n_heads", "parallel_attn_mlp", "d_model")
_NODE = re.compile(r"input|logits|m\d+|a\d+\.h\d+")
_EDGE = re.compile(r"(input|m\d+|a\d+\.h\d+)->(logits|m\d+|a\d+\.h\d+<[qkv]>)")


def reads(found: Mapping[str, Any]) -> bool:
    """Whether a JSON object is one of these."""
    return isinstance(found.get("nodes"), dict) and isinstance(found.get("edges"), dict)


def read(found: Mapping[str, Any], path: Path) -> GraphFile:
    """The graph of a JSON object. Raises MI0514 for what is not understood."""
    only(found, ("cfg", "nodes", "edges"), "the file", path)
    only(found.get("cfg", {}), CFG, "cfg", path)
    names: dict[str, int] = {}
    score: list[Number] = []
    kept: list[Number] = []
    for name, node in found["nodes"].items():
        only(node, ("in_graph", "score", "neurons"), f"node {name}", path)
        if not _NODE.fullmatch(name):
            raise not_understood(f"what is the node `{name}`?", path, "input, a0.h1, m0, logits")
        if node.get("neurons") is not None:
            raise not_understood(f"`{name}` has neurons", path, "a graph of heads and MLPs has none")
        names[name] = len(names)
        score.append(float(node.get("score") or 0.0))
        kept.append(bool(node["in_graph"]))
    src, dst = [], []
    for edge, told in found["edges"].items():
        only(told, ("score", "in_graph"), f"edge {edge}", path)
        match = _EDGE.fullmatch(edge)
        if match is None:
            raise not_understood(f"what is the edge `{edge}`?", path, 'such as "input->a0.h1<q>"')
        s, t = match.groups()
        owner = t.partition("<")[0]
        if s not in names or owner not in names:
            raise not_understood(f"`{edge}` ends at no node", path)
        if t not in names:
            names[t] = len(names)
            score.append(score[names[owner]])
            kept.append(kept[names[owner]])
        src.append(names[s])
        dst.append(names[t])
    told = found["edges"].values()
    edges: dict[str, list[Number]] = {
        "weight": [float(e.get("score") or 0.0) for e in told],
        "kept": [bool(e["in_graph"]) for e in told],
    }
    return GraphFile(
        FORMAT, tuple(names), {"kept": kept, "score": score}, src, dst, edges, found.get("cfg", {})
    )


def write(graph: GraphFile, path: Path) -> None:
    """Write a circuit.

    Raises:
        MiError: MI0514 for names of other graphs, and where `about` lacks n_layers, n_heads, d_model or
            parallel_attn_mlp.
    """
    need(graph.about, CFG, FORMAT)
    nodes: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(graph.names):
        owner, _, branch = name.partition("<")
        if not _NODE.fullmatch(owner) or branch not in ("", "q>", "k>", "v>"):
            help = "nodes are input, a0.h1, m0, logits; " + (
                '`regroup(g, from: "embed", to: "input")` renames'
                if "embed" in name
                else "a0.h1<q> its inputs"
            )
            raise no_place(f"a node called `{name}`", FORMAT, help)
        node = nodes.setdefault(owner, {"in_graph": False})
        node["in_graph"] = node["in_graph"] or bool(graph.nodes["kept"][i])
        if "score" in graph.nodes and not branch:
            node["score"] = float(graph.nodes["score"][i])
    edges = {}
    for s, t, w, k in zip(graph.src, graph.dst, graph.edges["weight"], graph.edges["kept"], strict=True):
        name = f"{graph.names[s]}->{graph.names[t]}"
        if not _EDGE.fullmatch(name):
            raise no_place(f"the edge `{name}`", FORMAT, "edges are as `m.edges` has them")
        edges[name] = {"score": float(w), "in_graph": bool(k)}
    cfg = {k: graph.about[k] for k in CFG}
    path.write_text(
        json.dumps({"cfg": cfg, "nodes": nodes, "edges": edges}, allow_nan=False), encoding="utf-8"
    )
