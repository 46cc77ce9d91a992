"""Sweeps: what may be swept, the axes and key columns that it adds, and what the variable stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, Kind, PlainType, TensorType
from midsl.sema.lenses import make_lens
from midsl.sema.tensors import apply
from midsl.sema.values import (
    BlocksV,
    ConstV,
    LensesV,
    LensV,
    ListV,
    Map,
    RangeV,
    SitesV,
    SiteV,
    TensorV,
    TopV,
    Value,
    ViewV,
)
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

SWEEP = PlainType("Sweep")
DOMAIN = PlainType("Domain")


@dataclass(frozen=True)
class Swept:
    """A swept variable: the IR of the sweep and the value of its name."""

    sweep: ir.Sweep
    value: Value


def elaborate_sweep(e: Elaborator, clause: ast.SweepClause, scope: Scope) -> Swept:
    """One clause ``name in source [as prefix]``."""
    source = e.eval(clause.source, scope)
    prefix = f"{clause.prefix}_" if clause.prefix else ""
    span = clause.source.span
    if isinstance(source, SiteV):
        return _sites(clause.name, prefix, (source,), span)
    if isinstance(source, SitesV):
        return _sites(clause.name, prefix, source.members, span)
    if isinstance(source, ListV) and source.items and all(isinstance(i, SiteV) for i in source.items):
        return _sites(clause.name, prefix, tuple(i for i in source.items if isinstance(i, SiteV)), span)
    if isinstance(source, (ListV, RangeV)):
        return _values(clause.name, prefix, e.members(clause.source, scope), span)
    if isinstance(source, BlocksV) and not source.path and source.layer is None:
        return _layers(clause.name, prefix, source, span)
    if isinstance(source, ViewV):
        return _codes(clause.name, prefix, source, span)
    if isinstance(source, LensesV):
        return _lenses(clause.name, prefix, source, span)
    if isinstance(source, TopV):
        return _computed(clause.name, prefix, source, span)
    raise fail(
        "MI0301",
        "this cannot be swept",
        span,
        label=f"this is a {source.kind}",
        help="sweep over sites (`m.blocks[*].attn.z[head: *]`), a list, a range, or a computed selection",
    )


def _coord(sweep: ir.Sweep, index: int, kind: Kind, span: Span) -> ir.Coord:
    return ir.Coord(sweep, index, type=TensorType(kind, sweep.axes), span=span)


def _named(site: ir.Site) -> list[str]:
    return [
        a
        for a, i in site.select
        if isinstance(i, ir.Star) or (isinstance(i, ir.Const) and isinstance(i.value, int))
    ]


def _sites(name: str, prefix: str, members: tuple[SiteV, ...], span: Span) -> Swept:
    first = members[0]
    names = _named(first.site)
    if not names:
        raise fail(
            "MI0402",
            "this site has no members to sweep over",
            span,
            label="nothing is starred",
            help="star an axis: `m.blocks[*]`, `[head: *]`",
        )
    for m in members[1:]:
        if m.site.name != first.site.name or _named(m.site) != names:
            raise fail(
                "MI0601",
                "not implemented: one sweep over different kinds of sites",
                span,
                help="use one sweep for each",
            )
    columns = tuple(prefix + n for n in names)
    dense = len(members) == 1 and not first.site.minus
    axes = (
        tuple(_axis(first, n, prefix, name) for n in names)
        if dense
        else (Axis(prefix + name, f"sweep:{name}"),)
    )
    plain = all(not isinstance(i, ir.Star) for m in members for _, i in m.site.select)
    domain: ir.Node = ir.Family(tuple(m.site for m in members), type=DOMAIN, span=span)
    if plain:
        points = tuple(tuple(m.site.index(n).value for n in names) for m in members)  # type: ignore[union-attr]
        if len(set(points)) < len(points):
            raise fail("MI0405", "one site stands twice in what is swept", span)
        domain = ir.Points(points, type=DOMAIN, span=span)
        if not dense:
            axes = (replace(axes[0], size=len(points)),)
    sweep = ir.Sweep(name, columns, axes, domain, type=SWEEP, span=span)
    starred = (
        {a for m in members for a, i in m.site.select if isinstance(i, ir.Star)} if dense else set(names)
    )

    def index(a: str, i: ir.Node) -> ir.Node:
        return _coord(sweep, names.index(a), "int", span) if a in starred else i

    select = tuple((a, index(a, i)) for a, i in first.site.select)
    site = ir.Site(
        first.site.model,
        first.site.name,
        select,
        type=first.site.type,
        span=span,
    )
    return Swept(sweep, replace(first, site=site))


def _axis(value: SiteV, name: str, prefix: str, var: str) -> Axis:
    index = value.site.index(name)
    owner = (
        f"sweep:{var}"
        if name in ("pos", "key_pos") or (name not in value.model.sizes and name != "layer")
        else value.model.owner
    )
    if prefix:
        owner = f"{owner}:{prefix}"
    elif name in ("pos", "key_pos"):  # not the positions that a run's values still have
        name = f"{name}@{var}"
    if isinstance(index, ir.Const) and isinstance(index.value, int):
        return Axis(prefix + name, owner, 1, (index.value,))
    size = value.model.sizes.get(name)
    return Axis(prefix + name, owner, size, tuple(range(size)) if size is not None else None)


def _values(name: str, prefix: str, items: tuple[Value, ...], span: Span) -> Swept:
    if not items:
        raise fail("MI0402", "there is nothing to sweep over", span, label="an empty list")
    literals = []
    for item in items:
        if not isinstance(item, ConstV):
            raise fail(
                "MI0301", "a swept list holds literals or sites", span, label=f"it holds a {item.kind}"
            )
        literals.append(item.value)
    kinds = {type(v) for v in literals}
    if kinds == {int, float}:
        literals = [float(v) for v in literals]
    elif len(kinds) > 1:
        raise fail("MI0301", "the items of a swept list are of one type", span)
    if len(set(literals)) < len(literals):
        raise fail("MI0405", "one value stands twice in what is swept", span)
    axis = Axis(prefix + name, f"sweep:{name}", len(literals), tuple(literals))
    points = ir.Points(tuple((v,) for v in literals), type=DOMAIN, span=span)
    sweep = ir.Sweep(name, (prefix + name,), (axis,), points, type=SWEEP, span=span)
    kind: Kind = "int" if type(literals[0]) is int else "bool" if type(literals[0]) is bool else "float"
    return Swept(sweep, TensorV(_coord(sweep, 0, kind, span)))


def _layers(name: str, prefix: str, blocks: BlocksV, span: Span) -> Swept:
    size = blocks.model.sizes.get("layer")
    owner = blocks.model.owner + (f":{prefix}" if prefix else "")
    axis = Axis(prefix + "layer", owner, size, tuple(range(size)) if size is not None else None)
    star = (("layer", ir.Star()),)
    family = ir.Family(
        (ir.Site(blocks.model.node, "resid_pre", star, type=PlainType("Site")),), type=DOMAIN, span=span
    )
    sweep = ir.Sweep(name, (prefix + "layer",), (axis,), family, type=SWEEP, span=span)
    return Swept(sweep, TensorV(_coord(sweep, 0, "int", span)))


def _lenses(name: str, prefix: str, lenses: LensesV, span: Span) -> Swept:
    labels = tuple(lenses.members)
    axis = Axis(prefix + name, f"sweep:{name}", len(labels), labels)
    points = ir.Points(tuple((x,) for x in labels), type=DOMAIN, span=span)
    sweep = ir.Sweep(name, (prefix + name,), (axis,), points, type=SWEEP, span=span)

    def whichever(pick: Callable[[LensV], Map]) -> Map:
        def call(x: TensorV) -> TensorV:
            found: TensorV | None = None
            for label, member in lenses.members.items():
                value = pick(member)(x)
                if found is None:
                    found = value
                    continue
                here = ir.Coord(sweep, 0, label, type=TensorType("bool", sweep.axes), span=span)
                found = apply("where", (TensorV(here), value, found), span)
            assert found is not None
            return found

        return call

    first = next(iter(lenses.members.values()))
    encode, decode = whichever(lambda m: m.encode), whichever(lambda m: m.decode)
    return Swept(sweep, make_lens(first.at, first.source, encode, decode, {}, span))


def _codes(name: str, prefix: str, view: ViewV, span: Span) -> Swept:
    """``sweep f in sae.code[feature: *]``, ``[feature: [3, 5]]``: one feature at a time."""
    code, index = view.lens.code, view.index
    if code is None or index is None or isinstance(index, ir.Coord):
        raise fail(
            "MI0402",
            "this code has no members to sweep over",
            span,
            label="nothing is starred",
            help=f"star its axis: `[{code.name}: *]`" if code is not None else "it is one number",
        )
    chosen: tuple[int, ...]
    if isinstance(index, ir.Star):
        if code.size is None:
            raise fail("MI0402", f"how many of `{code.name}` there are is not known", span)
        chosen = tuple(range(code.size))
    else:
        assert isinstance(index, ir.Const)
        chosen = index.value if isinstance(index.value, tuple) else (index.value,)  # type: ignore[assignment]
    # not the axis that codes still have, as with positions
    own = prefix + code.name if prefix else f"{code.name}@{name}"
    axis = Axis(own, f"sweep:{name}", len(chosen), chosen)
    points = ir.Points(tuple((i,) for i in chosen), type=DOMAIN, span=span)
    sweep = ir.Sweep(name, (prefix + code.name,), (axis,), points, type=SWEEP, span=span)
    return Swept(sweep, replace(view, index=_coord(sweep, 0, "int", span)))


def _computed(name: str, prefix: str, top: TopV, span: Span) -> Swept:
    axis = Axis(prefix + name, f"sweep:{name}", top.node.k)
    if top.site is None:
        sweep = ir.Sweep(name, (prefix + name,), (axis,), top.node, type=SWEEP, span=span)
        return Swept(sweep, TensorV(_coord(sweep, 0, "int", span)))
    score = top.node.score.tensor_type.names
    columns = tuple(prefix + n for n in score)
    sweep = ir.Sweep(name, columns, (axis,), top.node, type=SWEEP, span=span)
    site = top.site.site
    select = tuple(
        (a, _coord(sweep, score.index(a), "int", span) if isinstance(i, ir.Star) else i)
        for a, i in site.select
    )
    point = ir.Site(site.model, site.name, select, site.minus, type=site.type, span=span)
    return Swept(sweep, replace(top.site, site=point))
