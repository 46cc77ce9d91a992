"""Attribution-graph JSON, as Neuronpedia shows it and circuit-tracer writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midsl.artefacts.base import not_understood
from midsl.artefacts.graphs.base import GraphFile, Number, Part, need, only, parts_of

FORMAT = "neuronpedia"
TYPES = {
    "cross layer transcoder": "f",
    "mlp reconstruction error": "e",
    "embedding": "t",
    "logit": "o",
}
TOP = ("metadata", "qParams", "nodes", "links", "qk_only_nodes")
NODE = (
    *(
        "node_id",
        "feature",
        "layer",
        "ctx_idx",
        "feature_type",
        "jsNodeId",
        "clerp",
        "influence",
        "activation",
    ),
    *("qk_tracing_results", "token_prob", "is_target_logit", "run_idx", "reverse_ctx_idx"),
)
LINK = ("source", "target", "weight")
NEEDED = ("slug", "scan", "prompt_tokens", "prompt")
COLUMNS = {"influence": "influence", "activation": "activation", "prob": "token_prob"}
"""Our columns of nodes, and what the format calls them."""


def reads(found: Mapping[str, Any]) -> bool:
    """Whether a JSON object is one of these."""
    return isinstance(found.get("nodes"), list) and "links" in found


def read(found: Mapping[str, Any], path: Path) -> GraphFile:
    """The graph of a JSON object. Raises MI0514 for what is not understood."""
    only(found, TOP, "the file", path)
    if found.get("qk_only_nodes"):
        raise not_understood("it has nodes of query-key tracing", path, "leave `qk_only_nodes` out")
    ids: dict[str, int] = {}
    parts: list[Part] = []
    columns: dict[str, list[Number]] = {c: [] for c in COLUMNS}
    for i, node in enumerate(found["nodes"]):
        only(node, NODE, "a node", path)
        parts.append(_part(node, path))
        if node["node_id"] in ids:
            help = "an error of layer n is called 0_n_pos, as feature n of layer 0 is: rename one of the two"
            raise not_understood(f"two nodes have the id `{node['node_id']}`", path, help)
        ids[node["node_id"]] = i
        for ours, theirs in COLUMNS.items():
            columns[ours].append(float(node.get(theirs) or 0.0))
    for link in found["links"]:
        only(link, LINK, "a link", path)
        if strangers := [link[e] for e in ("source", "target") if link[e] not in ids]:
            raise not_understood(f"a link goes to `{strangers[0]}`, which is no node", path)
    return GraphFile(
        FORMAT,
        tuple(p.name for p in parts),
        {"kept": [True] * len(parts), **columns},
        [ids[x["source"]] for x in found["links"]],
        [ids[x["target"]] for x in found["links"]],
        {"weight": [float(x["weight"]) for x in found["links"]], "kept": [True] * len(found["links"])},
        {**found.get("metadata", {}), "qParams": found.get("qParams", {})},
    )


def _part(node: Mapping[str, Any], path: Path) -> Part:
    name = node.get("node_id")
    kind = TYPES.get(str(node.get("feature_type")))
    if kind is None:
        known = ", ".join(TYPES)
        raise not_understood(f"what is a `{node.get('feature_type')}`?", path, f"nodes are {known}")
    if node.get("qk_tracing_results"):
        raise not_understood(f"`{name}` has results of query-key tracing", path, "leave them out")
    words = str(name).split("_")
    try:
        pos = int(node["ctx_idx"])
        if kind == "e":
            return Part("e", int(node["layer"]), 0, pos)
        if kind == "f":
            layer, index = int(node["layer"]), int(words[1])
            if node.get("feature") not in (None, cantor(layer, index)):
                raise not_understood(f"`{name}` says that it is feature {node['feature']}", path)
            return Part("f", layer, index, pos)
        return Part(kind, -1, int(words[1]), pos)
    except (KeyError, IndexError, ValueError, TypeError):
        raise not_understood(f"`{name}` is no name of such a node", path) from None


def cantor(layer: int, index: int) -> int:
    """Layer and feature as one number.

    >>> cantor(1, 2)
    8
    """
    return (layer + index) * (layer + index + 1) // 2 + index


def write(graph: GraphFile, path: Path) -> None:
    """Write a graph; nodes and edges that are not kept are left out.

    Raises:
        MiError: MI0514 for names of other graphs, and where `about` lacks slug, scan, prompt or its tokens.
    """
    need(graph.about, NEEDED, FORMAT)
    parts = parts_of(graph.names, FORMAT)
    layers = 1 + max((p.layer for p in parts), default=0)
    metadata = {k: v for k, v in graph.about.items() if k != "qParams"}
    ids = [_id(p, layers) for p in parts]
    if len(set(ids)) < len(ids):  # an error of layer n is called as feature n of layer 0 is
        ids = [f"err_{p.layer}_{p.pos}" if p.kind == "e" else i for p, i in zip(parts, ids, strict=True)]
    there = [bool(k) for k in graph.nodes["kept"]]
    nodes = [_node(graph, i, p, ids[i], layers) for i, p in enumerate(parts) if there[i]]
    links = [
        {"source": ids[s], "target": ids[t], "weight": w}
        for s, t, w, k in zip(graph.src, graph.dst, graph.edges["weight"], graph.edges["kept"], strict=True)
        if k and there[s] and there[t]
    ]
    default = {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""}
    told = {
        "metadata": metadata,
        "qParams": graph.about.get("qParams") or default,
        "nodes": nodes,
        "links": links,
    }
    path.write_text(json.dumps(told, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def _id(p: Part, layers: int) -> str:
    head = {
        "f": f"{p.layer}_{p.index}",
        "e": f"0_{p.layer}",
        "t": f"E_{p.index}",
        "o": f"{layers + 1}_{p.index}",
    }
    return f"{head[p.kind]}_{p.pos}"


def _node(graph: GraphFile, i: int, p: Part, name: str, layers: int) -> dict[str, Any]:
    value = {ours: float(graph.nodes[ours][i]) for ours in COLUMNS if ours in graph.nodes}
    types = {kind: name for name, kind in TYPES.items()}
    logit = p.kind == "o"
    layer = {"t": "E", "o": str(layers + 1)}.get(p.kind, str(p.layer))
    return {
        "node_id": name,
        "feature": cantor(p.layer, p.index) if p.kind == "f" else None,
        "layer": layer,
        "ctx_idx": p.pos,
        "feature_type": types[p.kind],
        "jsNodeId": f"{name}-0",
        "clerp": "",
        "influence": value.get("influence"),
        "activation": value.get("activation") if p.kind == "f" else None,
        "token_prob": value.get("prob", 0.0) if logit else 0.0,
        "is_target_logit": logit,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
    }
