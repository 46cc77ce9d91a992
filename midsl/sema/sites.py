"""Models, blocks and sites: finding a site by name, selecting along its axes, meeting a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.crossing import is_single
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.sema.tensors import narrowed
from midsl.sema.unroll import need_literal
from midsl.sema.values import (
    BlocksV,
    ColumnV,
    ConstV,
    Late,
    LateV,
    ListV,
    PartV,
    RangeV,
    RecordV,
    RunV,
    SitesV,
    SiteV,
    TensorV,
    Value,
)
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.context import Context

SITE = PlainType("Site")


def index_blocks(blocks: BlocksV, items: list[tuple[str | None, Value, Span]], span: Span) -> BlocksV:
    """``m.blocks[*]``, ``[3]``, ``[0..4]``, ``[l]``."""
    if blocks.path or blocks.layer is not None:
        raise fail("MI0307", "blocks are selected already", span, help="select once: `m.blocks[3]`")
    if len(items) != 1 or items[0][0] not in (None, "layer"):
        raise fail(
            "MI0407",
            "blocks have one axis, `layer`",
            span,
            label="one selection is needed here",
            help="such as `m.blocks[3]`, `m.blocks[*]` or `m.blocks[0..4]`",
        )
    index = index_node("layer", items[0][1], blocks.model.sizes.get("layer"), items[0][2])
    return BlocksV(blocks.model, index, "")


def index_node(axis: str, value: Value, size: int | None, span: Span) -> ir.Node:
    """Turn what stands in a selection into an index; ranges are checked where the size is known."""
    if isinstance(value, ConstV) and value.value == "*":
        return ir.Star(span=span)
    if isinstance(value, ConstV) and type(value.value) is int:
        return ir.Const(_in_range(axis, value.value, size, span), span=span)
    if isinstance(value, RangeV):
        if axis in ("pos", "key_pos") or size is None:
            _empty(value.lo, value.hi, span)
            return ir.Slice(value.lo, value.hi, value.step, span=span)
        chosen = tuple(range(size))[value.lo : value.hi : value.step]
        if not chosen:
            raise fail(
                "MI0402",
                f"this selects nothing of `{axis}`",
                span,
                label=f"`{axis}` has 0..{size}",
                help="the end of `a..b` is excluded; `a..=b` includes it",
            )
        if value.hi is not None and value.hi > size:
            raise fail(
                "MI0406",
                f"the range ends past `{axis}`",
                span,
                label=f"`{axis}` has {size}",
                help=f"the last is {size - 1}",
            )
        return ir.Const(chosen, span=span)
    if isinstance(value, ListV):
        if not value.items:
            raise fail(
                "MI0402",
                f"this selects nothing of `{axis}`",
                span,
                label="an empty list",
                help="name at least one index, or `*` for all",
            )
        items = []
        for item in value.items:
            need_literal(item)
            if not (isinstance(item, ConstV) and type(item.value) is int):
                raise fail(
                    "MI0301",
                    "a list in a selection holds whole numbers",
                    span,
                    help="such as `head: [0, 3, 7]`",
                )
            items.append(_in_range(axis, item.value, size, span))
        if len(set(items)) < len(items):
            raise fail(
                "MI0405",
                f"one index of `{axis}` stands twice in the list",
                span,
                help="leave one of the two out",
            )
        return ir.Const(tuple(items), span=span)
    if isinstance(value, LateV):
        return Late(value.name, span=value.span)
    if isinstance(value, ColumnV):
        return value.node
    if isinstance(value, TensorV) and isinstance(value.node, ir.Coord):
        return value.node
    need_literal(value)
    raise fail(
        "MI0407",
        f"`{axis}` cannot be selected by a {value.kind}",
        span,
        label=f"this is a {value.kind}",
        help="an index, a range, a list, `*`, a column such as `.end`, or a swept variable",
    )


def step_index(value: Value, span: Span) -> ir.Node:
    """Which steps of a rollout: they are literals, since each step is a run of its own."""
    need_literal(value)
    index = index_node("step", value, None, span)
    if not isinstance(index, (ir.Const, ir.Slice)):
        raise fail(
            "MI0407",
            f"`step` cannot be selected by a {value.kind}",
            span,
            help="a step, a range or a list of them: `x[step: 0]`, `x[step: 2..]`",
        )
    return index


def _in_range(axis: str, value: int, size: int | None, span: Span) -> int:
    if size is not None and not -size <= value < size:
        raise fail(
            "MI0406",
            f"`{axis}` has no index {value}",
            span,
            label=f"`{axis}` has {size}",
            help=f"the last is {size - 1}",
        )
    if value < 0 and size is None and axis not in ("pos",):
        raise fail("MI0406", f"a negative `{axis}` needs a known size", span, help="count from 0")
    return value + size if value < 0 and size is not None else value


def _empty(lo: int | None, hi: int | None, span: Span) -> None:
    if lo is not None and hi is not None and lo >= hi and (lo < 0) == (hi < 0):
        raise fail(
            "MI0402", "this range is empty", span, help="the end of `a..b` is excluded; `a..=b` includes it"
        )


def index_site(value: SiteV, items: list[tuple[str | None, Value, Span]], span: Span) -> Value:
    """``z[head: *, pos: .end]``, ``z["7.3", "7.9"]``, ``z[rows: zip(layer: [7, 8], head: [3, 6])]``."""
    if items and all(
        a is None and isinstance(v, ConstV) and isinstance(v.value, str) and v.value != "*"
        for a, v, _ in items
    ):
        return _members(value, [(v, at) for _, v, at in items])
    rows = [(v, at) for a, v, at in items if a == "rows"]
    if rows:
        rest = [i for i in items if i[0] != "rows"]
        inner = index_site(value, rest, span) if rest else value
        assert isinstance(inner, SiteV)
        return _members(inner, _rows(*rows[0]))
    select = dict(value.site.select)
    allowed = [a for a in value.row.axes if a != "batch"]
    if "d_state" in value.model.sizes:  # a row is one state: what moves on is the step of a rollout
        allowed = ["step", *(a for a in allowed if a != "pos")]
    for axis, v, at in items:
        if axis is None:
            raise fail(
                "MI0407",
                "which axis is this for?",
                at,
                label="an axis name is needed",
                help=f"write `{allowed[0]}: ...`; this site has {', '.join(allowed)}",
            )
        if axis not in allowed:
            raise fail(
                "MI0407" if axis in ("batch", "layer") else "MI0302",
                f"`{axis}` cannot be selected at this site",
                at,
                label=f"the site has {', '.join(allowed)}",
                help=did_you_mean(axis, allowed) or f"select along {' or '.join(f'`{a}`' for a in allowed)}",
            )
        if axis in select:
            raise fail("MI0407", f"`{axis}` is selected already", at, help="select along each axis once")
        index = step_index(v, at) if axis == "step" else index_node(axis, v, value.model.sizes.get(axis), at)
        if isinstance(index, ir.Const) and isinstance(index.value, int) and index.value < 0:
            if index.value != -1:
                raise fail(
                    "MI0407",
                    "only -1 counts from the end of a row",
                    at,
                    help="use a column of the data, such as `.end`",
                )
            index = Late("end", span=at)
        select[axis] = index
    order = ["layer", "step", *value.row.axes]
    ordered = tuple((a, select[a]) for a in order if a in select)
    return replace(
        value,
        site=ir.Site(
            value.site.model,
            value.site.name,
            ordered,
            value.site.minus,
            type=SITE,
            span=span,
        ),
    )


def _rows(value: Value, at: Span) -> list[tuple[Value, Span]]:
    """The rows of a relation: a list of records, or of members by name."""
    if not isinstance(value, ListV) or not value.items:
        raise fail(
            "MI0301",
            "`rows:` takes a list of members",
            at,
            label="this list is empty" if isinstance(value, ListV) else f"this is a {value.kind}",
            help='such as `zip(layer: [7, 8], head: [3, 6])`, or `["7.3", "8.6"]`',
        )
    return [(v, at) for v in value.items]


def _coordinates(v: Value, stars: tuple[str, ...], at: Span) -> dict[str, int]:
    """Where a member of a family is, by its name (``"7.3"``) or as a record."""
    if isinstance(v, RecordV):
        found = {f: x.value for f, x in v.fields.items() if isinstance(x, ConstV) and type(x.value) is int}
        if found.keys() == set(stars) == v.fields.keys():
            return found
        raise fail(
            "MI0407",
            "a row does not name a member",
            at,
            label=f"its fields: {', '.join(v.fields)}",
            help=f"its fields are the starred axes, whole numbers: {', '.join(stars) or 'none here'}",
        )
    text = str(v.value) if isinstance(v, ConstV) else ""
    parts = text.split(".")
    if len(parts) != len(stars) or not all(p.isdigit() for p in parts):
        raise fail(
            "MI0407",
            f'"{text}" does not name a member',
            at,
            help=f'members are written {".".join(stars) or "with starred axes"}, such as "7.3"',
        )
    return dict(zip(stars, (int(p) for p in parts), strict=True))


def _members(value: SiteV, items: list[tuple[Value, Span]]) -> SitesV:
    stars = value.stars
    members = []
    for v, at in items:
        chosen = _coordinates(v, stars, at)
        select = []
        for a, i in value.site.select:
            if a in chosen:
                i = ir.Const(_in_range(a, chosen[a], value.model.sizes.get(a), at), span=at)
            select.append((a, i))
        site = ir.Site(value.site.model, value.site.name, tuple(select), type=SITE, span=at)
        members.append(replace(value, site=site))
    return SitesV(tuple(members))


def site_field(value: SiteV, name: str, span: Span) -> Value:
    """``site.model``, and where along an axis a site is: ``h.layer`` of a swept head."""
    if name == "model":
        return value.model
    index = value.site.index(name)
    if isinstance(index, ir.Coord):
        return TensorV(index)
    if isinstance(index, ir.Const) and isinstance(index.value, int):
        return ConstV(index.value)
    single = [a for a, i in value.site.select if isinstance(i, (ir.Coord, ir.Const)) and is_single(i)]
    raise fail(
        "MI0205",
        f"a site has no field `{name}`",
        span,
        label=f"it is at one {', one '.join(single)}" if single else "it is at no single layer or head",
        help=did_you_mean(name, ["model", *single])
        or "`.model`, or an axis along which it is one: `h.layer` of a swept head",
    )


def resolve(site: ir.Site, part: PartV, ctx: Context) -> ir.Site:
    """The site on given data: late-bound columns become columns of that part."""

    def index(i: ir.Node) -> ir.Node:
        if not isinstance(i, Late):
            return i
        column = ctx.column(part, i.name, i.span)
        if column.column_kind not in ("pos", "span"):
            raise fail(
                "MI0407",
                f"`.{i.name}` is a {column.column_kind} column, not a position",
                i.span,
                help="name a column of positions, such as `.end`",
            )
        return column.node

    if site.index("step") is not None:
        raise fail(
            "MI0407",
            "only a rollout has steps",
            site.span,
            label="this run takes one state to the next",
            help="write `run m on d rollout { steps: 8 }`, or leave out `step:`",
        )
    _, pos = ctx.data_axes(part)
    at = site.index("pos")
    number = at.value if isinstance(at, ir.Const) and isinstance(at.value, int) else None
    if number is not None and pos.size is not None and number >= pos.size:
        raise fail(
            "MI0406",
            f"no row has a position {number}",
            site.span,
            label=f"the longest row has {pos.size} tokens",
            help="positions count from 0; a column such as `.end` fits every row",
        )
    minus = tuple(resolve(m, part, ctx) for m in site.minus)
    select = tuple((a, index(i)) for a, i in site.select)
    return ir.Site(site.model, site.name, select, minus, type=SITE, span=site.span)


def slice_type(value: SiteV, site: ir.Site, part: PartV, ctx: Context) -> TensorType:
    """The type of a resolved site's value on given data: sweeps, stars, batch, what is left."""
    batch, pos = ctx.data_axes(part)

    if not value.row.axes:
        raise fail(
            "MI0407",
            "the axes of this module are not known",
            site.span,
            label="they have no names",
            help=f"name them: `site x: Site[batch, pos, d_model] = {value.row.name}`",
        )

    def axis(name: str) -> Axis:
        if name == "pos":
            return pos
        if name == "key_pos":
            return Axis("key_pos", pos.owner, pos.size)
        size = value.model.sizes.get(name)
        return Axis(name, "" if name == "d_state" else value.model.owner, size)  # states are the data's, too

    axes: list[Axis] = []
    for _, i in site.select:
        if isinstance(i, ir.Coord):
            axes += [a for a in i.sweep.axes if a not in axes]
    for name, i in site.select:
        if isinstance(i, ir.Star):
            axes.append(axis(name))
        elif name == "layer" and not is_single(i):
            axes.append(narrowed(axis(name), i))
    rest = [axis(a) if a != "batch" else batch for a in value.row.axes]
    for a in rest:
        i2 = site.index(a.name)
        if i2 is None:
            axes.append(a)
        elif not isinstance(i2, ir.Star) and not is_single(i2):
            axes.append(narrowed(a, i2))
    return TensorType("float", tuple(axes), "logit" if value.row.name == "logits" else None)


def read(run: RunV, value: SiteV, span: Span, ctx: Context) -> TensorV:
    """``r[site]``: the value of a site in a run, after all its edits."""
    check_model(run, value, span)
    if not value.row.readable:
        raise fail(
            "MI0403",
            f"site `{value.row.name}` cannot be read",
            span,
            label=value.row.why or "not readable in this model",
            help="`midsl sites` lists which can be",
        )
    if value.site.minus:
        raise fail(
            "MI0601",
            "not implemented: this at a family without some of its members",
            span,
            help="take the whole family, or sweep over the members that are left",
        )
    site = resolve(value.site, run.part, ctx)
    t = slice_type(value, site, run.part, ctx)
    swept = [a for s in ir.sweeps_of(run.node) for a in s.axes]
    axes = tuple(dict.fromkeys([*swept, *t.axes]))
    names = [a.name for a in axes]
    for n in set(names):
        if names.count(n) > 1:
            raise fail(
                "MI0313",
                f"two axes of this value are called `{n}`",
                span,
                help="name the swept ones apart: `sweep h in z as src`",
            )
    node = ir.Read(run.node, site, type=replace(t, axes=axes), span=span)
    return TensorV(node, value if value.stars else None)


def check_model(run: RunV, value: SiteV, span: Span) -> None:
    """Refuse a site of one model in a run of another (MI0411), unless they share an architecture."""
    if value.model.owner != run.model.owner:
        raise fail(
            "MI0411",
            "this site belongs to another model than the run",
            span,
            label="a site of another model",
            help="bind the site on the model that runs",
        )
