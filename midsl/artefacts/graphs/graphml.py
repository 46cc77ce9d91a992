"""GraphML, by networkx: any directed graph of numbers, for Gephi, Cytoscape and other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from midsl.artefacts.base import WHERE, not_understood
from midsl.artefacts.graphs.base import GraphFile, Number
from midsl.artefacts.headers import AGAIN
from midsl.diagnostics.model import fail

FORMAT = "graphml"


def read(path: Path) -> GraphFile:
    """The graph of a file. Raises MI0504, MI0510, and MI0514 for what is not understood."""
    import networkx as nx

    try:
        found = nx.read_graphml(path)
    except OSError as error:
        raise fail("MI0504", f"cannot read {path}: {error.strerror or error}", help=WHERE) from None
    except (ParseError, nx.NetworkXError, KeyError, ValueError) as error:
        raise fail("MI0510", f"{path} is damaged: {error}", help=AGAIN) from None
    if not found.is_directed() or found.is_multigraph():
        raise not_understood("it is not a directed graph with one edge each", path, 'edgedefault="directed"')
    names = {n: i for i, n in enumerate(found.nodes)}
    nodes = _columns([d for _, d in found.nodes(data=True)], "node", path)
    pairs = [(names[s], names[t]) for s, t in found.edges]
    edges = _columns([d for _, _, d in found.edges(data=True)], "edge", path)
    nodes.setdefault("kept", [True] * len(names))
    edges.setdefault("weight", [1.0] * len(pairs))
    edges.setdefault("kept", [True] * len(pairs))
    return GraphFile(
        FORMAT, tuple(map(str, names)), nodes, [s for s, _ in pairs], [t for _, t in pairs], edges
    )


def _columns(rows: list[dict[str, Any]], what: str, path: Path) -> dict[str, list[Number]]:
    """What all of them have, each a number."""
    columns: dict[str, list[Number]] = {}
    for name in dict.fromkeys(k for r in rows for k in r if k != "id"):
        if not name.isidentifier() or any(not isinstance(r.get(name), (int, float, bool)) for r in rows):
            raise not_understood(
                f"`{name}` is no number of every {what}", path, "leave it out, or give each one a number"
            )
        columns[name] = [r[name] for r in rows]
    return columns


def write(graph: GraphFile, path: Path) -> None:
    """Write a graph, with all of its columns."""
    import networkx as nx

    made = nx.DiGraph()
    for i, name in enumerate(graph.names):
        made.add_node(name, **{c: values[i] for c, values in graph.nodes.items()})
    for i, (s, t) in enumerate(zip(graph.src, graph.dst, strict=True)):
        attributes = {c: values[i] for c, values in graph.edges.items()}
        made.add_edge(graph.names[s], graph.names[t], **attributes)
    nx.write_graphml(made, path)
