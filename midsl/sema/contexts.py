"""``contexts(r[sae.code], k: 20, window: 10)``: where each unit is largest over much data, and what is there.

A unit is an entry of all axes but `batch` and `pos`: a feature, a neuron of a layer. What comes of it is
tables whose axes are known before anything runs: `features` (a row for each unit), `top` (its k places) and
`tokens` (those around each); with `effects` also `promoted` and `suppressed` (tokens that it does most to).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, Kind, TensorType
from midsl.sema.arguments import Args
from midsl.sema.placed import ContextsV, PlacesV
from midsl.sema.tensors import apply, const, find_axis
from midsl.sema.values import RecordV, TensorV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

DATA = ("batch", "pos")
NEW = ("rank", "shift")
WHOLE = re.compile(r"(\d*)\.\.(-?\d+)?")
"""Stretches that begin at one position in all rows, and leave none out."""


def contexts(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``contexts(x, k: 20, window: 10, above: 0.0, effects: w, tokens: 10)``."""
    args = Args(e, "contexts", node, scope, ("x", "k", "window", "above", "effects", "tokens"))
    x = _of_rows(args)
    k, window = _count(args, "k", 20, 1), _count(args, "window", 10, 0)
    above = args.literal("above", float, 0.0)
    assert isinstance(above, float)
    pos = x.type.axis("pos")
    assert pos is not None
    attrs: tuple[tuple[str, ir.Json], ...] = (
        *(("over", DATA), ("k", k), ("window", window), ("above", above)),
        ("start", _start(pos, args.expr("x").span)),
    )
    rank, shift = Axis("rank", "", k), Axis("shift", "", 2 * window + 1, tuple(range(-window, window + 1)))
    units = x.type.without(*DATA).axes

    def give(what: str, kind: Kind, *more: Axis) -> TensorV:
        unit = x.type.unit if kind == "float" and what != "density" else None
        t = TensorType(kind, (*units, *more), unit)
        return TensorV(ir.Apply("contexts", (x.node,), (*attrs, ("gives", what)), type=t, span=node.span))

    value, row, at = give("value", "float", rank), give("row", "int", rank), give("pos", "int", rank)
    words = _around(e, x, (row, at), window, shift, node.span)
    t = TensorType("token", (*units, rank))
    word = TensorV(ir.Select(words.node, shift, ir.Const(0), type=t, span=node.span))
    there = apply("ge", (row, const(0, node.span)), node.span, kind="bool")
    tables: dict[str, Value] = {
        "features": RecordV(
            {
                "density": give("density", "float"),
                "mean": give("mean", "float"),
                "largest": _first(value, rank),
            }
        ),
        "top": PlacesV(
            {"value": value, "example": row, "pos": at, "token": word}, ("example", "pos", "token"), there
        ),
        "tokens": PlacesV(
            {"value": give("around", "float", rank, shift), "token": words},
            ("token",),
            give("inside", "bool", rank, shift),
        ),
    }
    if "effects" in args.given:
        tables |= _of_effects(args, units)
    return ContextsV(tables)


def top_values(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``top_values(x, k: 8, over: vocab)``: the greatest along an axis, and which they are."""
    args = Args(e, "top_values", node, scope, ("x", "k", "over"))
    x, over = args.tensor("x"), args.axes("over")
    if over is None or len(over) != 1:
        help = "such as `top_values(x, k: 8, over: vocab)`"
        raise fail("MI0207", "`top_values` needs one axis: `over:`", node.span, help=help)
    axis = find_axis(x.type, over[0], args.expr("over").span, "rank along")
    if axis.name in (*DATA, "key_pos") or any(axis in s.axes for s in ir.sweeps_of(x.node)):
        raise fail(
            "MI0301",
            "`top_values` goes along an axis of a model or of a code",
            args.expr("over").span,
            label=f"`{axis}` is of the data, or swept",
            help="`contexts(x)` finds the largest over rows and positions, `top_index` points of a sweep",
        )
    if clash := x.type.axis("rank"):
        raise _taken(clash, args)
    return _greatest(x, axis, _count(args, "k", None, 1), False, node.span)


def _of_rows(args: Args) -> TensorV:
    """The value that is looked through: numbers along `batch` and `pos`."""
    x, span = args.tensor("x"), args.expr("x").span
    missing = [n for n in DATA if x.type.axis(n) is None]
    if missing or x.type.kind == "bool" or any(a.owner == "fit" for a in x.type.axes):
        raise fail(
            "MI0301",
            "`contexts` needs numbers along `batch` and `pos`",
            span,
            label=f"this is {x.type}",
            help="such as `r[sae.code]` or `r[m.blocks[0].mlp.post]`, with all positions or a range of them",
        )
    for name in NEW:
        if (clash := x.type.axis(name)) is not None:
            raise _taken(clash, args)
    return x


def _taken(axis: Axis, args: Args) -> Exception:
    return fail(
        "MI0313",
        f"there is an axis `{axis}` already",
        args.expr("x").span,
        label=f"`{args.fn}` makes one of that name",
        help=f"`rename(x, {axis}: other)`",
    )


def _count(args: Args, name: str, default: int | None, least: int) -> int:
    value = args.literal(name, int, default)
    assert isinstance(value, int)
    if value < least:
        help = f"such as `{name}: {default or 8}`"
        raise fail("MI0402", f"`{name}` is at least {least}", args.expr(name).span, help=help)
    return value


def _start(pos: Axis, span: Span) -> int:
    """At which position of each row the value begins."""
    if pos.span in ("", "predicted"):
        return 0
    found = WHOLE.fullmatch(pos.span)
    if found is None:
        raise fail(
            "MI0301",
            f"what stands around positions of `{pos.span}` is not known",
            span,
            label="these are not neighbours in every row, or begin elsewhere in each",
            help="take all positions, or a range from the left: `r[x[pos: 1..]]`",
        )
    return int(found[1] or 0)


def _around(
    e: Elaborator, x: TensorV, at: tuple[TensorV, TensorV], window: int, shift: Axis, span: Span
) -> TensorV:
    """The tokens around places, of the rows that a value is of."""
    row, pos = at
    t = TensorType("token", (*row.type.axes, shift))
    axis = x.type.axis("pos")
    owners = [n for n in ir.walk(x.node) if isinstance(n, ir.Part) and axis and n.owner == axis.owner]
    if not owners:  # an argument of a function that is checked by its types
        return TensorV(ir.Extern("any", (("name", f"tokens of {row.node.digest}"),), type=t))
    tokens = e.ctx.column(e.ctx.parts[owners[0].digest], "tokens", span)
    attrs = (("window", window),)
    return TensorV(ir.Apply("around", (tokens.node, row.node, pos.node), attrs, type=t, span=span))


def _first(value: TensorV, rank: Axis) -> TensorV:
    t = value.type.without("rank")
    return TensorV(ir.Select(value.node, rank, ir.Const(0), type=t, span=value.node.span))


def _of_effects(args: Args, units: tuple[Axis, ...]) -> dict[str, Value]:
    """What units do to tokens: the k that each promotes most, and those it suppresses most."""
    x, span = args.tensor("effects"), args.expr("effects").span
    own = [a for a in x.type.axes if not any(a.name == u.name for u in units)]
    if len(own) != 1 or own[0].name in DATA:
        raise fail(
            "MI0302",
            "`effects` has a number for each unit and each token",
            span,
            label=f"this is {x.type}",
            help="such as `dot(sae.decoder, m.W_U, over: d_model)`",
        )
    for a in x.type.axes:
        unit = next((u for u in units if u.name == a.name), a)
        if not unit.same_as(a):
            raise fail("MI0303", f"`{a}` of the effects is another axis", span, help="take both of one lens")
    k = _count(args, "tokens", 10, 1)
    return {
        "promoted": _greatest(x, own[0], k, False, span),
        "suppressed": _greatest(x, own[0], k, True, span),
    }


def _greatest(x: TensorV, axis: Axis, k: int, least: bool, span: Span) -> PlacesV:
    if axis.size is not None and k > axis.size:
        raise fail("MI0402", f"`{axis}` has no {k} entries", span, help=f"give at most {axis.size}")
    t = TensorType(x.type.kind, (*x.type.without(axis.name).axes, Axis("rank", "", k)), x.type.unit)
    called, kind = ("token", "token") if axis.name == "vocab" else ("index", "int")

    def give(what: str, t: TensorType) -> TensorV:
        attrs: tuple[tuple[str, ir.Json], ...] = (("k", k), ("over", axis.name), ("gives", what))
        attrs = (*attrs, ("least", True)) if least else attrs
        return TensorV(ir.Apply("top_values", (x.node,), attrs, type=t, span=span))

    index = give("index", TensorType(kind, t.axes))  # type: ignore[arg-type]
    return PlacesV({"value": give("value", t), called: index}, (called,))
