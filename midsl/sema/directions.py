"""``jvp``: what a small step along a direction changes, of any value of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import TensorType
from midsl.sema.arguments import Args
from midsl.sema.gradients import check_rows, check_smooth, in_run, place
from midsl.sema.tensors import join_axes
from midsl.sema.values import TensorV, Value
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


def jvp(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``jvp(value, at: site, along: direction)``: the gradients of a value, each times a direction.

    Axes that the direction has and the site has not are directions beside each other, over one forward pass.
    """
    args = Args(e, "jvp", node, scope, ("value", "at", "along"))
    value, along = args.tensor("value"), args.tensor("along")
    at, span = place(e, args, value), args.expr("along").span
    if not isinstance(at, TensorV):
        raise fail(
            "MI0601",
            "not implemented: directions of a code or an error",
            args.expr("at").span,
            help="push what they come to at the site, such as `along: dot(v, sae.decoder, over: feature)`",
        )
    assert isinstance(at.node, ir.Read)
    run = at.node.run
    value = in_run(value, run)
    check_rows(value, run, at, args.expr("value").span)
    check_smooth(value, run, args.expr("value").span)
    if along.type.kind == "bool":
        help = "make it a number: `where(x, 1.0, 0.0)`"
        raise fail("MI0301", "a direction is made of numbers", span, label=f"this is {along.type}", help=help)
    join_axes([at.node, along.node], span)
    sweeps = dict.fromkeys([*ir.sweeps_of(value.node), *ir.sweeps_of(at.node), *ir.sweeps_of(along.node)])
    swept = [a for s in sweeps for a in s.axes]
    beside = [a for a in along.type.axes if at.type.axis(a.name) is None and not any(map(a.same_as, swept))]
    for axis in beside:
        if axis.name in ("batch", "pos", "key_pos"):
            raise fail(
                "MI0301",
                f"a direction along `{axis.name}`, which the site has not",
                span,
                label=f"this is {along.type}, and the site {at.type}",
                help=f"select along it (`v[{axis.name}: ..]`), or take the whole site",
            )
        if value.type.axis(axis.name) is not None:
            raise fail(
                "MI0301",
                f"the value and its directions both have `{axis.name}`",
                span,
                label=f"each direction changes all of `{axis.name}`",
                help=f"give one of them another name: `rename(v, {axis.name}: other)`",
            )
    known = [a for a in swept if any(t.axis(a.name) is not None for t in (value.type, at.type, along.type))]
    axes = tuple(dict.fromkeys([*value.type.axes, *known, *beside]))
    made = ir.Jvp(
        value.node,
        run,
        at.node.site,
        along=along.node,
        seen=at.node,
        type=TensorType(axes=axes),
        span=node.span,
    )
    return TensorV(made)
