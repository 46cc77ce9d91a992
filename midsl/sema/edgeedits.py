"""Reading and writing edges, in terms of the sites at their ends.

To write an edge is to change what one reader reads: its input becomes ``self + new - old``, where `old` is
what the source adds in this very run, and `new` is what is written instead. A reader that loses many edges
gets one edit, and so do all heads of a layer together. Since a source may lie behind other edits of the run,
`old` is read from the run with those edits alone that come before the reader. In the end no edge is left.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import Label, fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.sema import runs, tensors
from midsl.sema.edgegates import laid_out
from midsl.sema.edges import Edge, EdgesV, End, Index, reader, source, stage
from midsl.sema.sites import check_model, read, resolve, slice_type
from midsl.sema.values import EditTemplate, ModelV, RunV, SiteV, TensorV
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.context import Context
    from midsl.sema.elaborate import Elaborator

LAYER, HEAD = "src_layer", "src_head"


def read_edge(run: RunV, edges: EdgesV, span: Span, ctx: Context) -> TensorV:
    """``r[e]``: what the source adds, as it arrives at the reader."""
    if len(edges.members) != 1:
        raise fail(
            "MI0410",
            "a run is read at one edge",
            span,
            label=f"these are {len(edges.members)}",
            help="sweep over them: `sweep e in m.edges`, then `r[e]`",
        )
    if run.edges:
        raise fail(
            "MI0601",
            "not implemented: an edge read in a run that edits edges",
            span,
            help="read it in a run without, or read the reader's input: `r[e.dst]`",
        )
    return contribution(run, edges.model, edges.members[0].src, ctx, span)


def contribution(run: RunV, model: ModelV, end: End, ctx: Context, span: Span) -> TensorV:
    """What one source adds to the stream in a run."""
    return _added(run, source(model, end, ctx, span), ctx, span)


def _added(run: RunV, site: SiteV, ctx: Context, span: Span) -> TensorV:
    """What is added at a site; heads go through the norm behind attention's output, if there is one."""
    value = read(run, site, span, ctx)
    info = ctx.facts.info(run.model.node)
    if site.site.name != "attn.result" or info is None:
        return value
    if info.address("attn_out", 0) == info.address("attn.out", 0):
        return value
    # a norm without a bias multiplies all heads by one factor: that of their sum
    sums = []
    for name in ("attn.out", "attn_out"):
        row = info.site(name)
        assert row is not None
        at = ir.Site(site.site.model, name, site.site.select[:1], type=site.site.type, span=span)
        sums.append(read(run, SiteV(run.model, at, row), span, ctx))
    out, after = sums
    nothing = tensors.apply("eq", (out, tensors.const(0.0)), span, kind="bool")
    share = tensors.apply("div", (after, out), span)
    share = tensors.apply("where", (nothing, tensors.const(0.0), share), span)
    return tensors.apply("mul", (value, share), span)


@dataclass(frozen=True)
class _Written:
    """Edges that one statement writes, to the heads of one layer or to one other reader."""

    template: EditTemplate
    edges: tuple[Edge, ...]

    @property
    def target(self) -> EdgesV:
        assert isinstance(self.template.target, EdgesV)
        return self.template.target


def attach_edges(
    e: Elaborator, given: Sequence[EditTemplate], run: RunV, plain: Sequence[ir.Edit]
) -> list[ir.Edit]:
    """The edits of the readers that edges are written to, first readers first."""
    _check_twice(given)
    at: dict[tuple[int, str, object], list[_Written]] = {}
    for x in given:
        assert isinstance(x.target, EdgesV)
        model = x.target.model
        groups: dict[tuple[int, str, object], list[Edge]] = {}
        for edge in x.target.members:
            when = 0 if edge.swept else stage(edge, e.ctx, model)
            groups.setdefault((when, edge.dst.kind, edge.dst if edge.swept else edge.dst.layer), []).append(
                edge
            )
        for key, edges in groups.items():
            at.setdefault(key, []).append(_Written(x, tuple(edges)))
    edits: list[ir.Edit] = []
    for when in sorted({key[0] for key in at}):
        before = replace(run, node=replace(run.node, edits=(*plain, *edits)))
        edits += [_attach(e, run, before, ws) for key, ws in at.items() if key[0] == when]
    return edits


def _check_twice(given: Sequence[EditTemplate]) -> None:
    """Refuse an edge that two statements write (MI0405), or may: a swept one beside others."""
    seen: dict[Edge, EditTemplate] = {}
    for x in given:
        assert isinstance(x.target, EdgesV)
        for edge in x.target.members:
            known = seen.get(edge)
            if known is None and edge.swept:
                known = next((o for o in given if o is not x), None)
            if known is not None:
                raise fail(
                    "MI0405",
                    "two writes set the same edge" if edge in seen else "two writes may set the same edge",
                    x.span,
                    label="this write overlaps an earlier one",
                    notes=[Label(known.span, "the other write")],
                    help="write each edge once: take one out of the other with `except(edges, circuit)`",
                )
            seen[edge] = x


def _attach(e: Elaborator, run: RunV, before: RunV, written: Sequence[_Written]) -> ir.Edit:
    """One edit of a reader, or of all heads of a layer."""
    template, first = written[0].template, written[0].edges[0]
    assert isinstance(template.target, EdgesV)
    end = first.dst if first.swept else replace(first.dst, head=None)
    span = template.span
    target = reader(template.target.model, end, e.ctx, span)
    check_model(run, target, span)
    runs.check_writable(target, span)
    site = resolve(target.site, run.part, e.ctx)
    slot = slice_type(target, site, run.part, e.ctx)
    value = TensorV(ir.Self(type=slot, span=span))
    for w in written:
        for change in _changes(e, before, w):
            value = tensors.apply("add", (value, change), span)
    return ir.Edit(site, value.node, False, type=runs.EDIT, span=span)


def _changes(e: Elaborator, before: RunV, w: _Written) -> list[TensorV]:
    """What the edges of a statement change at their reader: new minus old, over the sources of each kind."""
    kinds: dict[str, list[Edge]] = {}
    for x in w.edges:
        kinds.setdefault(x.src.kind, []).append(x)
    found = []
    model, span = w.target.model, w.template.span
    for kind, edges in kinds.items():
        if edges[0].swept or edges[0].src.layer is None:
            change = _change(e, w.template, before, source(model, edges[0].src, e.ctx, span), {})
            found.append(change if edges[0].swept else _summed(change, edges, {}, w.target, span))
            continue
        layers = sorted({x.src.layer for x in edges if isinstance(x.src.layer, int)})
        site = source(model, End(kind), e.ctx, span)
        select = (("layer", ir.Const(tuple(layers))),)
        site = replace(site, site=replace(site.site, select=select))
        names = {"layer": LAYER, "head": HEAD} if kind == "head" else {"layer": LAYER}
        change = _change(e, w.template, before, site, names)
        members: dict[str, list[int]] = {LAYER: layers}
        if kind == "head":
            members[HEAD] = list(range(model.sizes["head"]))
        found.append(_summed(change, edges, members, w.target, span))
    return found


def _change(
    e: Elaborator, template: EditTemplate, before: RunV, site: SiteV, names: dict[str, str]
) -> TensorV:
    """New minus old at sources, their axes under names of their own."""
    span = template.value.span
    old = _added(before, site, e.ctx, span)
    value = e.eval(template.value, template.scope.child({"self": old}))
    if isinstance(value, RunV):
        check_model(value, site, span)
        new = _added(value, site, e.ctx, span)
    else:
        new = tensors.as_tensor(value, span)
    runs.check_fit(new, old.type, span, "edge")
    change = tensors.apply("sub", (new, old), span)
    for name, other in names.items():
        axis = change.type.axis(name)
        assert axis is not None
        axes = tuple(replace(a, name=other) if a is axis else a for a in change.type.axes)
        attrs = (("old", name), ("new", other))
        t = replace(change.type, axes=axes)
        change = TensorV(ir.Apply("rename", (change.node,), attrs, type=t, span=span))
    return change


def _summed(
    change: TensorV, edges: Sequence[Edge], members: dict[str, list[int]], of: EdgesV, span: Span
) -> TensorV:
    """The changes summed over the sources that each reading head has; for one reader over those it has.

    members: the coordinates along each axis of the sources. Where the set that is written says how far each
    of its edges goes, a change counts so much.
    """
    model = of.model
    heads = model.sizes["head"] if edges[0].dst.head is not None else None
    wanted = {_coordinates(x, members): x for x in edges}
    axes = [(a, c) for n, c in members.items() if (a := change.type.axis(n)) is not None]
    every = 1 if heads is None else heads
    for c in members.values():
        every *= len(c)
    over = tuple(members)
    if len(wanted) == every and of.by is None:
        return tensors.reduce("sum", change, over, span) if over else change
    if heads is not None:
        axes.append((Axis("head", model.owner, heads), list(range(heads))))
    mask = _mask(axes, wanted, (), span) if of.by is None else laid_out(of.by, axes, wanted, span)
    if not over:
        return tensors.apply("mul", (change, mask), span)
    names = over[0] if len(over) == 1 else over
    return tensors.apply("dot", (change, mask), span, attrs=(("over", names),), drop=over)


def _coordinates(edge: Edge, members: Collection[str]) -> tuple[Index, ...]:
    """Where in a mask an edge stands: the coordinates of its source, then the head that reads."""
    src = {LAYER: edge.src.layer, HEAD: edge.src.head}
    reads = () if edge.dst.head is None else (edge.dst.head,)
    return (*(src[n] for n in members), *reads)


def _mask(
    axes: Sequence[tuple[Axis, Sequence[int]]],
    wanted: Collection[tuple[Index, ...]],
    at: tuple[int, ...],
    span: Span,
) -> TensorV:
    """1 at the coordinates that are wanted, else 0."""
    if not axes:
        return tensors.const(float(at in wanted), span)
    (axis, places), *rest = axes
    return tensors.stack([_mask(rest, wanted, (*at, i), span) for i in places], axis, span)
