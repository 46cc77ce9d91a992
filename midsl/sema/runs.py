"""Runs and edits: `run m on d do { ... }` becomes a `Forward` with resolved, checked edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from midsl.diagnostics.model import Label, MiError, fail
from midsl.graph.info import ModelInfo
from midsl.ir import nodes as ir
from midsl.ir.types import PlainType, TensorType
from midsl.sema.edges import EdgesV
from midsl.sema.members import views_of
from midsl.sema.sites import check_model, read, resolve, slice_type
from midsl.sema.tensors import as_tensor
from midsl.sema.values import (
    DataV,
    EditsV,
    EditTemplate,
    FamilyV,
    LensV,
    ModelV,
    PartV,
    Put,
    RunV,
    SitesV,
    SiteV,
    TensorV,
    Value,
    ViewV,
)
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

RUN = PlainType("Run")
EDIT = PlainType("Edit")


def elaborate_run(e: Elaborator, node: ast.Run, scope: Scope) -> RunV:
    """Build the run; its edits are elaborated here, since only now their data is known."""
    model = e.eval(node.model, scope)
    if not isinstance(model, ModelV):
        raise fail(
            "MI0301",
            "`run` needs a model",
            node.model.span,
            label=f"this is a {model.kind}",
            help="such as `run m on d.clean`, the model first",
        )
    data = e.eval(node.data, scope)
    part = as_part(e, data, node.data.span)
    if node.rollout is not None:
        from midsl.sema.rollouts import written_on

        part = written_on(e, node, node.rollout, scope, model, part)
    return edited(e, node, scope, model, part)


def edited(e: Elaborator, node: ast.Run, scope: Scope, model: ModelV, part: PartV) -> RunV:
    """The run of a model on a part, with the edits that are written."""
    check_length(e, model, part, node.data.span)
    bare = RunV(ir.Forward(model.node, part.node, (), 0, type=RUN, span=node.span), model, part)
    edits: list[ir.Edit] = []
    puts: list[Put] = []
    to_edges = False
    if node.edits is not None:
        value = e.eval(node.edits, scope)
        if not isinstance(value, EditsV):
            raise fail(
                "MI0301",
                "`do` needs edits",
                node.edits.span,
                label=f"this is a {value.kind}",
                help="write `do { site := value }`, or what a function of edits gives",
            )
        to_edges = any(isinstance(x.target, EdgesV) for x in value.edits)
        try:
            edits, puts = attach_all(e, value.edits, bare)
        except MiError as err:
            raise err.seen_from(node.edits.span, "edited here") from None
    check_overlap(edits, e.ctx.facts.info(model.node))
    forward = ir.Forward(model.node, part.node, tuple(edits), e.ctx.origin(), type=RUN, span=node.span)
    return RunV(forward, model, part, tuple(puts), to_edges)


def attach_all(
    e: Elaborator, templates: Sequence[EditTemplate], run: RunV
) -> tuple[list[ir.Edit], list[Put]]:
    """The edits of a run: the plain ones in the order written, then one for each lens and place."""
    from midsl.sema.edgeedits import attach_edges
    from midsl.sema.views import attach_views

    edits: list[ir.Edit] = []
    puts: list[Put] = []
    through: dict[tuple[str, ir.Node], list[EditTemplate]] = {}
    for x in templates:
        if isinstance(x.target, ViewV):
            through.setdefault((x.target.lens.key, x.target.at.site), []).append(x)
    plain = [attach(e, x, run) for x in templates if isinstance(x.target, SiteV)]
    to_edges = [x for x in templates if isinstance(x.target, EdgesV)]
    if to_edges and through:
        raise fail(
            "MI0601",
            "not implemented: edits of edges and through a lens in one run",
            to_edges[0].span,
            help="edit the site under the lens, or the edges alone",
        )
    plain += attach_edges(e, to_edges, run, plain)
    for together in sorted(through.values(), key=_depth):
        # a lens that reads elsewhere reads this run, with all edits that come before
        before = replace(run, node=replace(run.node, edits=(*plain, *edits)))
        put = attach_views(e, together, run, before)
        for other in puts:
            a, b = other.edit.site, put.edit.site
            if _may_meet(a, b, e.ctx.facts.info(run.model.node)) and not _disjoint(a, b):
                raise fail(
                    "MI0405",
                    "two codes are set at one place",
                    put.edit.span,
                    label="one lens would undo what the other sets",
                    notes=[Label(other.edit.span, "the other edit")],
                    help="make one lens of both: `stitched(a, b)` of `std.decomp`",
                )
        puts.append(put)
        edits.append(put.edit)
    return [*plain, *edits], puts


def _depth(together: Sequence[EditTemplate]) -> int:
    """The layer that edits through a lens are at, where it is one."""
    target = together[0].target
    assert isinstance(target, ViewV)
    index = target.at.site.index("layer")
    return index.value if isinstance(index, ir.Const) and isinstance(index.value, int) else 0


def check_length(e: Elaborator, model: ModelV, part: PartV, span: Span) -> None:
    """Refuse rows that the model has no positions for (MI0513)."""
    info = e.ctx.facts.info(model.node)
    _, pos = e.ctx.data_axes(part)
    if info is not None and info.max_pos is not None and pos.size is not None and pos.size > info.max_pos:
        raise fail(
            "MI0513",
            f"rows of {pos.size} tokens, and the model takes {info.max_pos}",
            span,
            label=f"its longest row has {pos.size} tokens",
            help="shorten the rows, or take a model with a longer context",
        )


def as_part(e: Elaborator, data: Value, span: Span) -> PartV:
    """What a run can run on: a part, or a data set that has just one side."""
    if isinstance(data, PartV):
        return data
    if isinstance(data, DataV):
        if not data.sides:
            return e.ctx.part(data, "", span)
        raise fail(
            "MI0301",
            "which side of the data?",
            span,
            label=f"it has {', '.join(data.sides)}",
            help=f"write `.{data.sides[0]}` after it",
        )
    raise fail(
        "MI0301",
        "`run ... on` needs data",
        span,
        label=f"this is a {data.kind}",
        help="such as `run m on d.clean`",
    )


def every_row(part: PartV, doing: str, span: Span) -> PartV:
    """A part of which all rows count: a fit, or a change of places, cannot leave any out (MI0323)."""
    if part.node.where is not None:
        raise fail(
            "MI0323",
            f"{doing} rows that a condition chose",
            span,
            label="some rows of this do not count",
            help="use all rows, or a split of them",
        )
    return part


def templates(e: Elaborator, node: ast.Edits, scope: Scope) -> EditsV:
    """``do { a := x, more }`` as a value: targets known, values kept until a run is there."""
    found: list[EditTemplate] = []
    for item in node.items:
        if isinstance(item, ast.Set):
            target = e.eval(item.target, scope)
            for site in _targets(target, item.target.span):
                found.append(EditTemplate(site, item.value, scope, item.span))
        else:
            value = e.eval(item, scope)
            if not isinstance(value, EditsV):
                raise fail(
                    "MI0301",
                    "an item of `do` is an edit",
                    item.span,
                    label=f"this is a {value.kind}",
                    help="write `site := value`",
                )
            found.extend(value.edits)
    return EditsV(tuple(found))


def _targets(target: Value, span: Span) -> tuple[SiteV | ViewV | EdgesV, ...]:
    if isinstance(target, (SiteV, ViewV, EdgesV)):
        return (target,)
    if isinstance(target, SitesV):
        return target.members
    if isinstance(target, FamilyV) and (views := views_of(target)):
        return views
    help = "such as `m.blocks[0].resid_post := 0`"
    if isinstance(target, TensorV):
        help = "a computed value is no place; edit the site it was read from"
    elif isinstance(target, LensV):
        help = "write its code: `lens.code := ...`"
    raise fail("MI0410", "only a site can be edited", span, label=f"this is a {target.kind}", help=help)


def attach(e: Elaborator, template: EditTemplate, run: RunV) -> ir.Edit:
    """One edit on the data of one run: resolve the site, elaborate the value with `self`, check the fit."""
    target = template.target
    assert isinstance(target, SiteV)
    check_model(run, target, template.span)
    check_writable(target, template.span)
    site = resolve(target.site, run.part, e.ctx)
    t = slice_type(target, site, run.part, e.ctx)
    me = ir.Self(type=t, span=template.span)
    outer = e.ctx.swept_self
    e.ctx.swept_self = tuple(a for _, i in site.select if isinstance(i, ir.Coord) for a in i.sweep.axes)
    try:
        value = e.eval(template.value, template.scope.child({"self": TensorV(me)}))
    finally:
        e.ctx.swept_self = outer
    if isinstance(value, RunV):
        whole = replace(target, site=replace(target.site, minus=()))  # what is left out is not written
        tensor = read(value, whole, template.value.span, e.ctx)
    elif isinstance(value, SiteV):
        raise fail(
            "MI0408",
            "a site is a place, not a value",
            template.value.span,
            help="read it from a run: `r[site]`",
        )
    else:
        tensor = as_tensor(value, template.value.span)
    check_fit(tensor, t, template.value.span, "a site")
    if "layer" in target.stars:
        check_layerwise(tensor.node, template.value.span)
    absolute = not any(isinstance(n, ir.Self) for n in _own(tensor.node))
    return ir.Edit(site, tensor.node, absolute, type=EDIT, span=template.span)


def check_writable(target: SiteV, span: Span) -> None:
    """Refuse a site that this model does not let anyone write (MI0404)."""
    if not target.row.writable:
        raise fail(
            "MI0404",
            f"site `{target.row.name}` cannot be written",
            span,
            label=target.row.why or "not writable in this model",
            help="`midsl sites` lists which can be",
        )


def _own(node: ir.Node):  # type: ignore[no-untyped-def]
    """The nodes of an expression without those inside other runs' edits."""
    yield node
    for child in node.children:
        if not isinstance(child, (ir.Forward, ir.Sweep)):
            yield from _own(child)


def check_fit(value: TensorV, slot: TensorType, span: Span, what: str) -> None:
    """What is written to `what`: a number along the axes of the slot, or of sweeps (MI0408, MI0304)."""
    if value.type.kind == "bool":
        raise fail(
            "MI0408",
            f"a truth value cannot be written to {what}",
            span,
            help="make it a number: `where(x, 1.0, 0.0)`",
        )
    swept = {a for s in ir.sweeps_of(value.node) for a in s.axes}
    for axis in value.type.axes:
        own = slot.axis(axis.name)
        if own is not None and own.same_as(axis):
            continue
        if any(axis.same_as(s) for s in swept):
            continue
        if own is None:
            raise fail(
                "MI0408",
                f"the value has an axis `{axis.name}` that the site has not",
                span,
                label=f"value: {value.type}; site: {slot}",
                help=f"reduce it (`mean(x, over: {axis.name})`) or select along it",
            )
        if axis.name in ("batch", "pos"):
            longer = own.owner.startswith(f"{axis.owner}+")  # see `ir.Room`
            raise fail(
                "MI0304",
                f"the value and this run do not share a `{axis.name}` axis",
                span,
                label="the rows of a rollout are longer than their prompts"
                if longer
                else "the value comes from another data set or another stretch",
                help="take both from one paired task, or index both by a position column (`z[pos: .end]`)",
            )
        raise fail(
            "MI0303",
            f"`{axis.name}` of the value is not `{axis.name}` of the site",
            span,
            label=f"{axis.owner[:8]} against {own.owner[:8]}",
            help="take the value from a run of the model that is edited",
        )


def check_layerwise(value: ir.Node, span: Span) -> None:
    """Refuse what mixes `self` across the layers of a joint edit: they are edited one after the other."""
    for node in _own(value):
        over = {a.name for a in node.axes} if isinstance(node, ir.Reduce) else set()
        if isinstance(node, ir.Select):
            over = {node.axis.name}
        if "layer" in over and any(isinstance(n, ir.Self) for n in _own(node)):
            raise fail(
                "MI0408",
                "`self` of one layer cannot use that of another",
                span,
                label="this goes across the layers of a joint edit",
                help="read the layers from another run: `mean(base[site], over: layer)`",
            )


def check_overlap(edits: list[ir.Edit], info: ModelInfo | None) -> None:
    """Refuse two absolute writes to one address (MI0405); two names of one place are one address."""
    absolute = [x for x in edits if x.absolute]
    for i, a in enumerate(absolute):
        for b in absolute[:i]:
            if a.value == b.value or not _may_meet(a.site, b.site, info) or _disjoint(a.site, b.site):
                continue
            raise fail(
                "MI0405",
                "two writes set the same place",
                a.span,
                label="this write overlaps an earlier one",
                notes=[Label(b.span, "the other write")],
                help="take one out of the other with `except(family, site)`, or use `self` in one",
            )


def _may_meet(a: ir.Site, b: ir.Site, info: ModelInfo | None) -> bool:
    """Whether two sites can be one place: `resid_post` of a block is `resid_pre` of the next."""
    if a.name == b.name:
        return True
    return info is not None and bool(_addresses(a, info) & _addresses(b, info))


def _addresses(site: ir.Site, info: ModelInfo) -> set[tuple[str, int | None]]:
    index = site.index("layer")
    if index is None:
        return {info.address(site.name, None)}
    layers: Sequence[object] = range(info.sizes.get("layer", 0))
    if isinstance(index, ir.Const):
        layers = index.value if isinstance(index.value, tuple) else (index.value,)
    return {info.address(site.name, i) for i in layers if isinstance(i, int)}


def _disjoint(a: ir.Site, b: ir.Site) -> bool:
    if any(m.select == b.select for m in a.minus) or any(m.select == a.select for m in b.minus):
        return True
    shared = {n for n, _ in a.select} & {n for n, _ in b.select}
    for axis in shared if a.name == b.name else shared - {"layer"}:
        xs, ys = _indices(a.index(axis)), _indices(b.index(axis))
        if xs is not None and ys is not None and not xs & ys:
            return True
    return False


def _covered(family: SiteV, taken: tuple[SiteV, ...]) -> bool:
    """Whether each member of a family is taken out, as far as that is known before anything runs."""
    site, sizes = family.site, family.model.sizes
    minus = (*site.minus, *(m.site for m in taken))

    def same(m: ir.Site, point: dict[str, int]) -> bool:
        mine = {a: i for a, i in m.select if a in point or site.index(a) is not None}
        return all(
            isinstance(i, ir.Star) or i == (ir.Const(point[a]) if a in point else site.index(a))
            for a, i in mine.items()
        )

    if any(same(m, {a: -1 for a in family.stars}) for m in minus):
        return True
    if any(a not in sizes for a in family.stars):
        return False
    points = product(*(range(sizes[a]) for a in family.stars))
    return all(any(same(m, dict(zip(family.stars, p, strict=True))) for m in minus) for p in points)


def _indices(index: ir.Node | None) -> set[ir.Scalar] | None:
    """The indices that a selection can stand for, where they are known already."""
    if isinstance(index, ir.Const):
        return set(index.value) if isinstance(index.value, tuple) else {index.value}  # type: ignore[arg-type]
    if isinstance(index, ir.Coord) and isinstance(index.sweep.domain, ir.Points):
        return {p[index.index] for p in index.sweep.domain.points}
    return None


def except_(family: SiteV, taken: tuple[SiteV, ...], span: Span) -> SiteV:
    """``except(family, set)``: the family without some members; MI0402 if none is left."""
    site = family.site
    if not family.stars or _covered(family, taken):
        raise fail(
            "MI0402",
            "nothing is left of the family",
            span,
            label="all members are taken out" if family.stars else "this is one place, with no members",
            help='take out some of its members: a swept one, or `z[head: 3]`, or members by name: `z["7.3"]`',
        )
    minus = tuple(m.site for m in taken)
    new = ir.Site(
        site.model,
        site.name,
        site.select,
        (*site.minus, *minus),
        type=site.type,
        span=site.span,
    )
    return replace(family, site=new)
