"""Which places of a model a site stands for: pairs of site name and layer."""

from __future__ import annotations

from midsl.graph.info import ModelInfo
from midsl.ir import nodes as ir
from midsl.plan.domains import Domains

Key = tuple[str, int | None]


def keys_of(site: ir.Site, info: ModelInfo, domains: Domains) -> list[Key]:
    """The (name, layer) pairs that a site may touch, over all points of its sweeps."""
    index = site.index("layer")
    if index is None:
        return [(site.name, None)]
    if isinstance(index, ir.Const):
        chosen = index.value if isinstance(index.value, tuple) else (index.value,)
        return [(site.name, int(i)) for i in chosen]  # type: ignore[arg-type]
    if isinstance(index, ir.Coord) and domains.known(index.sweep):
        return [(site.name, int(i)) for i in sorted(set(domains.column(index.sweep, index.index).tolist()))]
    layers = layers_of(info, site.name)
    if isinstance(index, ir.Slice):
        layers = layers[index.lo : index.hi : index.step]
    return [(site.name, i) for i in layers]


def layers_of(info: ModelInfo, name: str) -> list[int]:
    """The layers at which a site exists."""
    row = info.site(name)
    if row is not None and row.layers is not None:
        return list(row.layers)
    return list(range(info.sizes.get("layer", 0)))


def axes_of(info: ModelInfo, key: Key) -> tuple[str, ...]:
    """The canonical axes of a site, `batch` first."""
    row = info.site(key[0])
    assert row is not None, f"{key[0]} is not in the site table"
    return row.axes


def edits_by_key(run: ir.Forward, info: ModelInfo, domains: Domains) -> dict[Key, list[ir.Edit]]:
    """The edits of a run by the places they may touch: absolute ones first, then those with `self`."""
    writes: dict[Key, list[ir.Edit]] = {}
    for edit in sorted(run.edits, key=lambda e: not e.absolute):
        for key in keys_of(edit.site, info, domains):
            writes.setdefault(key, []).append(edit)
    return writes
