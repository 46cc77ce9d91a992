"""Conditions on the coordinates of sweeps alone, worked out point by point before anything runs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from itertools import product

from midsl.ir import nodes as ir
from midsl.passes.fold_constants import FOLDED

Coords = tuple[ir.Scalar, ...]
KNOWN: dict[str, Callable[..., ir.Scalar]] = {
    **FOLDED,
    "mod": operator.mod,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
    "and": lambda x, y: x and y,
    "or": lambda x, y: x or y,
    "not": operator.not_,
    "where": lambda c, x, y: x if c else y,
}
"""What each operation gives of scalars."""


def points_where(condition: ir.Node) -> tuple[Coords, ...] | None:
    """The points at which a condition holds, in its order; None if it takes more than coordinates to know."""
    sweeps = ir.sweeps_of(condition)
    if not _is_static(condition) or any(not isinstance(s.domain, ir.Points) for s in sweeps):
        return None
    order = condition.tensor_type.names
    sweeps = tuple(sorted(sweeps, key=lambda s: order.index(s.axes[0].name)))
    every = product(*(s.domain.points for s in sweeps if isinstance(s.domain, ir.Points)))
    digests = [s.digest for s in sweeps]
    return tuple(
        tuple(c for p in choice for c in p)
        for choice in every
        if _value(condition, dict(zip(digests, choice, strict=True)))
    )


def _is_static(node: ir.Node) -> bool:
    if isinstance(node, (ir.Const, ir.Coord)):
        return True
    return (
        isinstance(node, ir.Apply)
        and node.op in KNOWN
        and not node.attrs
        and all(_is_static(a) for a in node.args)
    )


def _value(node: ir.Node, at: Mapping[str, Coords]) -> ir.Scalar:
    if isinstance(node, ir.Const):
        assert not isinstance(node.value, tuple)
        return node.value
    if isinstance(node, ir.Coord):
        value = at[node.sweep.digest][node.index]
        return value if node.label is None else value == node.label
    assert isinstance(node, ir.Apply)
    return KNOWN[node.op](*(_value(a, at) for a in node.args))
