"""`specialise`: the graph for one set of touched sites, each of which is then one node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import fx

from midsl.graph.attention import Placed
from midsl.graph.axes import Layout, flat
from midsl.graph.backward import Switch, substitute
from midsl.graph.expand import Rewriter, Site, SiteConflict
from midsl.graph.locate import Behind, Found, locate
from midsl.graph.names import BY_NAME, PROJECTED

if TYPE_CHECKING:
    from midsl.graph.sites import ModelGraph


def expand_sites(
    mg: ModelGraph, touched: Iterable[Site], writes: Iterable[Site], switch: Switch | None = None
) -> tuple[fx.Graph, dict[Site, tuple[str, Layout]]]:
    """Return a copy of the graph with the expansions that the sites need, and each site's node and layout.

    Where there is a `switch`, its backward rules are written into the graph, to be put on and off by it.

    Raises:
        SiteConflict: if a site is not there, or two of them exclude each other.
    """
    for name, layer in (named := {*touched, *writes}):
        found = _found(mg, name, layer)
        if isinstance(found, str):
            raise SiteConflict(f"there is no {name}: {found}")
    address = {site: mg.info.address(*site) for site in named}
    wanted = sorted(set(address.values()), key=lambda s: (s[0], -1 if s[1] is None else s[1]))
    written = {mg.info.address(*site) for site in writes}
    _conflicts(mg, set(wanted), written)
    r = Rewriter(mg)
    if ("pos_embed", None) in wanted:
        r.pos_embed()
    for block in mg.parts.blocks:
        layer = r.layer = block.stream.layer
        for name in ("attn_in", "mlp_in"):
            if (name, layer) in wanted:
                r.branch_input(block, name, (name, layer) in written)
        for name in PROJECTED:
            if (name, layer) in wanted:
                r.head_input(block, name, (name, layer) in written)
        fused = block.attn is not None and block.attn.fused
        if fused and {("attn.scores", layer), ("attn.pattern", layer)} & set(wanted):
            r.explicit_attention(block)
        if ("attn.result", layer) in wanted:
            r.result(block, ("attn.result", layer) in written)
        _norms(r, ("ln1", "ln2"), layer, set(wanted), written)
    r.layer = None
    _norms(r, ("ln_final",), None, set(wanted), written)
    if switch is not None:
        substitute(r, switch)
    sites = {}
    plain: dict[fx.Node, Placed] = {}
    nodes_written = {_current(r, s).node for s in written}
    for site in wanted:
        placed = _current(r, site)
        if placed.node not in plain:
            r.layer = site[1]
            plain[placed.node] = _take_apart(r, placed, placed.node in nodes_written)
        sites[site] = plain[placed.node]
    r.end(p.node for p in sites.values())
    return r.graph, {s: (sites[a].node.name, sites[a].layout) for s, a in address.items()}


def _found(mg: ModelGraph, name: str, layer: int | None) -> Found:
    row = BY_NAME.get(name)
    if row is None or row.per_block != (layer is not None):
        return "it is not in the table"
    if layer is not None and not 0 <= layer < len(mg.parts.blocks):
        return f"the model has {len(mg.parts.blocks)} blocks"
    return locate(mg.parts, name, layer)


def _current(r: Rewriter, site: Site) -> Placed:
    if site in r.made:
        return r.made[site]
    found = locate(r.mg.parts, *site)
    assert isinstance(found, Placed), site
    return Placed(r.at[found.node], found.layout)


def _norms(
    r: Rewriter, names: tuple[str, ...], layer: int | None, wanted: set[Site], written: set[Site]
) -> None:
    for which in names:
        parts = {p for p in ("scale", "normalized") if (f"{which}.{p}", layer) in wanted}
        needs = [p for p in parts if isinstance(locate(r.mg.parts, f"{which}.{p}", layer), Behind)]
        if needs:
            r.norm(which, layer, parts, (f"{which}.scale", layer) in written)


def _take_apart(r: Rewriter, placed: Placed, written: bool) -> Placed:
    """Give a site with flattened dimensions a dimension per axis, and flatten again after it."""
    if not any(isinstance(d, tuple) for d in placed.layout):
        return placed
    node, layout = placed.node, flat(placed.layout)
    with r.graph.inserting_before(node.next):
        site = r.relayout(node, placed.layout, layout)
        if written:
            again = r.relayout(site, layout, placed.layout)
            node.replace_all_uses_with(again, delete_user_cb=lambda u: u is not site)
    return Placed(site, layout)


def _conflicts(mg: ModelGraph, wanted: set[Site], written: set[Site]) -> None:
    for name, layer in written:
        if name not in PROJECTED or layer is None:
            continue
        for norm in ("ln1.scale", "ln1.normalized"):
            if (norm, layer) in written:
                raise SiteConflict(
                    f"{name} gives each head a norm of its own, so {norm} cannot be written too"
                )
        own = getattr(mg.parts.blocks[layer].attn, PROJECTED[name])
        if "kv_head" in flat(own.at.layout):
            for other in (f"attn.{PROJECTED[name]}", f"attn.rot_{PROJECTED[name]}"):
                if (other, layer) in wanted:
                    raise SiteConflict(
                        f"{name} is per query head and {other} per key head: they cannot be used in one run"
                    )
