"""Reading and editing through a lens (the lens law), in terms of the site under it.

A site holds ``decode(code) + error``. Reading the code encodes what is there; writing it keeps the error, so
that the site becomes ``self + decode(new) - decode(old)``, and what was written is read back: a run that sets
a code has just that code, which is not what encoding its site again would give. After elaboration no view is
left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import Label, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.crossing import has_self, with_self
from midsl.ir.types import Axis, TensorType
from midsl.sema import runs, tensors
from midsl.sema.sites import check_model, index_node, index_site, read, resolve, slice_type
from midsl.sema.values import EditTemplate, LensV, Put, RunV, SiteV, TensorV, Value, ViewV
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.context import Context
    from midsl.sema.elaborate import Elaborator


def index_view(view: ViewV, items: list[tuple[str | None, Value, Span]], span: Span) -> ViewV:
    """``sae.code[feature: f, pos: .end]``: along the code, or along the site's own axes."""
    code = view.lens.code
    below: list[tuple[str | None, Value, Span]] = []
    for name, value, at in items:
        if code is None or name != code.name or view.part != "code":
            own = [a for a in view.at.row.axes if a != "batch"][:-1]
            known = own + ([code.name] if code is not None and view.part == "code" else [])
            if name is not None and name not in known:
                raise fail(
                    "MI0302",
                    f"`{name}` cannot be selected of this {view.part}",
                    at,
                    label=f"it has {', '.join(known)}",
                    help=did_you_mean(name, known) or f"select along {', '.join(known)}",
                )
            below.append((name, value, at))
            continue
        if view.index is not None:
            raise fail("MI0407", f"`{name}` is selected already", at, help="select along each axis once")
        index = index_node(name, value, code.size, at)
        if not isinstance(index, (ir.Const, ir.Coord, ir.Star)):
            raise fail(
                "MI0407",
                f"`{name}` cannot be selected by a {value.kind}",
                at,
                help="an index, a list, `*` or a swept variable",
            )
        view = replace(view, index=index)
    if below:
        at_site = index_site(view.at, below, span)
        if not isinstance(at_site, SiteV):
            raise fail(
                "MI0407",
                "a code is at one site",
                span,
                help="select along axes of the site: `sae.code[pos: .end]`",
            )
        view = replace(view, at=at_site)
    return view


def read_view(run: RunV, view: ViewV, span: Span, ctx: Context) -> TensorV:
    """``r[sae.code]``, ``r[sae.error]``: after all edits of the run, those of the lens included."""
    lens = view.lens
    site = resolve(view.at.site, run.part, ctx)
    put = next((p for p in run.puts if p.lens.key == lens.key), None)
    if put is None:
        value = _unedited(run, view, span, ctx)
    else:
        if put.at.select != site.select:
            raise fail(
                "MI0601",
                "not implemented: a code read at other positions than it was set at",
                span,
                label="this run sets the code elsewhere",
                help="read it at the positions that the edit names",
            )
        # what arrived at the edited site: the run without the edit has it there
        others = tuple(x for x in run.node.edits if x != put.edit)
        before = replace(run, node=replace(run.node, edits=others), puts=())
        arrived = read(before, view.at, span, ctx)
        value = TensorV(with_self(put.code if view.part == "code" else put.error, arrived.node))
    return select(value, lens.code, view.index if view.part == "code" else None, span)


def _unedited(run: RunV, view: ViewV, span: Span, ctx: Context) -> TensorV:
    lens = view.lens
    code = lens.encode(read(run, lens.source if lens.source is not None else view.at, span, ctx))
    if view.part == "code":
        return code
    return tensors.apply("sub", (read(run, view.at, span, ctx), lens.decode(code)), span)


def select(value: TensorV, code: Axis | None, index: ir.Node | None, span: Span) -> TensorV:
    """Some of a code; all of it for a star, or where nothing is selected."""
    if index is None or isinstance(index, ir.Star):
        return value
    assert code is not None
    axis = value.type.axis(code.name)
    assert axis is not None
    extra = index.type.axes if isinstance(index, ir.Coord) and isinstance(index.type, TensorType) else ()
    t = tensors.select_type(value.type, axis, index, extra, span)
    return TensorV(ir.Select(value.node, axis, index, type=t, span=span))


def attach_views(e: Elaborator, given: Sequence[EditTemplate], run: RunV, before: RunV) -> Put:
    """All edits of one run through one lens at one place, as one edit of the site.

    `before` is the run with the edits that a lens which reads another site finds done.
    """
    views = [(x, x.target) for x in given if isinstance(x.target, ViewV)]
    first = views[0][1]
    lens, span = first.lens, given[0].span
    check_model(run, first.at, span)
    runs.check_writable(first.at, span)
    site = resolve(first.at.site, run.part, e.ctx)
    me = TensorV(ir.Self(type=slice_type(first.at, site, run.part, e.ctx), span=span))
    seen = me
    if lens.source is not None or lens.at.joint:  # one code of several places: of the run without this edit
        seen = read(before, lens.source if lens.source is not None else first.at, span, e.ctx)
    if lens.source is None:  # a joint lens keeps the error of that run, too
        me = seen
    old = lens.encode(seen)
    error = tensors.apply("sub", (me, lens.decode(old)), span)
    new = old
    for template, view, stacked in _in_order(e, views, old, error, run):
        if view.part == "error":
            error = _value(e, template, view, error, run)
            continue
        here = select(new if stacked else old, lens.code, view.index, template.span)
        new = _put(new, lens, view.index, _value(e, template, view, here, run), template.span)
    kept = all(v.part == "code" for _, v in views)
    if kept:
        change = tensors.apply("sub", (lens.decode(new), lens.decode(old)), span)
        value = tensors.apply("add", (me, change), span)
    else:
        value = tensors.apply("add", (lens.decode(new), error), span)
    edit = ir.Edit(site, value.node, not has_self(value.node), type=runs.EDIT, span=span)
    return Put(lens, site, edit, new.node, error.node)


def _in_order(
    e: Elaborator, views: Sequence[tuple[EditTemplate, ViewV]], old: TensorV, error: TensorV, run: RunV
) -> list[tuple[EditTemplate, ViewV, bool]]:
    """Absolute writes first, then those that use `self`, as everywhere; two absolute ones must not meet."""
    absolute: list[tuple[EditTemplate, ViewV, bool]] = []
    stacked: list[tuple[EditTemplate, ViewV, bool]] = []
    for template, view in views:
        here = select(old, view.lens.code, view.index, template.span) if view.part == "code" else error
        mark = TensorV(ir.Self(type=here.type, span=template.span))
        plain = _value(e, template, view, mark, run)
        if has_self(plain.node):
            stacked.append((template, view, True))
            continue
        for before, other, _ in absolute:
            if other.part == view.part and not _apart(other.index, view.index):
                raise fail(
                    "MI0405",
                    "two writes set the same place",
                    template.span,
                    label="this write overlaps an earlier one",
                    notes=[Label(before.span, "the other write")],
                    help="use `self` in one of them, or write each feature once",
                )
        absolute.append((template, view, False))
    return absolute + stacked


def _apart(a: ir.Node | None, b: ir.Node | None) -> bool:
    if not isinstance(a, ir.Const) or not isinstance(b, ir.Const):
        return False
    xs, ys = ({*(i.value if isinstance(i.value, tuple) else (i.value,))} for i in (a, b))
    return not xs & ys


def _value(e: Elaborator, template: EditTemplate, view: ViewV, here: TensorV, run: RunV) -> TensorV:
    """What an edit writes, with `self` standing for what is there."""
    from midsl.sema.states import at_step

    value = e.eval(template.value, template.scope.child({"self": here}))
    span = template.value.span
    value = at_step(e.ctx, value, run, span)
    if isinstance(value, RunV):
        tensor = read_view(value, view, span, e.ctx)
    else:
        tensor = tensors.as_tensor(value, span)
    runs.check_fit(tensor, here.type, span, "code")
    return tensor


def _put(code: TensorV, lens: LensV, index: ir.Node | None, value: TensorV, span: Span) -> TensorV:
    """The code with some of it replaced."""
    if index is None or isinstance(index, ir.Star):
        yes = tensors.const(True, span)
        return tensors.apply("where", (yes, value, code), span)
    assert lens.code is not None
    name = lens.code.name
    if isinstance(index, ir.Const) and isinstance(index.value, tuple):
        for i in index.value:
            one = value
            axis = value.type.axis(name)
            if axis is not None:
                at = ir.Const(i, span=span)
                t = tensors.select_type(value.type, axis, at, (), span)
                one = TensorV(ir.Select(value.node, axis, at, type=t, span=span))
            code = _put(code, lens, ir.Const(i, span=span), one, span)
        return code
    return tensors.apply("put", (code, TensorV(index), value), span, attrs=(("over", name),))
