"""Comprehensions: ``[e for k in 1..=5 if k != 3]``. The variable is an axis of what comes of it.

Where runs depend on the variable it is swept, so that they go together; else, and where a literal is needed,
the items are worked out one by one.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from midsl.diagnostics.model import MiError, fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.sema.clauses import DOMAIN, SWEEP, coord, kind_of
from midsl.sema.edges import EdgesV
from midsl.sema.sweptedges import each_edge
from midsl.sema.unroll import Unroll
from midsl.sema.values import ConstV, ListV, RangeV, TensorV, Value
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


def comprehension(e: Elaborator, node: ast.Comprehension, scope: Scope, sweep_all: bool = False) -> Value:
    """The list of its items, or one tensor with its variable swept.

    `sweep_all`: sweep it wherever that can be, and not only where runs depend on it: a control's draws are.
    """
    source = e.eval(node.source, scope)
    if isinstance(source, EdgesV):
        return each_edge(e, node, source, scope)
    chosen, axis = _chosen(e, node, scope)
    if not chosen:
        return ListV(())
    if sweep_all:
        swept = _swept(e, node, scope, axis)
        if swept is not None:
            return swept
    first = e.eval(node.item, scope.child({node.var: chosen[0]}))
    if isinstance(first, TensorV) and len(chosen) > 1 and not sweep_all:
        swept = _swept(e, node, scope, axis)
        if swept is not None and _runs_depend(swept, axis):
            return swept
    rest = [e.eval(node.item, scope.child({node.var: m})) for m in chosen[1:]]
    return ListV((first, *rest), axis)


def one_by_one(e: Elaborator, node: ast.Comprehension, scope: Scope) -> ListV:
    """The list of its items, each worked out by itself, also where the variable could be swept."""
    chosen, axis = _chosen(e, node, scope)
    return ListV(tuple(e.eval(node.item, scope.child({node.var: m})) for m in chosen), axis)


def _chosen(e: Elaborator, node: ast.Comprehension, scope: Scope) -> tuple[list[Value], Axis]:
    """The members that the variable walks, and its axis."""
    every = members(e, node.source, scope)
    kept = [i for i, m in enumerate(every) if _kept(e, node, m, scope)]
    chosen = [every[i] for i in kept]
    labels = _labels(chosen) or _names(node.source, kept) if chosen else None
    owner = f"each:{node.var}:{_digest(labels or len(chosen))}"
    return chosen, Axis(node.var, owner, len(chosen), labels)


def _runs_depend(value: TensorV, axis: Axis) -> bool:
    """Whether some run is another one at each point along an axis."""
    runs = (n for n in ir.walk(value.node) if isinstance(n, ir.Forward))
    return any(axis in s.axes for r in runs for s in ir.sweeps_of(r))


def members(e: Elaborator, node: ast.Expr, scope: Scope) -> tuple[Value, ...]:
    """The items of a list or a closed range."""
    source = e.eval(node, scope)
    if isinstance(source, ListV):
        return source.items
    if isinstance(source, RangeV) and source.hi is not None:
        every = range(source.lo or 0, source.hi, source.step)
        e.ctx.spend(max(0, -(-(every.stop - every.start) // every.step)), node.span)
        return tuple(ConstV(i) for i in every)
    raise fail(
        "MI0301",
        "a list or a closed range is needed",
        node.span,
        label=f"this is a {source.kind}",
        help="such as `[1, 2, 3]` or `0..4`",
    )


def _kept(e: Elaborator, node: ast.Comprehension, member: Value, scope: Scope) -> bool:
    if node.where is None:
        return True
    keep = e.eval(node.where, scope.child({node.var: member}))
    if not (isinstance(keep, ConstV) and isinstance(keep.value, bool)):
        raise fail(
            "MI0301",
            "the condition of a comprehension must be known now",
            node.where.span,
            label=f"this is a {keep.kind}",
            help="it may use the variable, numbers and strings; where it takes runs, sweep with `where`",
        )
    return keep.value


def _labels(items: list[Value]) -> tuple[int | float | str | bool, ...] | None:
    """The literals that items are, if they are different ones of one type."""
    found = [i.value for i in items if isinstance(i, ConstV)]
    if len(found) < len(items):
        return None
    if {type(v) for v in found} == {int, float}:
        found = [float(v) for v in found]
    alike = len({type(v) for v in found}) == 1 and len(set(found)) == len(found)
    return tuple(found) if alike else None


def _names(written: ast.Expr, kept: list[int]) -> tuple[str, ...] | None:
    """The names by which a list has its items, as a sweep over it has them: ``[zero, resample]``."""
    if not isinstance(written, ast.ListExpr):
        return None
    items = [written.items[i] for i in kept]
    named = (ast.Name, ast.Field, ast.LateColumn)
    found = tuple(i.span.text.removeprefix(".") for i in items if isinstance(i, named))
    return found if len(set(found)) == len(items) else None


def _digest(labels: object) -> str:
    return hashlib.blake2b(json.dumps(labels).encode(), digest_size=4).hexdigest()


def _swept(e: Elaborator, node: ast.Comprehension, scope: Scope, axis: Axis) -> TensorV | None:
    """The value with the variable swept; None if it is no tensor of it, or if it must be a literal."""
    if axis.labels is None or isinstance(axis.labels[0], str):
        return None
    span = node.source.span
    points = ir.Points(tuple((v,) for v in axis.labels), type=DOMAIN, span=span)
    sweep = ir.Sweep(node.var, (node.var,), (axis,), points, type=SWEEP, span=span)
    variable = TensorV(coord(sweep, 0, kind_of(axis.labels[0]), span))
    try:
        value = e.eval(node.item, scope.child({node.var: variable}))
    except Unroll as err:
        if err.sweep != sweep:
            raise
        return None
    except MiError:  # what is wrong is told of the items one by one, if it is wrong of them too
        return None
    if not isinstance(value, TensorV) or sweep not in ir.sweeps_of(value.node):
        return None
    return value
