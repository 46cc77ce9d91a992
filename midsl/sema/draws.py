"""Random values of the language: `normal`, `uniform`, `shuffle`.

A draw is a function of its seed, of where in the text it is asked for (or of `stream:`, by name), and of the
coordinates along its axes: the example's number, the position, the head. So it is the same whatever runs
beside it, and one draw serves all points of the sweeps around it unless `per:` names their axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.crossing import has_self
from midsl.ir.types import Axis, TensorType
from midsl.sema.arguments import Args
from midsl.sema.runs import every_row
from midsl.sema.select import late_part
from midsl.sema.tensors import as_tensor, const, find_axis
from midsl.sema.values import ColumnV, ConstV, LateV, SiteV, TensorV, Value
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.context import Context
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

DRAWS = ("normal", "uniform", "shuffle")


def draw_values(kind: str) -> Callable[..., Value]:
    """``normal(like: x, seed: 0)``: a number for each element of `like`, or along the axes `over` of it."""

    def call(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
        args = Args(e, kind, node, scope, ("like", "seed", "over", "per", "stream"))
        like = args.value("like")
        per = args.axes("per") or ()
        if isinstance(like, SiteV):
            swept: list[Axis] = []
            axes = _site_axes(like)
        else:
            x = as_tensor(like, args.expr("like").span)
            swept = [a for s in ir.sweeps_of(x.node) for a in s.axes]
            swept += e.ctx.swept_self if has_self(x.node) else ()
            axes = [a for a in x.type.axes if a.name in per or not any(a.same_as(s) for s in swept)]
        _all_known(per, swept, args)
        over = args.axes("over")
        if over is not None:
            named = TensorType(axes=tuple(axes))
            axes = [find_axis(named, n, args.expr("over").span, "draw along") for n in over]
            axes += [a for a in named.axes if a.name in per and a not in axes]
        family = like if isinstance(like, SiteV) and like.stars else None
        return TensorV(_draw(e, kind, args, tuple(axes)), family)

    return call


def shuffle(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``shuffle(x, seed: 0)``: the rows of a value in random order, `within:` the groups of a column."""
    args = Args(e, "shuffle", node, scope, ("x", "seed", "within", "stream"))
    x = args.tensor("x")
    batch = find_axis(x.type, "batch", args.expr("x").span, "shuffle")
    for part in [p for p in e.ctx.parts.values() if p.node.owner == batch.owner]:
        every_row(part, "shuffling", args.expr("x").span)
    left = [a for a in x.type.axes if a.name in ("pos", "key_pos")]
    if (left or _numbered(x.node)) and not _of_one_length(e.ctx, batch):
        raise fail(
            "MI0317",
            "rows of different lengths cannot take each other's places",
            args.expr("x").span,
            label=f"this has {left[0]} left" if left else "it names a position that some rows may not have",
            help="select a position that every row has: `x[pos: .end]`, or make rows of one length",
        )
    within = _groups(e.ctx, args, x) if "within" in args.given else None
    order = _draw(e, "permutation", args, (batch,), within)
    kept = [a for a in x.type.axes if a is not batch]
    kept += [a for a in order.tensor_type.axes if not any(a.same_as(k) for k in kept)]
    t = TensorType(x.type.kind, tuple(kept), x.type.unit)
    return TensorV(ir.Select(x.node, batch, order, type=t, span=node.span), x.site)


def _of_one_length(ctx: Context, batch: Axis) -> bool:
    """Whether all rows that a `batch` axis counts are equally long; they may not be there yet to be asked."""
    node = _part(ctx, batch)
    assert isinstance(node, ir.Part)
    dataset = ctx.facts.dataset(node.data) if isinstance(node.data, ir.Data) else None
    return dataset is None or len({*dataset.part(node.side, node.split).lengths.tolist()}) == 1


def _counts(axis: Axis) -> bool:
    """Whether the labels of an axis are numbers; places that have names are counted in their order."""
    return axis.labels is not None and not any(isinstance(x, str) for x in axis.labels)


def _draw(
    e: Elaborator, kind: str, args: Args, axes: tuple[Axis, ...], within: ir.Node | None = None
) -> ir.Draw:
    value = args.value("seed")
    if isinstance(value, ConstV) and type(value.value) is int:
        seed: ir.Node = const(value.value).node
    elif isinstance(value, TensorV) and isinstance(value.node, ir.Coord) and value.type.kind == "int":
        seed = value.node
    else:
        raise fail(
            "MI0301",
            f"`seed` of `{args.fn}` is a whole number, or a variable swept over some",
            args.expr("seed").span,
            label=f"this is a {value.kind}",
            help="such as `seed: 0`, or `sweep s in 0..20` and `seed: s`",
        )
    stream = args.literal("stream", str) if "stream" in args.given else e.ctx.call_site(args.node, DRAWS)
    assert isinstance(stream, str)
    part = next((_part(e.ctx, a) for a in axes if a.name in ("batch", "pos", "key_pos")), None)
    kept = tuple(a for s in ir.sweeps_of(seed) for a in s.axes)
    t = TensorType("int" if kind == "permutation" else "float", (*kept, *axes))
    labels = tuple(a.labels if _counts(a) else None for a in axes)
    return ir.Draw(kind, seed, stream, axes, labels, part, within, type=t, span=args.node.span)


def _part(ctx: Context, axis: Axis) -> ir.Node:
    """The data that an axis belongs to."""
    return next(p.node for p in ctx.parts.values() if p.node.owner == axis.owner)


def _site_axes(site: SiteV) -> list[Axis]:
    """The axes of a site that are the model's, those of its family first: what a direction in it has."""
    names = list(
        dict.fromkeys(a for a in (*site.stars, *site.row.axes) if a not in ("batch", "pos", "key_pos"))
    )
    free = [a for a in names if isinstance(site.site.index(a), (ir.Star, type(None)))]
    return [Axis(a, site.model.owner, site.model.sizes.get(a)) for a in free]


def _all_known(per: tuple[str, ...], swept: list[Axis], args: Args) -> None:
    names = [a.name for a in swept]
    for n in per:
        if n not in names:
            raise fail(
                "MI0302",
                f"nothing here is swept along `{n}`",
                args.expr("per").span,
                label=f"swept: {', '.join(names) or 'nothing'}",
                help=did_you_mean(n, names) or "`per:` names axes of the sweeps that `like` depends on",
            )


def _groups(ctx: Context, args: Args, x: TensorV) -> ir.Node:
    """The column that `within:` names."""
    value, span = args.value("within"), args.expr("within").span
    if isinstance(value, LateV):
        value = ctx.column(late_part(x.node, value.name, value.span, ctx), value.name, span)
    if not isinstance(value, ColumnV) or value.column_kind == "span":
        raise fail(
            "MI0301",
            "`within` is a column of the data",
            span,
            label=f"this is a {value.kind}",
            help="such as `within: .template`",
        )
    return value.node


def _numbered(node: ir.Node) -> bool:
    """Whether an expression names positions by number, which some rows may not have."""
    for n in ir.walk(node):
        at = n.index("pos") if isinstance(n, ir.Site) else n.index if isinstance(n, ir.Select) else None
        named = isinstance(n, ir.Site) or (isinstance(n, ir.Select) and n.axis.name in ("pos", "key_pos"))
        if named and isinstance(at, (ir.Const, ir.Coord)):
            return True
    return False
