"""Runs and edits: `run m on d do { ... }` becomes a `Forward` with resolved, checked edits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import Label, MiError, fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.sema.edges import EdgesV
from midsl.sema.members import views_of
from midsl.sema.overlap import check_overlap, disjoint, may_meet
from midsl.sema.reweigh import reweighted, weights_in
from midsl.sema.sites import check_model, read, resolve, slice_type
from midsl.sema.tensors import as_tensor, unlike
from midsl.sema.values import (
    DataV,
    EditsV,
    EditTemplate,
    FamilyV,
    LensV,
    ModelV,
    PartV,
    Put,
    RolloutV,
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


def elaborate_run(e: Elaborator, node: ast.Run, scope: Scope) -> RunV | RolloutV:
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
    from midsl.sema.states import edited_by_data, rolled

    begins = edited_by_data(e.ctx, model, part, node.data.span)
    if node.rollout is not None and begins:
        return rolled(e, node, node.rollout, scope, model, part)
    if node.rollout is not None:
        from midsl.sema.rollouts import written_on

        part = written_on(e, node, node.rollout, scope, model, part)
    return edited(e, node, scope, model, part, begins)


def edited(
    e: Elaborator,
    node: ast.Run,
    scope: Scope,
    model: ModelV,
    part: PartV,
    begins: tuple[ir.Edit, ...] = (),
    step: tuple[Axis, int] | None = None,
) -> RunV:
    """The run of a model on a part, with the edits that are written, after those that it begins with."""
    from midsl.sema.states import of_step, then

    check_length(e, model, part, node.data.span)
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
            given = of_step(value.edits, step)
            model = reweighted(e, model, given)
            first = ir.Forward(model.node, part.node, begins, 0, type=RUN, span=node.span)
            edits, puts = attach_all(e, given, RunV(first, model, part, step=step))
        except MiError as err:
            raise err.seen_from(node.edits.span, "edited here") from None
    check_overlap(edits, e.ctx.facts.info(model.node))
    edits = [then(x, begins) for x in edits]
    puts = [replace(p, edit=then(p.edit, begins)) for p in puts]
    every = (*begins, *edits)
    forward = ir.Forward(model.node, part.node, every, e.ctx.origin(), type=RUN, span=node.span)
    return RunV(forward, model, part, tuple(puts), to_edges, step)


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
        before = replace(run, node=replace(run.node, edits=(*run.node.edits, *plain, *edits)))
        put = attach_views(e, together, run, before)
        for other in puts:
            a, b = other.edit.site, put.edit.site
            if may_meet(a, b, e.ctx.facts.info(run.model.node)) and not disjoint(a, b):
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


def rows_at_hand(part: PartV, doing: str, span: Span) -> PartV:
    """A part whose rows are there before anything runs: what is fitted is fitted then (MI0601)."""
    if isinstance(part.node.data, ir.Rollout):
        raise fail(
            "MI0601",
            f"not implemented: {doing} rows that a rollout writes",
            span,
            label="these rows are there once the experiment runs",
            help="write them in a spec of its own, keep their text in a file, and take that as data",
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


def _targets(target: Value, span: Span) -> tuple[SiteV | ViewV | EdgesV | TensorV, ...]:
    if isinstance(target, (SiteV, ViewV, EdgesV)):
        return (target,)
    if isinstance(target, TensorV) and (weights := weights_in(target.node)):
        return weights
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
    from midsl.sema.states import at_step

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
    value = at_step(e.ctx, value, run, template.value.span)
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
    check_fit(tensor, t, template.value.span, "site")
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


def _own(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes of an expression, each once, without those inside other runs' edits."""
    seen: set[str] = set()
    stack = [node]
    while stack:
        n = stack.pop()
        if n.digest not in seen:
            seen.add(n.digest)
            yield n
            stack.extend(c for c in n.children if not isinstance(c, (ir.Forward, ir.Sweep)))


def check_fit(value: TensorV, slot: TensorType, span: Span, what: str) -> None:
    """What is written to `what`: a number along the axes of the slot, or of sweeps (MI0408, MI0304)."""
    if value.type.kind == "bool":
        raise fail(
            "MI0408",
            f"a truth value cannot be written to {'an' if what == 'edge' else 'a'} {what}",
            span,
            help="make it a number: `where(x, 1.0, 0.0)`",
        )
    swept = {a for s in ir.sweeps_of(value.node) for a in s.axes}
    for axis in value.type.axes:
        own = slot.axis(axis.name)
        if own is not None and own.same_as(axis) and not unlike(own, axis):
            continue
        if any(axis.same_as(s) for s in swept):
            continue
        if own is None:
            raise fail(
                "MI0408",
                f"the value has an axis `{axis.name}` that the {what} has not",
                span,
                label=f"value: {value.type}; {what}: {slot}",
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
            label=f"{axis.owner[:8] or axis.size} against {own.owner[:8] or own.size}",
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
