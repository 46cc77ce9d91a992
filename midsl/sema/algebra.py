"""Functions that decompositions are written with: choosing entries of a code, matrices, repeated steps."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.sema.arguments import Args
from midsl.sema.calls import axis_names
from midsl.sema.tensors import apply, as_tensor, find_axis, join_axes
from midsl.sema.unroll import Unroll
from midsl.sema.values import AxisV, TensorV, Value
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


def dot(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``dot(a, b, over: d)``: the sum of products along axes that both have."""
    args = Args(e, "dot", node, scope, ("a", "b", "over"))
    a, b, over = args.tensor("a"), args.tensor("b"), args.axes("over")
    if not over:
        raise fail(
            "MI0207", "`dot` needs an axis: `over:`", node.span, help="such as `dot(a, b, over: d_model)`"
        )
    for x in (a, b):
        for name in over:
            find_axis(x.type, name, args.expr("over").span, "take `dot` over")
    names = over[0] if len(over) == 1 else tuple(over)
    return apply("dot", (a, b), node.span, attrs=(("over", names),), drop=tuple(over))


def top_mask(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``top_mask(x, k: 8, over: feature)``; in a loss also ``over: [batch, feature], per: batch``."""
    args = Args(e, "top_mask", node, scope, ("x", "k", "over", "per"))
    x, k, over, per = args.tensor("x"), _count(args, "k"), args.axes("over"), args.axes("per")
    if not over:
        raise fail(
            "MI0207",
            "`top_mask` needs an axis: `over:`",
            node.span,
            help="add the axis to rank along: `top_mask(x, k: 8, over: feature)`",
        )
    for name in over:
        axis = find_axis(x.type, name, args.expr("over").span, "rank along")
        if name in ("batch", "pos") and axis.owner != "fit":
            raise fail(
                "MI0301",
                "what is kept of one row cannot depend on the others",
                args.expr("over").span,
                label=f"`{name}` is an axis of the data",
                help="rank along the code alone; along the batch only in the loss of a fit",
            )
    names = over[0] if len(over) == 1 else tuple(over)
    attrs: tuple[tuple[str, ir.Json], ...] = (("k", k), ("over", names))
    if per is not None:
        if len(per) != 1 or per[0] not in over:
            help = "such as `over: [batch, feature], per: batch`"
            raise fail("MI0301", "`per` is one of the axes of `over`", args.expr("per").span, help=help)
        attrs = (*attrs, ("per", per[0]))
    return apply("top_mask", (x,), node.span, kind=x.type.kind, attrs=attrs)


def group_max(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``group_max(x, k: 8, over: feature)``: the axis in k stretches, of each the largest entry."""
    args = Args(e, "group_max", node, scope, ("x", "k", "over"))
    x, k, over = args.tensor("x"), _count(args, "k"), args.axes("over")
    if over is None or len(over) != 1:
        help = "such as `group_max(x, k: 8, over: feature)`"
        raise fail("MI0207", "`group_max` needs one axis: `over:`", node.span, help=help)
    axis = find_axis(x.type, over[0], args.expr("over").span, "group along")
    if axis.name in ("batch", "pos"):
        raise fail(
            "MI0301",
            "what is kept of one row cannot depend on the others",
            args.expr("over").span,
            help="group along the axis of a code",
        )
    if axis.size is not None and axis.size % k:
        help = f"give `k` a divisor of {axis.size}"
        raise fail("MI0301", f"`{over[0]}` does not fall into {k} equal stretches", node.span, help=help)
    return apply("group_max", (x,), node.span, kind=x.type.kind, attrs=(("k", k), ("over", axis.name)))


def rename(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``rename(x, d: e)``: another name for an axis; of an axis that is bound, that axis."""
    if not node.args or node.args[0].name is not None or len(node.args) < 2:
        help = "`rename(x, old: new)`"
        raise fail("MI0207", "`rename` takes a value and names of axes", node.span, help=help)
    done = as_tensor(e.eval(node.args[0].value, scope), node.args[0].span)
    for arg in node.args[1:]:
        if arg.name is None:
            raise fail("MI0207", "which axis is renamed?", arg.span, help="`rename(x, old: new)`")
        bound = scope.find(arg.name)
        old = find_axis(
            done.type, bound.axis.name if isinstance(bound, AxisV) else arg.name, arg.span, "rename"
        )
        if old.name in ("batch", "pos", "key_pos") and not _positions(arg.value, old.name):
            help = "reduce it, or rename an axis of the model or of a code; `pos: key_pos` is of keys"
            raise fail("MI0301", f"`{old.name}` belongs to the data and keeps its name", arg.span, help=help)
        target = scope.find(arg.value.id) if isinstance(arg.value, ast.Name) else None
        if isinstance(target, AxisV):
            new = replace(target.axis, size=target.axis.size or old.size)
        else:
            (name,) = axis_names(e, arg.value, scope)
            new = replace(old, name=name)
        if new.name != old.name and done.type.axis(new.name) is not None:
            help = "take a name that no axis of the value has"
            raise fail("MI0313", f"there is an axis `{new.name}` already", arg.span, help=help)
        axes = tuple(new if a is old else a for a in done.type.axes)
        attrs = (("old", old.name), ("new", new.name))
        t = replace(done.type, axes=axes)
        done = TensorV(ir.Apply("rename", (done.node,), attrs, type=t, span=node.span))
    return done


def _positions(value: ast.Expr, old: str) -> bool:
    """Whether positions become the keys' positions, or the other way round: the same places of a row."""
    return isinstance(value, ast.Name) and {value.id, old} == {"pos", "key_pos"}


def concat(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``concat(a, b, over: feature)``: two codes, or what belongs to them, one behind the other."""
    args = Args(e, "concat", node, scope, ("a", "b", "over"))
    a, b, over = args.tensor("a"), args.tensor("b"), args.axes("over")
    if over is None or len(over) != 1:
        help = "such as `concat(a, b, over: feature)`"
        raise fail("MI0207", "`concat` needs one axis: `over:`", node.span, help=help)
    first, second = (find_axis(x.type, over[0], args.expr("over").span, "lay out along") for x in (a, b))
    if first.name in ("batch", "pos", "key_pos"):
        help = "lay out along the axis of a code, or one that a sweep or a comprehension made"
        raise fail("MI0301", f"`{first.name}` belongs to the data", args.expr("over").span, help=help)
    both = hashlib.blake2b(f"{first.owner} {second.owner}".encode(), digest_size=4).hexdigest()
    size = None if None in (first.size, second.size) else (first.size or 0) + (second.size or 0)
    shared = join_axes([ir.Const(0, type=x.type.without(over[0])) for x in (a, b)], node.span)
    kinds, units = {a.type.kind, b.type.kind}, {a.type.unit, b.type.unit}
    if len(kinds) > 1 and "bool" in kinds:
        help = "make both numbers: `where(cond, 1.0, 0.0)`"
        raise fail("MI0301", "truth values and numbers along one axis", node.span, help=help)
    if len(units) > 1:
        help = "divide each by a reference of its own unit first"
        raise fail("MI0305", "the two are of different units", node.span, help=help)
    axis = Axis(first.name, f"both:{both}", size)
    t = TensorType(a.type.kind if len(kinds) == 1 else "float", (*shared, axis), units.pop())
    return TensorV(ir.Apply("concat", (a.node, b.node), (("over", axis.name),), type=t, span=node.span))


def eigenvectors(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``eigenvectors(x, over: d, into: component, k: 4)`` of a symmetric matrix."""
    args = Args(e, "eigenvectors", node, scope, ("x", "over", "into", "k"))
    x, k = args.tensor("x"), _count(args, "k")
    space, _ = _matrix(x, args)
    (into,) = args.axes("into") or ("component",)
    if space.size is not None and k > space.size:
        help = f"give `k` at most {space.size}"
        raise fail("MI0301", f"`{space.name}` has no {k} eigenvectors", args.expr("k").span, help=help)
    new = Axis(into, f"eigen:{x.node.digest[:8]}", k)
    attrs: tuple[tuple[str, ir.Json], ...] = (("over", space.name), ("into", into), ("k", k))
    t = TensorType(axes=(space, new))
    return TensorV(ir.Apply("eigenvectors", (x.node,), attrs, type=t, span=node.span))


def solve(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``solve(a, b, over: d, ridge: 1.0)``: x with a x = b for a symmetric matrix a, or several."""
    args = Args(e, "solve", node, scope, ("a", "b", "over", "ridge"))
    a, b = args.tensor("a"), args.tensor("b")
    space, _ = _matrix(a, args, frozenset(x.name for x in b.type.axes))
    find_axis(b.type, space.name, args.expr("b").span, "solve along")
    ridge = args.literal("ridge", float, 0.0)
    assert isinstance(ridge, float)
    attrs = (("over", space.name), ("ridge", ridge))
    return apply("solve", (a, b), node.span, attrs=attrs, drop=(space.name,))


def step(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``step(x, width: 0.1)``: 1 above 0, else 0; for gradients a ramp of that width."""
    args = Args(e, "step", node, scope, ("x", "width"))
    width = args.literal("width", float)
    assert isinstance(width, float)
    if width <= 0:
        raise fail("MI0301", "`width` is above 0", args.expr("width").span, help="such as `width: 0.01`")
    return apply("step", (args.tensor("x"),), node.span, attrs=(("width", width),))


def _count(args: Args, name: str) -> int:
    value = args.literal(name, int)
    assert isinstance(value, int)
    if value < 1:
        raise fail("MI0402", f"`{name}` is at least 1", args.expr(name).span, help=f"such as `{name}: 8`")
    return value


def _matrix(x: TensorV, args: Args, each: frozenset[str] = frozenset()) -> tuple[Axis, Axis]:
    """The axis that is named of a square matrix, and the other one; there may be one matrix for `each`.

    A matrix at each point of a sweep is one after the other: the points are asked for as literals.
    """
    swept = ir.sweeps_of(x.node)
    if swept:
        raise Unroll(swept[0])
    over = args.axes("over")
    if over is None or len(over) != 1:
        help = "name one of the two axes of the matrix: `over: d_model`"
        raise fail("MI0207", f"`{args.fn}` needs one axis: `over:`", args.node.span, help=help)
    space = find_axis(x.type, over[0], args.expr("over").span, f"take `{args.fn}` over")
    rest = [a for a in x.type.axes if a is not space and a.name not in each]
    if len(rest) != 1 or (None not in (rest[0].size, space.size) and rest[0].size != space.size):
        raise fail(
            "MI0301",
            "a square matrix is needed",
            args.node.span,
            label=f"this is {x.type}",
            help="such as `dot(x, rename(x, d: other), over: [batch, pos])`",
        )
    return space, rest[0]
