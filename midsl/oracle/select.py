"""Indexing values: by label or number, by row positions, and along the axes of sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from midsl.data.dataset import Part
from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.ops.index import select
from midsl.ops.named import NT
from midsl.oracle.domains import sweep_along
from midsl.oracle.rows import check_covered, locate, over_data
from midsl.oracle.sites import Point, coordinate, is_single, row_positions

if TYPE_CHECKING:
    from midsl.oracle.interp import Oracle


def label_index(axis: Axis, label: object) -> int:
    """Where along an axis a label stands: by its labels where it has them, else the number itself.

    Raises:
        MiError: MI0406 if there is no such label.
    """
    if axis.labels is None and isinstance(label, int):
        return label
    if axis.labels is None or label not in axis.labels:
        raise fail("MI0406", f"`{axis.name}` has no entry {label!r}")
    return axis.labels.index(label)


def along(o: Oracle, node: ir.Select, point: Point, me: NT | None) -> NT:
    """The value of a `Select` node."""
    axis, index = node.axis, node.index
    sweep = sweep_along(node)
    if sweep is not None:
        return _swept(o, node, sweep, point, me)
    x = o.value(node.arg, point, me)
    whole = isinstance(index, ir.Draw)  # rows of one length, which take each other's places
    if axis.name == "batch" and not whole and over_data(a for a in x.axes if a != "batch"):
        raise fail("MI0601", "not implemented: one example with its positions left", node.span)
    part = o.rows.positions(axis)
    if part is not None:
        at: int | list[int] | NT = _positions(o, node, part, point, me, "batch" in x.axes)
    elif isinstance(index, ir.Slice):
        at = list(range(x.size(axis.name)))[index.lo : index.hi : index.step]
    elif isinstance(index, ir.Const) and isinstance(index.value, tuple):
        at = [label_index(axis, v) for v in index.value]
    elif isinstance(index, ir.Const):
        at = label_index(axis, index.value)
    elif isinstance(index, ir.Coord):
        at = label_index(axis, coordinate(index, point))
    else:
        at = o.value(index, point, me)
    x = select(x, axis.name, at)
    if not isinstance(index, ir.Coord):
        return x
    # a coordinate brings its sweep's other axes along
    left = node.arg.tensor_type.without(axis.name)
    settled = o.settle([(x, left), (NT(torch.zeros(()), ()), index.tensor_type)], ir.sweeps_of(node), point)
    return settled[0]


def _positions(o: Oracle, node: ir.Select, part: Part, point: Point, me: NT | None, batch: bool) -> NT:
    """Where along a position axis the selected row positions stand."""
    axis, index = node.axis, node.index
    computed = not isinstance(index, (ir.Const, ir.Slice, ir.Coord, ir.Column))
    if computed or (isinstance(index, ir.Column) and index.name == "next"):
        return locate(o.value(index, point, me), axis, part, batch)
    if isinstance(index, ir.Column):
        part = o.inputs.part(index.part)  # type: ignore[arg-type]
    at, real = row_positions(index, part, point)
    if at.ndim == 2:
        check_covered(at, real, axis, part, node)
    wanted = NT(torch.as_tensor(at), ("batch", axis.name)[: at.ndim])
    if not batch and not isinstance(index, ir.Column):
        # `batch` was reduced: what is left are the coordinates that all rows share
        wanted = NT(wanted.data[0], wanted.axes[1:])
    return locate(wanted, axis, part, batch)


def _swept(o: Oracle, node: ir.Select, sweep: ir.Sweep, point: Point, me: NT | None) -> NT:
    """Along the axis of a sweep: go to the point with that coordinate, all others unchanged."""
    axis, index = node.axis, node.index
    if not is_single(index):
        # the axis stays an axis of the sweep, its type holds fewer labels: whoever walks it sees to that
        return o.value(node.arg, point, me)
    if (there := o.domains.chosen(node, point)) is not None:
        return o.value(node.arg, there, me)
    entries = o.domains.entries(sweep, axis, point)
    xs = [o.value(node.arg, {**point, sweep.digest: p}, me) for _, p in entries]
    x = NT(torch.stack([x.data for x in xs]), (axis.name, *xs[0].axes))
    where = o.value(index, point, me)
    hits = where.data[..., None] == torch.tensor([x for x, _ in entries])
    if not bool(hits.any(-1).all()):
        raise fail("MI0406", f"an index is no entry of `{axis.name}`", node.span)
    return select(x, axis.name, NT(hits.long().argmax(-1), where.axes))
