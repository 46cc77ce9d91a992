"""A model as a graph with named sites: what the compiler and the oracle run.

`build_model_graph` exports the model, recognises its parts, and fills the capability table;
`specialise` gives the graph in which every site that a run touches is one node.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import fx, nn

from midsl.graph import weights
from midsl.graph.axes import Layout
from midsl.graph.backward import Switch
from midsl.graph.expand import Site, SiteConflict
from midsl.graph.export import LENGTHS, ExportFailed, export_graph
from midsl.graph.info import ModelInfo, SiteRow
from midsl.graph.parts import Parts, find_parts
from midsl.graph.rules import position_rules
from midsl.graph.segments import Segment, find_segments
from midsl.graph.specialise import expand_sites
from midsl.graph.table import describe

EXPANDED = 32
"""How many expanded graphs of one model are kept: a search runs one of a few again and again."""


class Loaded(Protocol):
    """What the graph needs to know of a loaded model (see ``midsl.models.loaded``)."""

    @property
    def forward(self) -> nn.Module: ...
    @property
    def arch(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def blocks_path(self) -> str | None: ...
    @property
    def max_pos(self) -> int | None: ...


@dataclass(frozen=True)
class SiteNode:
    """A site's node by its name in the graph, and the axis of each dimension of its value.

    A dimension is an axis or, flattened, a tuple of them; after `specialise` none is flattened.
    """

    node: str
    layout: tuple[str | tuple[str, ...], ...]


Expanded = tuple[fx.Graph, dict[Site, SiteNode]]


@dataclass(frozen=True)
class Unembed:
    """``logits = post(input @ weight.T + bias)``, so that some rows and positions may do.

    Attributes:
        input: node and layout of what is unembedded.
        node: the node of the product (bias included).
        weight: attribute of the weight in the graph module: [vocab, d_model], or
            [d_model, vocab] where `in_first`.
        bias: attribute of the bias [vocab], or None.
        post: elementwise nodes between the product and the logits, in order.
    """

    input: SiteNode
    node: str
    weight: str
    bias: str | None
    post: tuple[str, ...]
    in_first: bool = False


@dataclass
class ModelGraph:
    """A model's graph and what is known of it.

    Attributes:
        info: sizes and the capability table, without tensors.
        gm: ``gm(input_ids, attention_mask) -> logits``; its parameters are the model's own.
        sites: node and layout of the sites that are nodes of `gm`; the others need `specialise`.
        unembed: how logits come from the stream, where that is one linear map.
        blocks: block index by node name, for the nodes inside blocks.
        parts: what was recognised, for expansions and rules.
    """

    info: ModelInfo
    gm: fx.GraphModule
    sites: dict[Site, SiteNode]
    unembed: Unembed | None
    blocks: dict[str, int]
    parts: Parts = field(repr=False)
    expanded: OrderedDict[tuple[frozenset[Site], frozenset[Site]], Expanded] = field(
        default_factory=OrderedDict, init=False, repr=False
    )
    """The latest graphs that `specialise` made, by sites touched and written: it hands out copies."""

    @property
    def fake_mode(self) -> Any:
        """The mode in which shapes of new nodes are computed."""
        return self.parts.frame.ids.meta["val"].fake_mode

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((p.device for p in self.gm.parameters()), torch.device("cpu"))

    def weight(self, name: str, layer: int | None = None) -> torch.Tensor:
        """Return a weight by its field name, in TransformerLens' orientation (see `info.weights`).

        Raises:
            KeyError: if the model has no such weight.
        """
        return weights.weight(self.gm, self.parts, name, layer)

    @cached_property
    def rules(self) -> dict[str, str]:
        """Position rule (`local`, `causal`, `mixing`) of each node that depends on the tokens."""
        return position_rules(self.parts, self.info.causal)

    @cached_property
    def segments(self) -> list[Segment]:
        """The stretches between waists, with structural hashes."""
        return find_segments(self.parts)


def build_model_graph(loaded: Loaded, *, lift: bool = False, known: ModelInfo | None = None) -> ModelGraph:
    """Export a model and find its sites; with `lift` in float64 throughout.

    `known`: what an earlier export found of the same architecture, so that it need not be tried again.

    Raises:
        ExportFailed: if the model cannot become a graph, or the graph's logits are not the model's.
    """
    if loaded.blocks_path is None:
        raise ExportFailed("it has no list of repeated blocks")
    vocab = _vocab(loaded.forward)
    gm = export_graph(loaded.forward, vocab, loaded.max_pos, lift=lift)
    parts = find_parts(gm, loaded.blocks_path)
    blocks = {n.name: b.stream.layer for b in parts.blocks for n in b.stream.nodes}
    for block in parts.blocks:
        for node in block.stream.nodes:
            node.meta["block"] = block.stream.layer
    if not lift:
        _check(loaded, gm, vocab)
    info, sites = describe(loaded, gm, parts)
    placed = {site: SiteNode(p.node.name, p.layout) for site, p in sites.items()}
    mg = ModelGraph(info, gm, placed, _unembed(parts), blocks, parts)
    mg.info = _tried(mg, known)
    return mg


def specialise(
    mg: ModelGraph, touched: Iterable[Site], writes: Iterable[Site], switch: Switch | None = None
) -> tuple[fx.Graph, dict[Site, SiteNode]]:
    """Return a copy of the graph in which every touched site is one node, with no flattened dimension.

    A write replaces all uses of the site's node by a new one inserted after it; nothing else is
    needed, since the node's users are all that the site's definition puts downstream. A read is the
    value after that. New nodes carry `val` and, inside a block, ``meta["block"]``. Index tensors that
    expansions need are registered on ``mg.gm``: build the module as ``fx.GraphModule(mg.gm, graph)``. The
    sites that gradients are taken at are writes. A `switch` has backward rules (``midsl.graph.backward``).

    Raises:
        SiteConflict: if a site is not there, or two of them exclude each other.
    """
    if switch is not None:  # its rules are part of the graph
        graph, found = expand_sites(mg, touched, writes, switch)
        return graph, {site: SiteNode(*place) for site, place in found.items()}
    key = (frozenset(touched), frozenset(writes))
    if key not in mg.expanded:
        graph, found = expand_sites(mg, *key)
        mg.expanded[key] = graph, {site: SiteNode(*place) for site, place in found.items()}
        if len(mg.expanded) > EXPANDED:
            mg.expanded.popitem(last=False)
    mg.expanded.move_to_end(key)
    graph, places = mg.expanded[key]
    copy = fx.Graph()
    copy.output(copy.graph_copy(graph, {}))
    return copy, dict(places)


def _vocab(forward: nn.Module) -> int:
    tables = [m.num_embeddings for m in forward.modules() if isinstance(m, nn.Embedding)]
    return tables[0] if tables else 2


def _check(loaded: Loaded, gm: fx.GraphModule, vocab: int) -> None:
    """Run graph and model on ragged rows of another shape than the exported one."""
    device = next((p.device for p in gm.parameters()), torch.device("cpu"))
    if device.type == "meta":
        return  # an architecture without weights: there is nothing to compare
    for length in gm.meta[LENGTHS]:
        ids = (torch.arange(3 * length, device=device).reshape(3, length) * 5 + 1) % vocab
        mask = torch.ones_like(ids)
        mask[1:2, (length + 1) // 2 :] = 0
        with torch.no_grad():
            own, ours = loaded.forward(ids, mask), gm(ids, mask)
        if own.dim() == 3:
            own, ours = own[mask.bool()], ours[mask.bool()]
        error = (own - ours).abs().max().item()
        tolerance = 64 * torch.finfo(own.dtype).eps * max(1.0, own.abs().max().item())
        if not error <= tolerance:
            raise ExportFailed(f"the graph's logits differ from the model's by {error:.2g}")


def _unembed(parts: Parts) -> Unembed | None:
    found = parts.head
    if found is None:
        return None
    p = found.projection
    return Unembed(
        SiteNode(found.input.node.name, found.input.layout),
        p.node.name,
        str(p.weight.target),
        str(p.bias.target) if p.bias is not None else None,
        tuple(n.name for n in found.post),
        p.in_first,
    )


def _tried(mg: ModelGraph, known: ModelInfo | None) -> ModelInfo:
    """Try to write each expansion once; what cannot be rewritten gets its reason into the table."""
    rows = []
    for row in mg.info.sites:
        before = known.site(row.name) if known is not None else None
        if before is not None and replace(before, readable=True, writable=True, why="") == row:
            rows.append(before)
            continue
        if row.kind == "expansion" and row.writable:
            layer = (row.layers[0] if row.layers else 0) if row.per_block else None
            reason = _refusal(mg, (row.name, layer), write=True)
            if reason and _refusal(mg, (row.name, layer), write=False):
                row = replace(row, readable=False)
            if reason:
                row = replace(row, writable=False, why=reason)
        rows.append(row)
    return replace(mg.info, sites=tuple(rows))


def _refusal(mg: ModelGraph, site: Site, write: bool) -> str:
    try:
        specialise(mg, [site], [site] if write else [])
    except SiteConflict as e:
        return e.reason
    return ""


__all__ = [
    "ExportFailed",
    "Layout",
    "Loaded",
    "ModelGraph",
    "SiteConflict",
    "SiteNode",
    "SiteRow",
    "Unembed",
    "build_model_graph",
    "specialise",
]
