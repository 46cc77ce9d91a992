"""Which rows an edit touches, may change or overwrites, without running it: bool [lane, batch, pos]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from midsl.ir import nodes as ir
from midsl.ir.alike import others_of
from midsl.ir.crossing import crosses_rows, has_self
from midsl.ir.types import TensorType
from midsl.passes.drop_dead_lanes import gates_of
from midsl.plan.domains import Table
from midsl.plan.edits import EditOp
from midsl.plan.gates import open_rows
from midsl.plan.rowplan import EditRows
from midsl.sema.tensors import stretch


def touched(op: EditOp, edit: ir.Edit, table: Table, rows: slice, width: int) -> Tensor:
    """The rows of each lane that an edit writes at the layer of its operation."""
    height = rows.stop - rows.start
    at = _positions(op, edit.site, table, rows, width)
    return lanes_of(op, edit, table)[:, None, None] & at.expand(table.size, height, width)


def lanes_of(op: EditOp, edit: ir.Edit, table: Table) -> Tensor:
    """The lanes whose point edits the layer of an operation: bool [lane]."""
    layer = edit.site.index("layer")
    if not isinstance(layer, ir.Coord):
        return torch.ones(table.size, dtype=torch.bool)
    column = op.evaluator.domains.column(layer.sweep, layer.index)
    return column[table.index[layer.sweep.digest]].eq(op.key[1] or 0)


def _positions(op: EditOp, site: ir.Site, table: Table, rows: slice, width: int) -> Tensor:
    """Bool, broadcast to [lane, batch, pos]."""
    index, every = site.index("pos"), torch.arange(width)
    evaluator = op.evaluator
    if index is None or isinstance(index, (ir.Star, ir.Whole)):
        return torch.ones(1, 1, width, dtype=torch.bool)
    if isinstance(index, ir.Coord):
        column = evaluator.domains.column(index.sweep, index.index)[table.index[index.sweep.digest]]
        return (column.clamp(max=width - 1)[:, None] == every)[:, None, :]
    if isinstance(index, ir.Column) and isinstance(index.type, TensorType):
        column = evaluator.rows.column(index).data[rows]
        return (column[:, None] == every)[None]
    if isinstance(index, ir.Const) and isinstance(index.value, int):
        return (every == min(index.value, width - 1))[None, None]
    at, real = evaluator.rows.stretch(op.run.data.owner, stretch(index))
    inside = torch.zeros(rows.stop - rows.start, width, dtype=torch.bool)
    b, w = real.data[rows].nonzero(as_tuple=True)
    inside[b, at.data[rows][b, w]] = True
    return inside[None]


def edit_rows(
    op: EditOp,
    base: ir.Forward | None,
    table: Table,
    real: Tensor,
    dead: bool,
    source: ir.Forward | None = None,
) -> EditRows:
    """What the edits at one node do to the rows of a run's lanes.

    `base` gives the rows that are not computed; `dead` lets rows go of which the tokens show that they
    cannot differ from the base run's; `source` is a run that whole rows may be those of. real: bool
    [1, batch, pos].
    """
    lanes = torch.zeros(table.size, dtype=torch.bool)
    for edit in op.edits:
        lanes |= lanes_of(op, edit, table)
    some = lanes.nonzero().flatten()
    found = _edit_rows(op, base, table.rows(some), real, dead)
    given = found.touched if source is not None and _is_of(op, source) else None

    def all_lanes(rows: Tensor | None) -> Tensor | None:
        if rows is None or len(some) == table.size:
            return rows
        return torch.zeros(table.size, *real.shape[1:], dtype=torch.bool).index_copy(0, some, rows)

    touched_rows = all_lanes(found.touched)
    assert touched_rows is not None
    return EditRows(touched_rows, *map(all_lanes, (found.changed, found.whole, found.wide, given)))


def _is_of(op: EditOp, source: ir.Forward) -> bool:
    """Whether what is edited at a node becomes, row by row, what another run has there."""
    if len(op.edits) != 1:
        return False
    (edit,) = op.edits
    value, site = edit.value, edit.site
    if not isinstance(value, ir.Read) or value.run != source or site.minus or value.site.minus:
        return False
    rows_only = all(axis in ("layer", "pos") for axis, _ in site.select)
    return rows_only and (value.site.name, value.site.select) == (site.name, site.select)


def _edit_rows(op: EditOp, base: ir.Forward | None, table: Table, real: Tensor, dead: bool) -> EditRows:
    """The same for lanes all of which have an edit here."""
    every = slice(0, real.shape[1])
    width = real.shape[2]
    all_touched = torch.zeros(table.size, *real.shape[1:], dtype=torch.bool)
    changed, wide = all_touched.clone(), all_touched.clone()
    covered: dict[str, Tensor] = {}
    whole = all_touched.clone()
    for edit in op.edits:
        rows = touched(op, edit, table, every, width) & real
        all_touched |= rows
        changed |= rows & _may_differ(op, edit, base, table, real, dead)
        if _takes_wide(edit.value):
            wide |= rows.any(2, keepdim=True).any(1, keepdim=True) & real
        if not edit.absolute:
            continue
        axis, members = _members(op, edit, table)
        if axis is None:
            whole |= rows
        elif members is not None:  # [lane, members]: a row is whole once all members are written
            now = covered.setdefault(axis, torch.zeros(table.size, op.sizes[axis], *real.shape[1:]).bool())
            now |= members[:, :, None, None] & rows[:, None]
    for by_member in covered.values():
        whole |= by_member.all(1)
    return EditRows(all_touched, _some(changed), _some(whole), _some(wide))


def _some(rows: Tensor) -> Tensor | None:
    return rows if bool(rows.any()) else None


def _may_differ(
    op: EditOp, edit: ir.Edit, base: ir.Forward | None, table: Table, real: Tensor, dead: bool
) -> Tensor:
    """Where a written value may differ from the base run's: bool, broadcast to [lane, batch, pos]."""
    value = edit.value
    anywhere = torch.ones(1, 1, 1, dtype=torch.bool)
    if base is None:
        return anywhere
    if edit in base.edits:
        return ~anywhere
    gates = gates_of(edit) if dead else ()
    if gates:
        height, width = real.shape[1:]
        return open_rows(gates, op.evaluator, table, height, width)
    site = (edit.site.name, edit.site.select)
    if isinstance(value, ir.Read) and value.run == base and (value.site.name, value.site.select) == site:
        return ~anywhere
    others = others_of(edit, base) if dead else None
    if others is None:
        return anywhere
    inputs, column = op.evaluator.rows.inputs, op.evaluator.rows.column
    mine = inputs.part(base.data)
    differs = np.zeros(mine.tokens.shape, dtype=bool)
    for part in others.parts:
        theirs = inputs.part(part)
        if mine.tokens.shape != theirs.tokens.shape:
            return anywhere
        shorter = np.minimum(mine.lengths, theirs.lengths)[:, None] <= np.arange(real.shape[2])
        differs |= (mine.tokens != theirs.tokens) | (shorter & (mine.lengths != theirs.lengths)[:, None])
    found = torch.from_numpy(differs).cumsum(-1) > 0
    for here, there in others.places:
        found |= (column(here).data != column(there).data)[:, None]
    return found[None]


def _takes_wide(value: ir.Node, seen: set[ir.Node] | None = None) -> bool:
    """Whether a value takes `self` at other rows than its own; what was `seen` does not."""
    seen = set() if seen is None else seen
    if value in seen or not has_self(value):
        return False
    seen.add(value)
    if isinstance(value, ir.Self):
        return False
    return crosses_rows(value) or any(_takes_wide(c, seen) for c in value.children)


def _members(op: EditOp, edit: ir.Edit, table: Table) -> tuple[str | None, Tensor | None]:
    """The one axis of which an edit writes only some members, and which: bool [lane, members].

    (None, None) where it writes whole rows; an axis without members where that is not known.
    """
    site = edit.site
    feature = [(a, i) for a, i in site.select if a not in ("layer", "pos") and not isinstance(i, ir.Whole)]
    feature = [(a, i) for a, i in feature if not isinstance(i, ir.Star) or site.minus]
    if not feature and not site.minus:
        return None, None
    if len(feature) != 1 or feature[0][0] not in op.sizes:
        return "?", None
    axis, index = feature[0]
    size = op.sizes[axis]
    members = _one(op, index, table, size)
    if members is None:
        return axis, None
    for out in site.minus:
        hit = torch.ones(table.size, size, dtype=torch.bool)
        for a, i in out.select:
            if isinstance(i, (ir.Star, ir.Whole)):
                continue
            if a == axis:
                theirs = _one(op, i, table, size)
                if theirs is None:
                    return axis, None
                hit &= theirs
            elif a == "layer":
                where = _layer(op, i, table)
                if where is None:
                    return axis, None
                hit &= where.eq(op.key[1] or 0)[:, None]
            else:
                return axis, None
        members = members & ~hit
    return axis, members


def _one(op: EditOp, index: ir.Node, table: Table, size: int) -> Tensor | None:
    """Which members an index picks: bool [lane, members]."""
    members = torch.arange(size)
    if isinstance(index, ir.Star):
        return torch.ones(table.size, size, dtype=torch.bool)
    if isinstance(index, ir.Coord):
        column = op.evaluator.domains.column(index.sweep, index.index)[table.index[index.sweep.digest]]
        return column[:, None].eq(members)
    if isinstance(index, ir.Const) and isinstance(index.value, int):
        return (members == index.value).expand(table.size, size)
    if isinstance(index, ir.Const) and isinstance(index.value, tuple):
        return torch.isin(members, torch.tensor([int(i) for i in index.value])).expand(table.size, size)  # type: ignore[arg-type]
    return None


def _layer(op: EditOp, index: ir.Node, table: Table) -> Tensor | None:
    """The layer that an index picks, by lane."""
    if isinstance(index, ir.Coord):
        return op.evaluator.domains.column(index.sweep, index.index)[table.index[index.sweep.digest]]
    if isinstance(index, ir.Const) and isinstance(index.value, int):
        return torch.full((table.size,), index.value)
    return None
