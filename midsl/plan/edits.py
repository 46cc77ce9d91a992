"""Edits as functional operations in the graph: gather the slice, compute the value, scatter it back.

One `EditOp` stands behind one node of the lowered graph. Which lanes an edit touches at this layer,
and at which indices, comes from the chunk at hand; lanes that it does not touch pass unchanged. No
hooks: the operation is a function of the tensor and of index tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from midsl.ir import nodes as ir
from midsl.ir.types import TensorType
from midsl.ops.index import select
from midsl.ops.named import NT
from midsl.plan.capture import Layout, from_named, to_named
from midsl.plan.domains import Domains, Table
from midsl.plan.evaluate import POINT, Env, Evaluator
from midsl.plan.keys import Key
from midsl.sema.tensors import stretch


@dataclass
class Chunk:
    """The lanes and rows that a run works on at the moment; edits fired are counted per edit."""

    table: Table
    rows: slice
    fired: dict[str, int] = field(default_factory=dict)
    lanes: Tensor | None = None
    """Which points of the run's sweeps the table has, where that is asked: int64 [lanes]."""


@dataclass(eq=False)
class EditOp:
    """The edits at one site and layer, applied in order."""

    key: Key
    layout: Layout
    axes: tuple[str, ...]
    sizes: Mapping[str, int]
    edits: tuple[ir.Edit, ...]
    run: ir.Forward
    evaluator: Evaluator
    chunk: Chunk | None = None
    __name__: str = "edit"
    per_lane: bool = True
    """Marks the node for the runner: what follows differs from lane to lane."""
    through: bool = False
    """Gradients go through what is written."""
    constant: Callable[[Tensor], Tensor] | None = None
    """What makes it a constant again for those gradients of a run that do not go through its edits."""

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the edits to a graph node's value."""
        if x.is_meta:
            return x  # planning only follows shapes
        assert self.chunk is not None
        named = to_named(x, self.layout, self.axes, self.chunk.table.size, self.sizes)
        for edit in self.edits:
            named = self._apply(named, edit)
        return from_named(named, self.layout)

    def _apply(self, x: NT, edit: ir.Edit) -> NT:
        assert self.chunk is not None
        lanes = self._lanes(edit.site)
        self.chunk.fired[edit.digest] = self.chunk.fired.get(edit.digest, 0) + lanes.numel()
        if lanes.numel() == 0:
            return x
        table = self.chunk.table.rows(lanes)
        place = _Place(self, edit.site, x, lanes, table)
        old = place.gather()
        here = place.compact(old)
        own = frozenset({*here.axes, "layer"} if _many_layers(edit.site) else here.axes)
        env = Env(table, self.chunk.rows, self_value=here, own=own)
        # right-hand sides are constants for gradients, `self` included, unless they are what is fitted
        with torch.set_grad_enabled(self.through and torch.is_grad_enabled()):
            value = self.evaluator.eval(edit.value, env, {})
            if not self.through:  # what is `self` alone was there before
                value = NT(value.data.detach(), value.axes)
            if self.constant is not None:
                value = NT(self.constant(value.data), value.axes)
        if self.key[1] is not None and "layer" in value.axes:  # a joint edit: this layer's share
            value = select(value, "layer", _position(edit.site, self.key[1]))
        return place.scatter(old, value)

    def _lanes(self, site: ir.Site) -> Tensor:
        """The lanes whose point edits this layer."""
        assert self.chunk is not None
        everything = torch.arange(self.chunk.table.size)
        index, layer = site.index("layer"), self.key[1]
        if isinstance(index, ir.Coord):
            column = self.evaluator.domains.column(index.sweep, index.index)
            return everything[column[self.chunk.table.index[index.sweep.digest]] == layer]
        return everything


def _many_layers(site: ir.Site) -> bool:
    """Whether one edit stands in several layers at once."""
    index = site.index("layer")
    return not (isinstance(index, ir.Coord) or (isinstance(index, ir.Const) and isinstance(index.value, int)))


def _inside(axis: str, at: Tensor, x: NT) -> Tensor:
    """A position beyond every row touches nothing that counts (no row is eligible): any place will do."""
    return at.clamp(max=x.size(axis) - 1) if axis in ("pos", "key_pos") else at


def _position(site: ir.Site, layer: int) -> int:
    """Where a layer stands along the `layer` axis of a joint edit's value."""
    index = site.index("layer")
    if isinstance(index, ir.Const) and isinstance(index.value, tuple):
        return index.value.index(layer)
    return layer


class _Place:
    """The slice of one edit: its indices as tensors that broadcast over the slice's axes."""

    def __init__(self, op: EditOp, site: ir.Site, x: NT, lanes: Tensor, table: Table) -> None:
        self.op, self.site, self.x, self.lanes, self.table = op, site, x, lanes, table
        self.domains: Domains = op.evaluator.domains
        self.span: str | None = None
        indices: dict[str, NT] = {
            POINT: NT(lanes, (POINT,)),
            "batch": NT(torch.arange(x.size("batch")), ("batch",)),
        }
        stays = [POINT, "batch"]
        for axis in op.axes[1:]:
            found = self._index(axis)
            indices[axis] = found if found is not None else NT(torch.arange(x.size(axis)), (axis,))
            if axis in indices[axis].axes:
                stays.append(axis)
        self.axes = tuple(stays)
        self.sizes = {POINT: lanes.numel(), "batch": x.size("batch")}
        for axis in stays[2:]:
            self.sizes[axis] = indices[axis].size(axis)
        order = (POINT, *op.axes)
        self.tensors = tuple(
            indices[a].expand(self.sizes).data.to(x.data.device) if indices[a].axes else indices[a].data
            for a in order
        )

    def _index(self, axis: str) -> NT | None:
        """None where the axis is whole (a stretch of positions is whole too, under a mask)."""
        assert self.op.chunk is not None
        index = self.site.index(axis)
        if index is None or isinstance(index, (ir.Star, ir.Whole)):
            return None
        if isinstance(index, ir.Column):
            if not isinstance(index.type, TensorType):
                self.span = stretch(index)
                return None
            return NT(self.op.evaluator.rows.column(index).data[self.op.chunk.rows], ("batch",))
        if isinstance(index, ir.Coord):
            column = self.domains.column(index.sweep, index.index)[self.table.index[index.sweep.digest]]
            return NT(_inside(axis, column, self.x), (POINT,))
        if axis in ("pos", "key_pos") and (isinstance(index, ir.Slice) or isinstance(index.value, tuple)):  # type: ignore[attr-defined]
            self.span = stretch(index)
            return None
        if isinstance(index, ir.Slice):
            return NT(torch.arange(self.x.size(axis))[index.lo : index.hi : index.step], (axis,))
        assert isinstance(index, ir.Const)
        if isinstance(index.value, tuple):
            return NT(torch.tensor([int(i) for i in index.value]), (axis,))  # type: ignore[arg-type]
        return NT(_inside(axis, torch.tensor(int(index.value)), self.x), ())  # type: ignore[arg-type]

    def gather(self) -> NT:
        """The slice as it arrives: axes "@", batch, and those that are not picked by one index."""
        return NT(self.x.permute_to((POINT, *self.op.axes)).data[self.tensors], self.axes)

    def _stretch(self) -> tuple[NT, NT]:
        assert self.span is not None and self.op.chunk is not None
        at, real = self.op.evaluator.rows.stretch(self.op.run.data.owner, self.span)
        rows = self.op.chunk.rows
        return NT(at.data[rows], at.axes), NT(real.data[rows], real.axes)

    def compact(self, old: NT) -> NT:
        """What `self` is: the slice, with only the positions of its stretch."""
        if self.span is None:
            return old
        at, _ = self._stretch()
        return select(old, "pos", NT(at.data.clamp(0, old.size("pos") - 1), at.axes))

    def scatter(self, old: NT, value: NT) -> NT:
        """The whole tensor with the slice replaced."""
        keep = self._excluded()
        if self.span is not None:
            at, real = self._stretch()
            width = old.size("pos")
            place = torch.full((at.size("batch"), width), -1, dtype=torch.int64)
            b, w = real.data.nonzero(as_tuple=True)
            place[b, at.data[b, w]] = w
            if "pos" in value.axes:
                value = select(value, "pos", NT(place.clamp(min=0), ("batch", "pos")))
            inside = NT(place >= 0, ("batch", "pos"))
            keep = (
                inside
                if keep is None
                else NT(keep.expand(self.sizes).data & inside.expand(self.sizes).data, self.axes)
            )
        new = value.expand(self.sizes).data.to(old.data.dtype)
        if keep is not None:
            new = torch.where(keep.expand(self.sizes).data, new, old.data)
        whole = self.x.permute_to((POINT, *self.op.axes))
        return NT(torch.index_put(whole.data, self.tensors, new), whole.axes)

    def _excluded(self) -> NT | None:
        """Which members `except` leaves in: Bool over the slice's axes, or None for all."""
        keep: NT | None = None
        for out in self.site.minus:
            hit = NT(torch.ones(self.lanes.numel(), dtype=torch.bool), (POINT,))
            for axis, index in out.select:
                mine = self.site.index(axis)
                if isinstance(index, (ir.Star, ir.Whole)) or mine is None:
                    continue
                hit = _and(hit, self._equal(axis, index))
            new = NT(~hit.data, hit.axes)
            keep = new if keep is None else _and(keep, new)
        return keep

    def _equal(self, axis: str, index: ir.Node) -> NT:
        """Where a member's own index along `axis` is that of the excluded one."""
        if isinstance(index, ir.Coord):
            theirs = NT(
                self.domains.column(index.sweep, index.index)[self.table.index[index.sweep.digest]], (POINT,)
            )
        elif isinstance(index, ir.Const) and isinstance(index.value, int):
            theirs = NT(torch.tensor(index.value), ())
        else:
            raise AssertionError(f"an excluded site has an index of {type(index).__name__}")
        if axis == "layer":
            mine = NT(torch.tensor(self.op.key[1]), ())
        elif axis in self.axes:
            mine = NT(torch.arange(self.sizes[axis]), (axis,))
        else:
            own = self._index(axis)
            assert own is not None
            mine = own
        sizes = {**theirs.sizes, **mine.sizes}
        if not sizes:
            return NT(theirs.data == mine.data, ())
        return NT(theirs.expand(sizes).data == mine.expand(sizes).data, tuple(sizes))


def _and(a: NT, b: NT) -> NT:
    sizes = {**a.sizes, **b.sizes}
    return NT(a.expand(sizes).data & b.expand(sizes).data, tuple(sizes))
