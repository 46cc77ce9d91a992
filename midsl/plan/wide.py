"""Reads at swept places, as reads of the whole families that the places are of."""

from __future__ import annotations

from dataclasses import replace

from midsl.ir import nodes as ir
from midsl.ir.types import Axis


def generalise(node: ir.Read | ir.Grad) -> tuple[ir.Node, tuple[tuple[str, ir.Coord], ...]]:
    """The same read with swept indices left whole, and the indices that were taken out."""
    site = node.site
    coords = tuple((a, i) for a, i in site.select if isinstance(i, ir.Coord))
    select_ = tuple((a, ir.Star() if isinstance(i, ir.Coord) else i) for a, i in site.select)
    wide = ir.Site(site.model, site.name, select_, site.minus, type=site.type, span=site.span)
    swept = {(a.name, a.owner) for _, c in coords for a in c.sweep.axes}
    swept -= {(a.name, a.owner) for s in ir.sweeps_of(node.run) for a in s.axes}
    stars = tuple(Axis(a, node.run.data.owner if a in ("pos", "key_pos") else "") for a, _ in coords)
    kept = tuple(a for a in node.tensor_type.axes if (a.name, a.owner) not in swept)
    t = replace(node.tensor_type, axes=(*stars, *kept))
    if isinstance(node, ir.Grad):
        return replace(node, site=wide, type=t), coords
    return ir.Read(node.run, wide, type=t, span=node.span), coords
