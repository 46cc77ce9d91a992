"""Sweeps over sites of several kinds: one sweep for each kind, and one ragged axis for all of them.

A site's name is no coordinate, so what depends on a variable that stands for sites of several kinds is worked
out once for each kind, whose members are swept as those of any family are. The values then stand one behind
the other (``ir.Union``). The columns of a point are its kind, and the coordinates that it has; the others are
empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.sema.clauses import DOMAIN, SWEEP, Clause
from midsl.sema.tensors import as_tensor
from midsl.sema.unroll import all_the_same, by_field, is_tensor
from midsl.sema.values import Poison, PoisonError, TensorV, Value, VariousV
from midsl.source import Span


@dataclass(frozen=True)
class OfKind:
    """One kind of what a variable stands for: its points, the columns of each, and its value there."""

    sweep: ir.Sweep
    keys: tuple[dict[str, ir.Scalar], ...]
    value: Value


def kind_sweep(
    name: str, label: str, columns: Sequence[str], points: Sequence[tuple[ir.Scalar, ...]]
) -> ir.Sweep:
    """The sweep over the members of one kind; one place without coordinates is a sweep of one point."""
    axis = Axis(f"{name}@{label}", f"sweep:{name}:{label}", len(points))
    if not columns:
        columns, points = (name,), [(0,)]
    domain = ir.Points(tuple(points), type=DOMAIN)
    return ir.Sweep(f"{name} ({label})", tuple(columns), (axis,), domain, type=SWEEP)


def one_by_one(sweep: ir.Sweep, points: Sequence[tuple[ir.Scalar, ...]]) -> tuple[OfKind, ...]:
    """The points of a sweep with several columns along one axis, each as a kind of its own."""
    return tuple(
        OfKind(kind_sweep(sweep.name, str(i), sweep.columns, [p]), (), TensorV(ir.Const(i)))
        for i, p in enumerate(points)
    )


def union_clause(
    name: str, prefix: str, kinds: Sequence[OfKind], columns: Sequence[str], span: Span
) -> Clause:
    """The clause that walks several kinds, one after the other."""
    points = tuple(tuple(keys.get(c) for c in columns) for k in kinds for keys in k.keys)
    if len(set(points)) < len(points):
        raise fail(
            "MI0405",
            "two places of what is swept have the same coordinates",
            span,
            help="leave one of the two out, or sweep each by itself",
        )
    axis = Axis(prefix + name, f"sweep:{name}", len(points))
    domain = ir.Points(points, type=DOMAIN, span=span)
    kind = kinds[0].value.kind

    def value(sweep: ir.Sweep, at: int) -> Value:
        return VariousV(sweep, kind)

    names = tuple(prefix + c for c in columns)
    return Clause(name, names, (axis,), domain, value, span, kinds=tuple(kinds))


def one_behind_the_other(
    values: Sequence[Value], kinds: Sequence[OfKind], sweep: ir.Sweep, span: Span
) -> Value:
    """Values of the kinds along the sweep over all of them; what is no tensor is one thing for each kind."""
    if any(isinstance(v, Poison) for v in values):
        raise PoisonError
    table = by_field(values, lambda xs: one_behind_the_other(xs, kinds, sweep, span))
    if table is not None:
        return table
    if not all(is_tensor(v) for v in values):
        return VariousV(sweep, values[0].kind)
    parts = [as_tensor(v, span) for v in values]
    bound = [k.sweep in ir.sweeps_of(p.node) for p, k in zip(parts, kinds, strict=True)]
    if not any(bound) and all_the_same(parts):
        return values[0]
    rest = [tuple(a for a in p.type.axes if a not in k.sweep.axes) for p, k in zip(parts, kinds, strict=True)]
    for other, kind in zip(rest, kinds, strict=True):
        if {(a.name, a.owner, a.span) for a in other} != {(a.name, a.owner, a.span) for a in rest[0]}:
            ways = [", ".join(map(str, r)) or "no axis" for r in (rest[0], other)]
            raise fail(
                "MI0303",
                "the values of the kinds that are swept have other axes",
                span,
                label=f"[{ways[0]}] at {kinds[0].sweep.name}, [{ways[1]}] at {kind.sweep.name}",
                help="reduce what only some of them have, or sweep each kind by itself",
            )
    units, types = {p.type.unit for p in parts}, {p.type.kind for p in parts}
    if len(units) > 1 or ("bool" in types and len(types) > 1):
        raise fail("MI0305", "the values of the kinds that are swept are of different units", span,
                   help="divide each by a reference of its own unit first")  # fmt: skip
    t = TensorType(types.pop() if len(types) == 1 else "float", (*sweep.axes, *rest[0]), units.pop())
    sweeps = tuple(k.sweep for k in kinds)
    return TensorV(ir.Union(sweep, sweeps, tuple(p.node for p in parts), type=t, span=span))
