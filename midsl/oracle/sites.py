"""Places in a run: which address and which elements a site means at one sweep point.

A site is resolved to one index per axis of its whole value; reading gathers by those indices, an
edit gathers, computes and scatters back. Positions that a row does not have point at a slot beyond
the end, which reads as zero and swallows writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from midsl.data.dataset import Part
from midsl.data.spans import range_text, span_positions
from midsl.diagnostics.model import fail
from midsl.graph.info import ModelInfo, SiteRow
from midsl.ir import nodes as ir
from midsl.ops.index import select
from midsl.ops.named import NT, align
from midsl.oracle.inputs import Address, Values

Point = Mapping[str, tuple[ir.Scalar, ...]]
"""Where each sweep (by digest) is at: the coordinates of one of its points."""

POSITIONS = ("pos", "key_pos")


@dataclass(frozen=True)
class Place:
    """A site, the rows it is on, and the point that the sweeps are at."""

    site: ir.Site
    part: Part
    info: ModelInfo
    point: Point

    @property
    def row(self) -> SiteRow:
        row = self.info.site(self.site.name)
        if row is None:
            raise fail("MI0401", f"the model has no site `{self.site.name}`", self.site.span)
        return row

    @property
    def layers(self) -> tuple[int | None, ...]:
        """The layers meant, in order; ``(None,)`` outside the blocks."""
        row = self.row
        if not row.per_block:
            return (None,)
        known = row.layers if row.layers is not None else tuple(range(self.info.sizes["layer"]))
        index = self.site.index("layer")
        assert index is not None, "a site inside the blocks has a layer"
        chosen = chosen_of(index, self.point, known)
        if chosen is None or not set(chosen) <= set(known):
            raise fail("MI0406", f"`{self.site.name}` is not in every layer that is named", self.site.span)
        return tuple(chosen)

    @property
    def many_layers(self) -> bool:
        """Whether the layer is an axis of the value: starred, a list or a range."""
        index = self.site.index("layer")
        return index is not None and not is_single(index)

    def addresses(self) -> tuple[Address, ...]:
        return tuple((self.site.name, layer) for layer in self.layers)

    def read(self, values: Values) -> NT:
        """The value of the site, from whole values: layers (if several), batch, what is not selected.

        Members that `minus` takes out are NaN: they have no value here, and must not pass for one.
        """
        found = []
        for layer in self.layers:
            here = self.gather(values[self.site.name, layer])
            if self.site.minus:
                (keep, data), axes = align(self._kept(here, layer), here)
                here = NT(torch.where(keep, data, torch.nan), axes).permute_to(here.axes)
            found.append(here)
        if not self.many_layers:
            return found[0]
        return NT(torch.stack([f.data for f in found]), ("layer", *found[0].axes))

    def gather(self, whole: NT) -> NT:
        """The selected elements of a whole value."""
        at, axes = self._indices(whole)
        return NT(_with_slot(whole)[at], axes)

    def write(self, whole: NT, value: NT, layer: int | None) -> NT:
        """The whole value with the selected elements replaced, members left out as they were.

        value: axes among those of the selected elements, and ``layer`` if that is an axis of the site.
        """
        at, axes = self._indices(whole)
        padded = _with_slot(whole)
        here = NT(padded[at], axes)
        if self.many_layers and "layer" in value.axes:
            value = select(value, "layer", self.layers.index(layer))
        new = value.expand(here.sizes).data.to(here.data.dtype)
        keep = self._kept(here, layer).expand(here.sizes).data
        padded = padded.index_put(at, torch.where(keep, new, here.data))
        return NT(padded[tuple(slice(s) for s in whole.data.shape)], whole.axes)

    def _indices(self, whole: NT) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
        """One index tensor per axis of a whole value, broadcast against each other, and their axes."""
        rows = NT(torch.arange(whole.size("batch")), ("batch",))
        indices = [self._index(axis, whole.size(axis)) for axis in whole.axes[1:]]
        tensors, axes = align(rows, *indices)
        return tensors, axes

    def _index(self, axis: str, size: int) -> NT:
        index = self.site.index(axis)
        if index is None or isinstance(index, ir.Star):
            return NT(torch.arange(size), (axis,))
        if axis in POSITIONS:
            return self._positions(index, axis, size)
        if isinstance(index, ir.Column):
            return NT(torch.as_tensor(np.asarray(self.part.columns[index.name].values)), ("batch",))
        chosen = chosen_of(index, self.point, tuple(range(size)))
        assert chosen is not None
        bad = [i for i in chosen if not 0 <= i < size]
        if bad:
            raise fail("MI0406", f"`{axis}` has no index {bad[0]}", index.span, label=f"`{axis}` has {size}")
        if is_single(index):
            return NT(torch.tensor(chosen[0]), ())
        return NT(torch.tensor(chosen), (axis,))

    def _positions(self, index: ir.Node, axis: str, size: int) -> NT:
        at, real = row_positions(index, self.part, self.point)
        where = torch.where(torch.as_tensor(real), torch.as_tensor(at), size)
        return NT(where, ("batch", axis) if where.dim() == 2 else ("batch",))

    def _kept(self, here: NT, layer: int | None) -> NT:
        """Which members stay: Bool, axes among those of the elements."""
        keep = NT(torch.tensor(True), ())
        for other in self.site.minus:
            (k, gone), axes = align(keep, self._matches(other, here, layer))
            keep = NT(k & ~gone, axes)
        return keep

    def _matches(self, other: ir.Site, here: NT, layer: int | None) -> NT:
        """Where the members of this site are members of another: equal wherever both name an index."""
        both = NT(torch.tensor(other.name == self.site.name), ())
        for axis, theirs in other.select:
            ours = self.site.index(axis)
            if ours is None or ours == theirs:
                continue
            size = self.info.sizes["layer"] if axis == "layer" else here.sizes.get(axis, 0)
            their = chosen_of(theirs, self.point, tuple(range(size)))
            mine = [layer] if axis == "layer" else chosen_of(ours, self.point, tuple(range(size)))
            if their is None or mine is None:  # a column of the data on one side only
                same = NT(torch.tensor(False), ())
            elif axis == "layer" or is_single(ours):
                same = NT(torch.tensor(mine[0] in their), ())
            else:
                same = NT(torch.tensor([m in their for m in mine]), (axis,))
            (a, b), axes = align(both, same)
            both = NT(a & b, axes)
        return both


def is_single(index: ir.Node) -> bool:
    """Whether an index takes its axis away: one number, one coordinate, one position per row."""
    if isinstance(index, ir.Column):
        return getattr(index.type, "name", "") != "Span"
    return isinstance(index, ir.Coord) or (isinstance(index, ir.Const) and not isinstance(index.value, tuple))


def chosen_of(index: ir.Node, point: Point, known: tuple[int, ...]) -> list[int] | None:
    """The numbers that an index stands for among those `known`; None for a column of the data."""
    if isinstance(index, ir.Star):
        return list(known)
    if isinstance(index, ir.Slice):
        return list(known[index.lo : index.hi : index.step])
    if isinstance(index, ir.Coord):
        return [int(coordinate(index, point))]  # type: ignore[arg-type]
    if isinstance(index, ir.Const):
        values = index.value if isinstance(index.value, tuple) else (index.value,)
        return [int(v) for v in values]  # type: ignore[arg-type]
    return None


def coordinate(node: ir.Coord, point: Point) -> ir.Scalar:
    """The coordinate that a swept variable has at a point; with a label, whether it is that."""
    assert node.sweep.digest in point, f"sweep {node.sweep.name} is not at any point here"
    found = point[node.sweep.digest][node.index]
    return found if node.label is None else found == node.label


def row_positions(index: ir.Node, part: Part, point: Point) -> tuple[np.ndarray, np.ndarray]:
    """The row positions that an index means, and which of them rows have: [batch] or [batch, width]."""
    if isinstance(index, ir.Column):
        column = part.columns[index.name]
        if column.kind == "span":
            return span_positions(part, index.name)
        at = np.asarray(column.values, np.int64)
    elif isinstance(index, ir.Slice):
        return span_positions(part, range_text(index.lo, index.hi, index.step))
    else:
        chosen = chosen_of(index, point, ())
        if chosen is None:
            raise fail("MI0407", "positions cannot be selected by this", index.span)
        if not is_single(index):
            return span_positions(part, str(chosen))
        at = np.where(chosen[0] < 0, chosen[0] + part.lengths, chosen[0])
    return at, (at >= 0) & (at < part.lengths)


def _with_slot(whole: NT) -> Tensor:
    """One more index along the position axes: where positions point that a row does not have."""
    pads = [n for a in reversed(whole.axes) for n in (0, int(a in POSITIONS))]
    return torch.nn.functional.pad(whole.data, pads)
