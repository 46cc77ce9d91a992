"""Where a swept variable must be a literal: the expression is worked out at each of its points.

Most swept variables are coordinates: an expression that mentions one has a value for each point, and all
points go through one graph. A seed, the size of a model, the end of a range of layers cannot be a coordinate.
Whoever needs a literal there raises `Unroll`; the body of the experiment then works the expression out once
for each point, with the point's own literal, and lays the values along the same axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.sema.tensors import as_tensor, stack
from midsl.sema.values import ConstV, ListV, Poison, PoisonError, RecordV, TensorV, Value, VariousV
from midsl.source import Span


class Unroll(Exception):
    """Raised where a literal is needed and a swept variable stands."""

    def __init__(self, sweep: ir.Sweep) -> None:
        super().__init__(sweep.name)
        self.sweep = sweep


def need_literal(value: Value) -> None:
    """Ask for the points of a swept variable one by one, if that is what stands here."""
    if isinstance(value, VariousV):
        raise Unroll(value.sweep)
    if isinstance(value, TensorV):
        sweeps = ir.sweeps_of(value.node)
        if sweeps and not any(isinstance(n, (ir.Read, ir.Grad)) for n in ir.walk(value.node)):
            raise Unroll(sweeps[0])


def side_by_side(values: Sequence[Value], axes: Sequence[Axis], sweep: ir.Sweep, span: Span) -> Value:
    """Values at the points of a sweep, row-major: one tensor, or what is no tensor, one for each point."""
    if any(isinstance(v, Poison) for v in values):
        raise PoisonError
    if not axes:
        return values[0]
    if (table := by_field(values, lambda xs: side_by_side(xs, axes, sweep, span))) is not None:
        return table
    if not all(is_tensor(v) for v in values):
        return VariousV(sweep, values[0].kind)
    if len(values) > 1 and all_the_same([as_tensor(v, span) for v in values]):
        return values[0]  # whatever asked for the literal, nothing came of it
    row = len(values) // (axes[0].size or 1)
    rows = [side_by_side(values[i : i + row], axes[1:], sweep, span) for i in range(0, len(values), row)]
    return stack([as_tensor(r, span) for r in rows], axes[0], span)


def by_field(values: Sequence[Value], join: Callable[[Sequence[Value]], Value]) -> RecordV | None:
    """Records of tensors, of the same fields along the same axes, as one record of what is joined; else None.

    Features of decompositions that differ by their seeds, say, are other axes at each point.
    """
    first = values[0]
    if not isinstance(first, RecordV) or not first.fields:
        return None
    records = [v for v in values if isinstance(v, RecordV) and v.fields.keys() == first.fields.keys()]
    whole = all(isinstance(f, (TensorV, RecordV)) for v in records for f in v.fields.values())
    if len(records) < len(values) or not whole:
        return None
    for n in first.fields:
        tensors = [f for v in records if isinstance(f := v.fields[n], TensorV)]
        if len({frozenset((a.name, a.owner) for a in t.type.axes) for t in tensors}) > 1:
            return None
    fields = {n: join([v.fields[n] for v in records]) for n in first.fields}
    return replace(first, fields=fields)


def meaning(node: ir.Node, memo: dict[str, ir.Node] | None = None) -> str:
    """The identity of a value, whichever occurrences of its runs in the text it was made of."""
    return settled(node, memo).digest


def settled(node: ir.Node, memo: dict[str, ir.Node] | None = None) -> ir.Node:
    """A value whose runs are of no occurrence in the text."""

    def settle(n: ir.Node) -> ir.Node:
        if isinstance(n, ir.Forward) and n.origin:
            return ir.Forward(n.model, n.data, n.edits, 0, type=n.type, span=n.span)
        return n

    return ir.rewrite(node, settle, memo)


def all_the_same(values: Sequence[TensorV]) -> bool:
    """Whether values are one, whichever occurrences of runs in the text they were made of."""
    memo: dict[str, ir.Node] = {}
    return len({meaning(v.node, memo) for v in values}) == 1


def is_tensor(value: Value) -> bool:
    """Whether a value is a number, a tensor, or a list of such along an axis."""
    if isinstance(value, ListV):
        return value.axis is not None and all(map(is_tensor, value.items))
    return isinstance(value, TensorV) or (isinstance(value, ConstV) and not isinstance(value.value, str))
