"""Reading sites from what a run captured: layouts to named axes, then the selection of a site.

A captured tensor has axes "@" (a row per lane), `batch`, and the site's own, whatever the layout of
the graph node was. Selecting one position or one vocabulary row happens here, per lane.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from midsl.ir import nodes as ir
from midsl.ir.types import TensorType
from midsl.ops.index import select
from midsl.ops.named import NT
from midsl.plan.domains import Domains
from midsl.plan.evaluate import POINT, Env
from midsl.plan.inputs import Rows
from midsl.plan.keys import Key
from midsl.plan.project import Projection
from midsl.sema.tensors import stretch

Layout = tuple[str | tuple[str, ...], ...]


def to_named(x: Tensor, layout: Layout, axes: tuple[str, ...], lanes: int, sizes: Mapping[str, int]) -> NT:
    """A graph node's value as a named tensor with axes ("@", *axes): lanes split off the batch."""
    shape: list[int] = []
    names: list[str] = []
    for dim, axis in enumerate(layout):
        if axis == "batch":
            shape += [lanes, x.shape[dim] // lanes]
            names += [POINT, "batch"]
        elif isinstance(axis, tuple):
            inner = [sizes[a] for a in axis]
            shape += inner
            names += axis
        else:
            shape.append(x.shape[dim])
            names.append(axis)
    return NT(x.reshape(shape), tuple(names)).permute_to((POINT, *axes))


def from_named(x: NT, layout: Layout) -> Tensor:
    """The inverse of `to_named`."""
    order: list[str] = []
    shape: list[int] = []
    for axis in layout:
        if axis == "batch":
            order += [POINT, "batch"]
            shape.append(x.size(POINT) * x.size("batch"))
        elif isinstance(axis, tuple):
            order += axis
            n = 1
            for a in axis:
                n *= x.size(a)
            shape.append(n)
        else:
            order.append(axis)
            shape.append(x.size(axis))
    return x.permute_to(order).data.reshape(shape).contiguous()  # what follows may view it


@dataclass
class Captured:
    """What one chunk of a run gave, by site and layer; the `Source` of its reads."""

    run: ir.Forward
    values: dict[Key, NT]
    rows: Rows
    domains: Domains
    projection: Projection | None = None

    def read(self, site: ir.Site, env: Env) -> NT:
        """The value of a site at the points of `env`."""
        layer = site.index("layer")
        if layer is None:
            return self._take(site, self._at(site, (site.name, None), env), env)
        if isinstance(layer, ir.Const) and isinstance(layer.value, int):
            return self._take(site, self._at(site, (site.name, layer.value), env), env)
        if isinstance(layer, ir.Coord):
            return self._swept_layer(site, layer, env)
        layers = self.layers(site.name, layer)
        stacked = [self._take(site, self._at(site, (site.name, i), env), env) for i in layers]
        data = torch.stack([s.data for s in stacked], dim=0)
        value = NT(data, ("layer", *stacked[0].axes))
        return value.permute_to((POINT, "layer", *stacked[0].axes[1:])) if POINT in value.axes else value

    def keys(self) -> Collection[Key]:
        """The sites and layers that were captured."""
        return self.values.keys()

    def layers(self, name: str, index: ir.Node) -> list[int]:
        """The layers that a joint selection names."""
        have = sorted(i for n, i in self.keys() if n == name and i is not None)
        if isinstance(index, ir.Const) and isinstance(index.value, tuple):
            return [int(i) for i in index.value]  # type: ignore[arg-type]
        if isinstance(index, ir.Slice):
            return have[index.lo : index.hi : index.step]
        return have

    def _swept_layer(self, site: ir.Site, layer: ir.Coord, env: Env) -> NT:
        """Points that read different layers: each layer once, then put back in order."""
        assert env.table is not None
        column = self.domains.column(layer.sweep, layer.index)[env.table.index[layer.sweep.digest]]
        parts: list[NT] = []
        places: list[Tensor] = []
        for value in sorted(set(column.tolist())):
            at = (column == value).nonzero().flatten()
            inner = Env(
                env.table.rows(at), env.rows, env.source, env.lanes[at] if env.lanes is not None else None
            )
            parts.append(self._take(site, self._at(site, (site.name, int(value)), inner), inner))
            places.append(at)
        data = torch.cat([p.data for p in parts], dim=0)
        return NT(data[torch.cat(places).argsort().to(data.device)], parts[0].axes)

    def _at(self, site: ir.Site, key: Key, env: Env) -> NT:
        """The captured tensor with one row per point of `env` (no "@" if it has no sweeps)."""
        x = self.values[key]
        if env.table is None or not env.table.sweeps:
            return NT(x.data[0], x.axes[1:])
        lanes = env.lanes if env.lanes is not None else torch.zeros(env.table.size, dtype=torch.int64)
        if x.size(POINT) == lanes.numel() and bool((lanes == torch.arange(lanes.numel())).all()):
            return x
        return NT(x.data[lanes.to(x.data.device)], x.axes)

    def _take(self, site: ir.Site, x: NT, env: Env) -> NT:
        vocab = site.index("vocab")
        for axis, index in site.select:
            if axis not in ("layer", "vocab"):
                x = self.select(site, x, axis, index, env)
        if site.name == "logits" and self.projection is not None:
            return self.projection(x, None if vocab is None else self._index(vocab, env))
        return x if vocab is None else self.select(site, x, "vocab", vocab, env)

    def select(self, site: ir.Site, x: NT, axis: str, index: ir.Node, env: Env) -> NT:
        """Apply one index of a site."""
        if isinstance(index, (ir.Star, ir.Whole)):
            return x
        span = isinstance(index, ir.Column) and not isinstance(index.type, TensorType)
        if axis in ("pos", "key_pos") and (span or isinstance(index, ir.Slice) or _is_list(index)):
            at, _ = self.rows.stretch(self.run.data.owner, stretch(index))
            picked = NT(at.data.clamp(0, x.size(axis) - 1), ("batch", axis))
            return select(x, axis, _cut(picked, env))
        if isinstance(index, ir.Slice):
            return select(x, axis, list(range(x.size(axis)))[index.lo : index.hi : index.step])
        if isinstance(index, ir.Const):
            at_ = index.value
            if isinstance(at_, tuple):
                return select(x, axis, list(at_))  # type: ignore[arg-type]
        found = self._index(index, env)
        assert isinstance(found, NT)
        if axis in ("pos", "key_pos"):  # beyond a row: what is found there counts nowhere
            found = NT(found.data.clamp(max=x.size(axis) - 1), found.axes)
        return select(x, axis, found)

    def _index(self, index: ir.Node, env: Env) -> NT | list[int]:
        if isinstance(index, ir.Column):
            return _cut(self.rows.column(index), env)
        if isinstance(index, ir.Coord):
            assert env.table is not None
            column = self.domains.column(index.sweep, index.index)
            return NT(column[env.table.index[index.sweep.digest]], (POINT,))
        assert isinstance(index, ir.Const)
        if isinstance(index.value, tuple):
            return [int(i) for i in index.value]  # type: ignore[arg-type]
        return NT(torch.tensor(index.value), ())


def _is_list(index: ir.Node) -> bool:
    return isinstance(index, ir.Const) and isinstance(index.value, tuple)


def _cut(x: NT, env: Env) -> NT:
    if env.rows is not None and "batch" in x.axes:
        return NT(x.data[env.rows], x.axes)
    return x
