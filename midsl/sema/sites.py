"""Models, blocks and sites: finding a site by name, selecting along its axes, meeting a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.graph.info import SiteRow
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.sema.generic import GENERIC_SITES, WEIGHTS
from midsl.sema.tensors import narrowed
from midsl.sema.values import (
    BlocksV,
    ColumnV,
    ConstV,
    Late,
    LateV,
    ListV,
    ModelV,
    ModulesV,
    PartV,
    RangeV,
    RunV,
    SitesV,
    SiteV,
    TensorV,
    TokenizerV,
    Value,
)
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.context import Context

SITE = PlainType("Site")


def rows_of(model: ModelV, ctx: Context) -> tuple[SiteRow, ...]:
    """The site table: the model's own where it is known, else the field's names."""
    info = ctx.facts.info(model.node)
    return info.sites if info else GENERIC_SITES


def model_field(model: ModelV, name: str, span: Span, ctx: Context) -> Value:
    """``m.name``: blocks, the tokenizer, a size, a weight, or a site outside the blocks."""
    if name == "blocks":
        return BlocksV(model)
    if name == "tokenizer":
        return TokenizerV(ir.Tokenizer(model.node, type=PlainType("Tokenizer"), span=span))
    if name in ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "d_vocab", "n_ctx"):
        return _size(model, name, span)
    if name == "module":
        return ModulesV(model)
    if name == "edges":
        raise fail(
            "MI0601", "not implemented: edge families (`m.edges`)", span, help="patch sites instead for now"
        )
    if name in WEIGHTS:
        return weight(model, name, None, span)
    rows = rows_of(model, ctx)
    top = [r for r in rows if not r.per_block]
    row = next((r for r in top if r.name == name), None)
    if row is not None:
        return make_site(model, row, None, span, ctx)
    if any(r.name.startswith(name + ".") for r in top):
        return BlocksV(model, None, name)
    if any(r.per_block and r.name.split(".")[0] == name for r in rows):
        raise fail(
            "MI0401",
            f"`{name}` is inside a block",
            span,
            label="no block is named",
            help=f"write `m.blocks[*].{name}`",
        )
    names = ["blocks", "tokenizer", *[r.name.split(".")[0] for r in top], *WEIGHTS]
    raise fail(
        "MI0401", f"the model has no site `{name}`", span, label="not a site", help=did_you_mean(name, names)
    )


def _size(model: ModelV, name: str, span: Span) -> Value:
    key = {"n_layers": "layer", "n_heads": "head", "d_vocab": "vocab", "n_ctx": "ctx"}.get(name, name)
    if key not in model.sizes:
        raise fail(
            "MI0601",
            f"`{name}` is not known before the model is loaded",
            span,
            help="write the number, or a param",
        )
    return ConstV(model.sizes[key])


def weight(model: ModelV, name: str, layer: int | None, span: Span) -> TensorV:
    """``m.W_U``, ``m.blocks[3].mlp.W_out``: a weight as a tensor."""
    axes = tuple(Axis(a, model.owner, model.sizes.get(a)) for a in WEIGHTS[name])
    return TensorV(ir.Weight(model.node, name, layer, type=TensorType(axes=axes), span=span))


def blocks_field(blocks: BlocksV, name: str, span: Span, ctx: Context) -> Value:
    """A step further down: ``.attn``, ``.z``, ``.mlp.W_out``."""
    path = f"{blocks.path}.{name}" if blocks.path else name
    inside = blocks.path == "" or blocks.layer is not None
    if inside and blocks.layer is None:
        raise fail(
            "MI0401",
            "which blocks?",
            span,
            label="`blocks` needs a selection",
            help=f"write `blocks[*].{name}` or `blocks[3].{name}`",
        )
    rows = [r for r in rows_of(blocks.model, ctx) if r.per_block == inside]
    row = next((r for r in rows if r.name == path), None)
    if row is not None:
        return make_site(blocks.model, row, blocks.layer, span, ctx)
    if path in WEIGHTS:
        if not (isinstance(blocks.layer, ir.Const) and isinstance(blocks.layer.value, int)):
            raise fail(
                "MI0601",
                "not implemented: a weight of several layers at once",
                span,
                help="name one layer: `m.blocks[3]`",
            )
        return weight(blocks.model, path, blocks.layer.value, span)
    if any(r.name.startswith(path + ".") for r in rows) or any(w.startswith(path + ".") for w in WEIGHTS):
        return BlocksV(blocks.model, blocks.layer, path)
    start = blocks.path + "." if blocks.path else ""
    known = [r.name[len(start) :] for r in rows if r.name.startswith(start)]
    tails = [r.name.split(".")[-1] for r in rows]
    help = did_you_mean(name, known) or did_you_mean(name, tails)
    deeper = next((r.name for r in rows if r.name.split(".")[-1] == name), None)
    if deeper:
        help = f"the site is `blocks[..].{deeper}`"
    raise fail(
        "MI0401", f"there is no site `{path}` in a block of this model", span, label="not a site", help=help
    )


def make_site(model: ModelV, row: SiteRow, layer: ir.Node | None, span: Span, ctx: Context) -> SiteV:
    """A site with nothing selected but its layer."""
    if (
        row.per_block
        and row.layers is not None
        and isinstance(layer, ir.Const)
        and layer.value not in row.layers
    ):
        raise fail(
            "MI0401",
            f"block {layer.value} has no site `{row.name}`",
            span,
            help=f"layers that have it: {list(row.layers)}",
        )
    select = (("layer", layer),) if layer is not None else ()
    return SiteV(model, ir.Site(model.node, row.name, select, type=SITE, span=span), row)


def index_blocks(blocks: BlocksV, items: list[tuple[str | None, Value, Span]], span: Span) -> BlocksV:
    """``m.blocks[*]``, ``[3]``, ``[0..4]``, ``[l]``."""
    if blocks.path or blocks.layer is not None:
        raise fail("MI0307", "blocks are selected already", span)
    if len(items) != 1 or items[0][0] not in (None, "layer"):
        raise fail("MI0407", "blocks have one axis, `layer`", span, label="one selection is needed here")
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
            raise fail("MI0402", f"this selects nothing of `{axis}`", span, label="an empty list")
        items = []
        for item in value.items:
            if not (isinstance(item, ConstV) and type(item.value) is int):
                raise fail("MI0301", "a list in a selection holds whole numbers", span)
            items.append(_in_range(axis, item.value, size, span))
        if len(set(items)) < len(items):
            raise fail("MI0405", f"one index of `{axis}` stands twice in the list", span)
        return ir.Const(tuple(items), span=span)
    if isinstance(value, LateV):
        return Late(value.name, span=span)
    if isinstance(value, ColumnV):
        return value.node
    if isinstance(value, TensorV) and isinstance(value.node, ir.Coord):
        return value.node
    raise fail(
        "MI0407",
        f"`{axis}` cannot be selected by a {value.kind}",
        span,
        label=f"this is a {value.kind}",
        help="an index, a range, a list, `*`, a column such as `.end`, or a swept variable",
    )


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
        raise fail("MI0406", f"a negative `{axis}` needs a known size", span)
    return value + size if value < 0 and size is not None else value


def _empty(lo: int | None, hi: int | None, span: Span) -> None:
    if lo is not None and hi is not None and lo >= hi and (lo < 0) == (hi < 0):
        raise fail(
            "MI0402", "this range is empty", span, help="the end of `a..b` is excluded; `a..=b` includes it"
        )


def index_site(value: SiteV, items: list[tuple[str | None, Value, Span]], span: Span) -> Value:
    """``z[head: *, pos: .end]``, ``z["7.3", "7.9"]``."""
    if items and all(
        a is None and isinstance(v, ConstV) and isinstance(v.value, str) and v.value != "*"
        for a, v, _ in items
    ):
        return _members(value, items)
    select = dict(value.site.select)
    allowed = [a for a in value.row.axes if a != "batch"]
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
                help=did_you_mean(axis, allowed),
            )
        if axis in select:
            raise fail("MI0407", f"`{axis}` is selected already", at)
        index = index_node(axis, v, value.model.sizes.get(axis), at)
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
    order = ["layer", *allowed]
    ordered = tuple((a, select[a]) for a in order if a in select)
    return replace(
        value,
        site=ir.Site(
            value.site.model,
            value.site.name,
            ordered,
            value.site.view,
            value.site.view_part,
            value.site.minus,
            type=SITE,
            span=span,
        ),
    )


def _members(value: SiteV, items: list[tuple[str | None, Value, Span]]) -> SitesV:
    stars = value.stars
    members = []
    for _, v, at in items:
        text = str(v.value) if isinstance(v, ConstV) else ""
        parts = text.split(".")
        if len(parts) != len(stars) or not all(p.isdigit() for p in parts):
            raise fail(
                "MI0407",
                f'"{text}" does not name a member',
                at,
                help=f'members are written {".".join(stars) or "with starred axes"}, such as "7.3"',
            )
        chosen = dict(zip(stars, (int(p) for p in parts), strict=True))
        select = []
        for a, i in value.site.select:
            if a in chosen:
                i = ir.Const(_in_range(a, chosen[a], value.model.sizes.get(a), at), span=at)
            select.append((a, i))
        site = ir.Site(value.site.model, value.site.name, tuple(select), type=SITE, span=at)
        members.append(replace(value, site=site))
    return SitesV(tuple(members))


def module_side(modules: ModulesV, side: str, span: Span, ctx: Context) -> SiteV:
    """``m.module["blocks.0.mlp"].output`` / ``.input``: what a module takes or gives."""
    if modules.path is None:
        raise fail("MI0401", "which module?", span, help='write `m.module["path"].output`')
    if side not in ("input", "output"):
        raise fail("MI0401", f"a module has no `{side}`", span, help="write `.input` or `.output`")
    name = f'module["{modules.path}"].{side}'
    info = ctx.facts.info(modules.model.node)
    row = info.site(name) if info else SiteRow(name=name, axes=(), per_block=False, kind="module")
    if row is None:
        assert info is not None
        known = [r.module for r in info.sites if r.name.startswith("module[")]
        why = (
            ""
            if info.engine == "hooks"
            else "module sites belong to the hook engine; this model is exported: use its named sites"
        )
        raise fail(
            "MI0401",
            f'there is no module "{modules.path}" to read here',
            span,
            label=why or "not a module of this model",
            help=did_you_mean(modules.path, known) if known else "`midsl sites` lists what there is",
        )
    return make_site(modules.model, row, None, span, ctx)


def annotated(site: SiteV, axes: tuple[str, ...], span: Span) -> SiteV:
    """``site x: Site[batch, patch, d] = ...``: names for the axes of a module site."""
    if site.row.axes and site.row.axes != axes:
        raise fail(
            "MI0301", "the axes of this site are known", span, label=f"it has {', '.join(site.row.axes)}"
        )
    if not axes or axes[0] != "batch" or len(set(axes)) < len(axes):
        raise fail("MI0302", "the first axis of a site is `batch`, and each has its own name", span)
    return replace(site, row=site.row.model_copy(update={"axes": axes}))


def resolve(site: ir.Site, part: PartV, ctx: Context) -> ir.Site:
    """The site on given data: late-bound columns become columns of that part."""

    def index(i: ir.Node) -> ir.Node:
        if not isinstance(i, Late):
            return i
        column = ctx.column(part, i.name, i.span)
        if column.column_kind not in ("pos", "span"):
            raise fail("MI0407", f"`.{i.name}` is a {column.column_kind} column, not a position", i.span)
        return column.node

    minus = tuple(resolve(m, part, ctx) for m in site.minus)
    select = tuple((a, index(i)) for a, i in site.select)
    return ir.Site(site.model, site.name, select, site.view, site.view_part, minus, type=SITE, span=site.span)


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
        if value.site.view is not None and name not in value.model.sizes:
            return ctx.code_axis(value.site.view, name)
        size = value.model.sizes.get(name)
        return Axis(name, value.model.owner, size)

    axes: list[Axis] = []
    for _, i in site.select:
        if isinstance(i, ir.Coord):
            axes += [a for a in i.sweep.axes if a not in axes]
    for name, i in site.select:
        if isinstance(i, ir.Star):
            axes.append(axis(name))
        elif name == "layer" and not _single(i):
            axes.append(narrowed(axis(name), i))
    rest = [axis(a) if a != "batch" else batch for a in value.row.axes]
    for a in rest:
        i2 = site.index(a.name)
        if i2 is None:
            axes.append(a)
        elif not isinstance(i2, ir.Star) and not _single(i2):
            axes.append(narrowed(a, i2))
    return TensorType("float", tuple(axes), "logit" if value.row.name == "logits" else None)


def _single(index: ir.Node) -> bool:
    if isinstance(index, ir.Column):
        return isinstance(index.type, TensorType)
    return isinstance(index, ir.Coord) or (isinstance(index, ir.Const) and isinstance(index.value, int))


def read(run: RunV, value: SiteV, span: Span, ctx: Context) -> TensorV:
    """``r[site]``: the value of a site in a run, after all its edits."""
    check_model(run, value, span)
    if not value.row.readable:
        raise fail(
            "MI0403",
            f"site `{value.row.name}` cannot be read",
            span,
            label=value.row.why or "not readable in this model",
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
