"""The capability table of a model: one row per site name, and the weights it has."""

from __future__ import annotations

import re
from typing import Protocol

import torch
from torch import fx, nn

from midsl.graph import walk
from midsl.graph.attention import Attention, Placed
from midsl.graph.axes import names, sizes
from midsl.graph.expand import Site
from midsl.graph.export import LENGTHS, is_call, module_path
from midsl.graph.info import ModelInfo, SiteRow
from midsl.graph.locate import Behind, locate
from midsl.graph.names import EMULATOR, NAMES, Name
from midsl.graph.parts import Parts
from midsl.graph.weights import weight_rows

aten = torch.ops.aten


class _Described(Protocol):
    @property
    def forward(self) -> nn.Module: ...
    @property
    def arch(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def max_pos(self) -> int | None: ...


def describe(loaded: _Described, gm: fx.GraphModule, parts: Parts) -> tuple[ModelInfo, dict[Site, Placed]]:
    """Return a model's sizes and table, and the sites that are nodes of its graph."""
    sites: dict[Site, Placed] = {}
    of_states = hasattr(loaded.forward, "d_state")
    rows = tuple(_row(parts, name, sites) for name in (EMULATOR if of_states else NAMES))
    info = ModelInfo(
        arch=loaded.arch,
        key=loaded.key,
        sizes=_sizes(parts, sites, "d_state" if of_states else "vocab"),
        sites=rows,
        weights=weight_rows(parts),
        causal=is_causal(gm, parts),
        max_pos=loaded.max_pos,
        aliases=(*_aliases(sites), *_shared_norms(parts, sites)),
    )
    return info, sites


def _row(parts: Parts, name: Name, sites: dict[Site, Placed]) -> SiteRow:
    layers = [b.stream.layer for b in parts.blocks] if name.per_block else [None]
    found = {i: locate(parts, name.name, i) for i in layers}
    there = [i for i in layers if not isinstance(found[i], str)]
    for i in there:
        place = found[i]
        if isinstance(place, Placed):
            sites[name.name, i] = place
    if not there:
        reason = found[layers[0]]
        assert isinstance(reason, str)
        return SiteRow(
            name=name.name,
            axes=name.axes,
            per_block=name.per_block,
            readable=False,
            writable=False,
            why=reason,
            doc=name.doc,
        )
    first = found[there[0]]
    assert not isinstance(first, str)
    placed = first.near if isinstance(first, Behind) else first
    return SiteRow(
        name=name.name,
        axes=_axes(name, placed, isinstance(first, Placed)),
        per_block=name.per_block,
        layers=None if there == layers else tuple(i for i in there if i is not None),
        module=_pattern(module_path(placed.node), there[0]),
        kind="expansion" if isinstance(first, Behind) else "node",
        doc=name.doc,
    )


def _axes(name: Name, placed: Placed, is_node: bool) -> tuple[str, ...]:
    """The table's axes, less what this model lacks: key heads of their own, or positions at the end."""
    here = {n for dim in placed.layout for n in names(dim)}
    axes = name.axes
    if is_node and "kv_head" not in here:
        axes = tuple("head" if n == "kv_head" else n for n in axes)
    if not name.per_block and here and "pos" not in here:
        axes = tuple(n for n in axes if n != "pos")
    return axes


def _pattern(path: str, layer: int | None) -> str:
    return path if layer is None else re.sub(rf"\.{layer}(\.|$)", r".{layer}\1", path, count=1)


def _sizes(parts: Parts, sites: dict[Site, Placed], end: str) -> dict[str, int]:
    out = {"layer": len(parts.blocks), "d_model": int(sizes(parts.blocks[0].stream.pre)[-1])}
    out[end] = int(sizes(parts.frame.output)[-1])
    for block in parts.blocks:
        if block.attn is not None:
            for axis, n in block.attn.sizes.of.items():
                if axis in ("head", "kv_head", "d_head") and n.is_Integer:
                    out.setdefault(axis, int(n))
    for (name, _), placed in sites.items():
        if name == "mlp.post":
            out.setdefault("d_mlp", int(sizes(placed.node)[-1]))
    return out


def _aliases(sites: dict[Site, Placed]) -> tuple[tuple[Site, Site], ...]:
    """Pairs of names for one node: (the other name, the one that counts)."""
    first: dict[fx.Node, Site] = {}
    out = []
    for site, placed in sorted(sites.items(), key=lambda x: -1 if x[0][1] is None else x[0][1]):
        if placed.node in first:
            out.append((site, first[placed.node]))
        else:
            first[placed.node] = site
    return tuple(out)


def _shared_norms(parts: Parts, sites: dict[Site, Placed]) -> list[tuple[Site, Site]]:
    """The names of ln2 where one norm serves attention and MLP, as far as they are not nodes."""
    out: list[tuple[Site, Site]] = []
    for block in parts.blocks:
        if block.ln1 is not None and block.ln2 is not None and block.ln1.node is block.ln2.node:
            for part in ("scale", "normalized"):
                if (f"ln2.{part}", block.stream.layer) not in sites:
                    layer = block.stream.layer
                    out.append(((f"ln2.{part}", layer), (f"ln1.{part}", layer)))
    return out


def is_causal(gm: fx.GraphModule, parts: Parts) -> bool:
    """Whether no position attends to a later one, read from every layer's evaluated mask.

    Where a written-out attention has no mask that is recognised, its evaluated pattern decides.
    """
    on_meta = any(p.device.type == "meta" for p in gm.parameters())
    device = torch.device("cpu") if on_meta else next((p.device for p in gm.parameters()), None)
    longest = max(gm.meta[LENGTHS])
    ids = torch.zeros(2, longest, dtype=torch.int64, device=device)
    given = {parts.frame.ids: ids, parts.frame.mask: torch.ones_like(ids)}
    cores = [b.attn for b in parts.blocks if b.attn is not None]
    if len(cores) < len(parts.blocks):
        return False
    with torch.no_grad():
        for attn in cores:
            if attn.fused:
                hidden = _sdpa_hides(gm, attn.core, given)
            else:
                hidden = _written_hides(gm, parts, attn, given)
                if hidden is None and not on_meta:
                    assert attn.pattern is not None
                    hidden = walk.evaluate(gm, attn.pattern.node, given) == 0
            if hidden is None or not _later(hidden).all():
                return False
    return True


def _later(hidden: torch.Tensor) -> torch.Tensor:
    """Return the elements [.., pairs] of a [.., pos, key_pos] tensor whose key comes after the query."""
    length = hidden.shape[-1]
    hidden = hidden.expand(*hidden.shape[:-2], length, length)
    return hidden[..., torch.ones(length, length, dtype=torch.bool, device=hidden.device).triu(1)]


def _sdpa_hides(gm: fx.GraphModule, core: fx.Node, given: dict[fx.Node, torch.Tensor]) -> torch.Tensor | None:
    mask = core.args[3] if len(core.args) > 3 else core.kwargs.get("attn_mask")
    if core.args[5] if len(core.args) > 5 else core.kwargs.get("is_causal", False):
        return torch.ones(2, 2, dtype=torch.bool)
    if not isinstance(mask, fx.Node):
        return None
    value = walk.evaluate(gm, mask, given)
    assert isinstance(value, torch.Tensor)
    return ~value if value.dtype == torch.bool else value < _NEVER


def _written_hides(
    gm: fx.GraphModule, parts: Parts, attn: Attention, given: dict[fx.Node, torch.Tensor]
) -> torch.Tensor | None:
    """Return where the mask of a written-out attention hides a key: an added one, or a selection."""
    assert attn.scores is not None and attn.q is not None
    for node in walk.between(attn.q.used.node, attn.scores.node):
        for i, mask in enumerate(node.args):
            if not isinstance(mask, fx.Node) or mask in parts.frame.dynamic or len(sizes(mask)) < 2:
                continue
            if not all(parts.frame.pos in n.free_symbols for n in sizes(mask)[-2:]):
                continue
            value = walk.evaluate(gm, mask, given)
            if is_call(node, aten.add.Tensor):
                return torch.as_tensor(value < _NEVER)
            if is_call(node, aten.masked_fill.Scalar, aten.masked_fill.Tensor) and i == 1:
                return torch.as_tensor(value)
            if is_call(node, aten.where.self, aten.where.ScalarOther) and i == 0:
                return ~torch.as_tensor(value)
    return None


_NEVER = -1e30
"""An added mask below this hides a key."""
