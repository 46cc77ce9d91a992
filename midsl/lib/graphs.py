"""What graphs need Python for (`std.graphs`): paths, communities, what reaches a node by all ways at once.

Matrices are [src, dst]: entry (s, t) is the edge from s to t. Nodes and pairs that do not count come as
masks, and stay where they are, so that what comes out lies along the same nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
WORST = 1e12
"""The largest condition of a system of equations that is solved."""


def influence(share: Floats, on: Floats) -> Floats:
    """on (share + share^2 + ..): what each node adds to `on` [node] by all ways, one step or more; [node].

    Raises:
        MiError: MI0707 if the sum has no end: the graph has a loop that hands on all that it gets.
    """
    return np.asarray(np.linalg.solve(_from_one(share), on) - on)


def influence_between(share: Floats) -> Floats:
    """(I - share)^-1 - I: what each node is of each other by all ways; [src, dst]. Raises as `influence`."""
    return np.asarray(np.linalg.inv(_from_one(share)) - np.eye(len(share)))


def _from_one(share: Floats) -> Floats:
    left = np.eye(len(share)) - share
    if not np.linalg.cond(left) < WORST:
        help = "drop an edge of the loop, or make its weights smaller than what it gets"
        raise fail("MI0707", "a loop of the graph hands on all that it gets", help=help, exit_code=4)
    return left


def pruned(
    weight: Floats,
    edges: Bools,
    alive: Bools,
    on: Floats,
    always: Bools,
    keep_nodes: float,
    keep_edges: float,
) -> dict[str, Bools]:
    """Which nodes and edges are left: those that make up given shares of the influence.

    First the nodes with the most influence, then the edges among them, then again and again whatever has no
    edge out, or had edges in and has none. `always` [node] are nodes that stay.

    Returns:
        nodes [node], edges [src, dst].
    """
    size = np.where(edges & alive[:, None] & alive, np.abs(weight), 0.0)
    score = influence(shares(size), on)
    nodes = alive & ((score >= least(score, keep_nodes)) | always)
    size = np.where(nodes[:, None] & nodes, size, 0.0)
    share = shares(size)
    flow = share * (influence(share, on) + on)
    left = (size > 0) & (flow >= least(flow.ravel(), keep_edges))
    had = (np.where(edges, np.abs(weight), 0.0) > 0).any(0)
    while True:
        stays = nodes & (always | (left.any(1) & (left.any(0) | ~had)))
        left &= stays[:, None] & stays
        if (stays == nodes).all():
            return {"nodes": nodes, "edges": left}
        nodes = stays


def shares(size: Floats) -> Floats:
    """What part of all that comes in at a node comes along each edge; of nothing, nothing."""
    return np.asarray(size / np.maximum(size.sum(0), 1e-10))


def least(score: Floats, share: float) -> float:
    """The least of the largest scores that make up a share of all; equals, but for rounding, all count."""
    down = np.sort(score)[::-1]
    total = down.sum()
    if total <= 0:
        return 0.0
    at = int(np.searchsorted(np.cumsum(down) / total, share))
    return float(down[min(at, len(down) - 1)]) * (1 - 1e-12)


def merged(weight: Floats, edges: Bools, into: Floats, incoming: bool) -> dict[str, NDArray[np.generic]]:
    """Edges once each node is part of node number `into` [node]; what is inside of one is gone.

    Without `incoming`, what reached nodes that are merged is dropped, and not handed on.

    Returns:
        weight [src, dst], edges [src, dst], nodes [node]: which nodes there still are.

    Raises:
        MiError: MI0707 for a number of no node.
    """
    at = np.rint(into).astype(np.int64)
    if ((at < 0) | (at >= len(weight))).any():
        raise fail(
            "MI0707", f"`into` is {at.min()}..{at.max()}, and there are {len(weight)} nodes", exit_code=4
        )
    to = np.zeros_like(weight)
    to[np.arange(len(at)), at] = 1.0
    own = np.eye(len(at)) * (at == np.arange(len(at)))
    ends = to if incoming else own
    apart = (at[:, None] != at) & edges
    size = to.T @ np.where(apart, weight, 0.0) @ ends
    there = (to.T @ apart.astype(np.float64) @ ends) > 0
    return {"weight": size, "edges": there, "nodes": to.any(0)}


def clusters(weight: Floats, edges: Bools, alive: Bools, k: int) -> Ints:
    """For each node the number of the first node of its cluster, of at most `k` and one; [node].

    How alike two nodes are is the cosine of the sizes of their edges, in and out [src, dst]; what is most
    alike is put together, by greedy modularity, until there are k. Nodes without edges are one more
    cluster, and nodes that do not count are clusters of their own.

    Raises:
        MiError: MI0707 for k < 1.
    """
    if k < 1:
        raise fail("MI0707", f"{k} clusters", help="1 or more", exit_code=4)
    size = np.where(edges & alive[:, None] & alive, np.abs(weight), 0.0)
    profile = np.concatenate([size, size.T], axis=1)
    length = np.linalg.norm(profile, axis=1)
    here = alive & (length > 0)
    unit = profile / np.where(here, length, 1.0)[:, None]
    graph = _undirected(np.triu(unit @ unit.T, 1), here)
    k = min(k, len(graph))
    groups = [np.flatnonzero(alive & ~here)]
    if k == 1:  # which networkx does not take for an answer
        groups.append(np.flatnonzero(here))
    elif k > 1:
        groups += nx.community.greedy_modularity_communities(graph, weight="weight", cutoff=k, best_n=k)
    return _first_of(groups, len(alive))


def communities(weight: Floats, edges: Bools, alive: Bools, resolution: float, seed: int) -> Ints:
    """For each node the number of the first node of its community (Louvain, by size of weight); [node].

    Nodes that do not count are communities of their own.
    """
    size = np.where(edges, np.abs(weight), 0.0)
    graph = _undirected(np.triu(size + size.T, 1), alive)
    groups = nx.community.louvain_communities(graph, resolution=resolution, seed=seed)
    return _first_of(groups, len(alive))


def _undirected(size: Floats, nodes: Bools) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from(np.flatnonzero(nodes).tolist())
    for s, t in zip(*np.nonzero(size), strict=True):
        if nodes[s] and nodes[t]:
            graph.add_edge(int(s), int(t), weight=float(size[s, t]))
    return graph


def _first_of(groups: Iterable[Collection[int]], n: int) -> Ints:
    """For each of n nodes the first node of its group, or the node itself where it is in none."""
    found = np.arange(n, dtype=np.int64)
    for group in groups:
        if len(group):
            found[list(group)] = min(group)
    return found


def _directed(cost: Floats, edges: Bools) -> nx.DiGraph:
    if (cost[edges] < 0).any():
        help = "costs are lengths, such as 1.0 / abs(weight)"
        raise fail("MI0707", "an edge has a negative cost", help=help, exit_code=4)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(cost)))
    for s, t in zip(*np.nonzero(edges), strict=True):
        graph.add_edge(int(s), int(t), weight=float(cost[s, t]))
    return graph


def distances(cost: Floats, edges: Bools) -> Floats:
    """The least cost of a way from each node to each other; infinity where there is none; [src, dst]."""
    found = np.full(cost.shape, np.inf)
    for s, ends in nx.all_pairs_dijkstra_path_length(_directed(cost, edges)):
        for t, length in ends.items():
            found[s, t] = length
    return found


def path(cost: Floats, edges: Bools, start: Bools, end: Bools) -> Bools:
    """The edges of the cheapest way from any node of `start` to any of `end`, if there is one; [src, dst]."""
    found = np.zeros(cost.shape, np.bool_)
    starts, ends = set(np.flatnonzero(start).tolist()), np.flatnonzero(end).tolist()
    if not starts:
        return found
    lengths, ways = nx.multi_source_dijkstra(_directed(cost, edges), starts)
    reached = [t for t in ends if t in lengths]
    if reached:
        way = ways[min(reached, key=lambda t: (lengths[t], t))]
        found[way[:-1], way[1:]] = True
    return found


def numbered(nodes: Bools) -> Ints:
    """The number of each node, from 0; [node]."""
    return np.arange(len(nodes), dtype=np.int64)
