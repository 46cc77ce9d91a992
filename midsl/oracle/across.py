"""Operations along the axis of a sweep: over all its points, with all else where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from midsl.ir import nodes as ir
from midsl.ops.index import select
from midsl.ops.named import NT
from midsl.ops.registry import apply_op
from midsl.oracle.domains import axis_of
from midsl.oracle.sites import Point

if TYPE_CHECKING:
    from midsl.oracle.interp import Oracle


def swept_axis(node: ir.Apply) -> tuple[ir.Sweep, int] | None:
    """The sweep, and which of its columns, that an operation goes along; None for an axis of values."""
    owners = {a.owner for c in node.args for a in c.tensor_type.axes if a.name in node.over}
    for sweep in dict.fromkeys(s for c in node.args for s in ir.sweeps_of(c)):
        for i in range(len(sweep.columns)):
            axis = axis_of(sweep, i)
            if axis.name in node.over and axis.owner in owners:
                return sweep, i
    return None


def along_sweep(o: Oracle, node: ir.Apply, sweep: ir.Sweep, column: int, point: Point, me: NT | None) -> NT:
    """The operation on values at every point along the axis; one that keeps the axis, at its own point."""
    axis = axis_of(sweep, column)
    points = o.domains.matching(sweep, {(axis.name, axis.owner): axis}, point)
    values = []
    for arg in node.args:
        at = [o.value(arg, {**point, sweep.digest: p}, me) for p in points]
        values.append(NT(torch.stack([x.permute_to(at[0].axes).data for x in at]), (axis.name, *at[0].axes)))
    done = apply_op(node.op, values, dict(node.attrs))
    if axis.name not in done.axes:
        return done
    mine = next(i for i, p in enumerate(points) if p == point[sweep.digest])
    return select(done, axis.name, mine)
