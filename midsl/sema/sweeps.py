"""Sweeps: what may be swept, the axes and key columns that it adds, and what the variable stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.sema.clauses import DOMAIN, Clause, Swept, coord
from midsl.sema.comprehend import members
from midsl.sema.dependent import Unit, joint, never, own_names
from midsl.sema.edges import EdgesV
from midsl.sema.expected import need_bool
from midsl.sema.kinds import OfKind, kind_sweep, union_clause
from midsl.sema.lenses import make_lens
from midsl.sema.sweptedges import swept_edges
from midsl.sema.sweptlists import swept_list
from midsl.sema.tensors import apply, as_tensor
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


def elaborate_clause(e: Elaborator, clause: ast.SweepClause, scope: Scope) -> Clause:
    """One clause ``name in source [as prefix]``."""
    source = e.eval(clause.source, scope)
    prefix = f"{clause.prefix}_" if clause.prefix else ""
    span = clause.source.span
    if isinstance(source, SiteV):
        return site_clause(clause.name, prefix, (source,), span)
    if isinstance(source, EdgesV):
        return swept_edges(clause.name, prefix, source, span)
    if isinstance(source, SitesV):
        return site_clause(clause.name, prefix, source.members, span)
    if isinstance(source, ListV) and source.items and all(isinstance(i, SiteV) for i in source.items):
        return site_clause(clause.name, prefix, tuple(i for i in source.items if isinstance(i, SiteV)), span)
    if isinstance(source, ListV):
        return swept_list(clause.name, prefix, source.items, clause.source)
    if isinstance(source, RangeV):
        return swept_list(clause.name, prefix, members(e, clause.source, scope), clause.source)
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


def joint_sweep(e: Elaborator, units: Sequence[Unit], where: ast.Expr, scope: Scope) -> dict[str, Swept]:
    """The variables of sweeps at the points where a condition holds: one sweep for those that it names.

    `scope` has each of them swept on its own. The condition may be known now (`i < j`), or take runs: then
    the points are chosen while running.
    """
    condition = as_tensor(e.eval(where, scope), where.span)
    need_bool(condition, where.span, "`where` is a truth value", "i < j")
    free = ir.sweeps_of(condition.node)
    named = [u for u in units if u.sweep in free]
    order = tuple(a.name for u in named for a in u.sweep.axes)
    left = [a for a in condition.type.names if a not in order]
    if left or not named:
        names = ", ".join(f"`{a}`" for a in left)
        raise fail(
            "MI0301",
            "`where` on a sweep is one truth value for each of its points",
            where.span,
            label=f"this has one for each {names}" if left else "this is the same for all points",
            help=f"reduce it: `mean(x, over: {left[0]})`" if left else "name a swept variable in it",
        )
    domain = ir.Top(condition.node, None, order, type=DOMAIN, span=where.span)
    chosen = Unit(tuple(c for u in named for c in u.clauses), joint(named, (), domain, None), None, never)
    return {n: s for u in (*(u for u in units if u not in named), chosen) for n, s in u.swept.items()}


def _named(value: SiteV) -> list[str]:
    """The axes that tell members apart, and those that say where all are: the columns of a sweep."""
    return [
        a
        for a, i in _domain_of(value).select
        if isinstance(i, ir.Star) or (isinstance(i, ir.Const) and isinstance(i.value, int))
    ]


def _domain_of(value: SiteV) -> ir.Site:
    """A site as a domain walks it; where a row is one state it has no positions to tell apart."""
    site = value.site
    if "d_state" not in value.model.sizes:
        return site
    select = tuple((a, i) for a, i in site.select if a != "pos")
    return ir.Site(site.model, site.name, select, site.minus, type=site.type, span=site.span)


def site_clause(name: str, prefix: str, members: tuple[SiteV, ...], span: Span) -> Clause:
    """The clause that walks places of a model: a family, or a union of families."""
    first = members[0]
    if len({_kind_of(m) for m in members}) > 1:
        return _site_kinds(name, prefix, members, span)
    names = _named(first)
    if not names:
        raise fail(
            "MI0402",
            "this site has no members to sweep over",
            span,
            label="nothing is starred",
            help="star an axis: `m.blocks[*]`, `[head: *]`",
        )
    columns = tuple(prefix + n for n in names)
    dense = len(members) == 1 and not first.site.minus
    axes = (
        tuple(_axis(first, n, prefix, name) for n in names)
        if dense
        else (Axis(prefix + name, f"sweep:{name}"),)
    )
    plain = all(not isinstance(i, ir.Star) for m in members for _, i in m.site.select)
    domain: ir.Node = ir.Family(tuple(map(_domain_of, members)), type=DOMAIN, span=span)
    if plain:
        points = tuple(tuple(m.site.index(n).value for n in names) for m in members)  # type: ignore[union-attr]
        if len(set(points)) < len(points):
            raise fail(
                "MI0405", "one site stands twice in what is swept", span, help="leave one of the two out"
            )
        domain = ir.Points(points, type=DOMAIN, span=span)
        if not dense:
            axes = (replace(axes[0], size=len(points)),)
    starred = (
        {a for m in members for a, i in m.site.select if isinstance(i, ir.Star)} if dense else set(names)
    )

    def member(sweep: ir.Sweep, at: int) -> Value:
        def index(a: str, i: ir.Node) -> ir.Node:
            return coord(sweep, at + names.index(a), "int", span) if a in starred else i

        return at_member(index)

    def at_member(index: Callable[[str, ir.Node], ir.Node]) -> Value:
        site = first.site
        select = tuple((a, index(a, i)) for a, i in site.select)
        return replace(first, site=ir.Site(site.model, site.name, select, type=site.type, span=span))

    def pinned(point: tuple[ir.Scalar, ...]) -> Value:
        where = dict(zip(names, point, strict=True))
        return at_member(lambda a, i: ir.Const(where[a], span=span) if a in where else i)

    def listed() -> list[tuple[ir.Scalar, ...]]:
        return [p for m in members for p in _points(m, span)]

    return Clause(name, columns, axes, domain, member, span, pinned, members=listed)


def _kind_of(value: SiteV) -> tuple[object, ...]:
    """What members must share to be swept as one family: the site, and what is selected alike."""
    named = _named(value)
    return value.site.name, *((a, "" if a in named else i.digest) for a, i in value.site.select)


def _site_kinds(name: str, prefix: str, members: tuple[SiteV, ...], span: Span) -> Clause:
    """``sweep x in m.blocks[*].attn.z[head: *] | m.blocks[*].mlp_out | m.embed``."""
    groups: dict[tuple[object, ...], list[SiteV]] = {}
    for m in members:
        groups.setdefault(_kind_of(m), []).append(m)
    kinds = []
    columns = ["site"]
    for group in groups.values():
        first = group[0]
        names = _named(first)
        columns += [n for n in names if n not in columns]
        points = [p for m in group for p in _points(m, span)]
        sweep = kind_sweep(name, first.site.name, names, points)
        keys = tuple({"site": first.site.name, **dict(zip(names, p, strict=True))} for p in points)
        select = tuple(
            (a, coord(sweep, names.index(a), "int", span) if a in names else i) for a, i in first.site.select
        )
        site = ir.Site(first.site.model, first.site.name, select, type=first.site.type, span=span)
        kinds.append(OfKind(sweep, keys, replace(first, site=site)))
    return union_clause(name, prefix, kinds, columns, span)


def _points(value: SiteV, span: Span) -> list[tuple[ir.Scalar, ...]]:
    """The members of a family, or the one place, by their coordinates."""
    ranges: list[tuple[int, ...]] = []
    for a in _named(value):
        index = value.site.index(a)
        if isinstance(index, ir.Const):
            assert isinstance(index.value, int)
            ranges.append((index.value,))
        elif a == "layer" and value.row.layers is not None:
            ranges.append(value.row.layers)
        elif a in value.model.sizes:
            ranges.append(tuple(range(value.model.sizes[a])))
        else:
            raise fail(
                "MI0402",
                f"how many of `{a}` there are is not known",
                span,
                help="name them, or sweep each kind of site by itself",
            )
    names = _named(value)

    def taken(point: tuple[int, ...], other: ir.Site) -> bool:
        pairs = [(p, other.index(a)) for a, p in zip(names, point, strict=True)]
        return all(i is None or isinstance(i, ir.Star) or i == ir.Const(p) for p, i in pairs)

    if any(isinstance(i, ir.Coord) for m in value.site.minus for _, i in m.select):
        raise fail("MI0601", "not implemented: a family that depends on another sweep", span,
                   help="sweep the whole family, and leave members out by `where`")  # fmt: skip
    return [p for p in product(*ranges) if not any(taken(p, m) for m in value.site.minus)]


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


def _layers(name: str, prefix: str, blocks: BlocksV, span: Span) -> Clause:
    size = blocks.model.sizes.get("layer")
    owner = blocks.model.owner + (f":{prefix}" if prefix else "")
    axis = Axis(prefix + "layer", owner, size, tuple(range(size)) if size is not None else None)
    star = (("layer", ir.Star()),)
    family = ir.Family(
        (ir.Site(blocks.model.node, "resid_pre", star, type=PlainType("Site")),), type=DOMAIN, span=span
    )

    def value(sweep: ir.Sweep, at: int) -> Value:
        return TensorV(coord(sweep, at, "int", span))

    return Clause(name, (prefix + "layer",), (axis,), family, value, span, lambda p: ConstV(p[0]))  # type: ignore[arg-type]


def _lenses(name: str, prefix: str, lenses: LensesV, span: Span) -> Clause:
    labels = tuple(lenses.members)
    axis = Axis(prefix + name, f"sweep:{name}", len(labels), labels)
    points = ir.Points(tuple((x,) for x in labels), type=DOMAIN, span=span)

    def member(sweep: ir.Sweep, at: int) -> Value:
        def whichever(pick: Callable[[LensV], Map]) -> Map:
            def call(x: TensorV) -> TensorV:
                found: TensorV | None = None
                for label, lens in lenses.members.items():
                    value = pick(lens)(x)
                    if found is None:
                        found = value
                        continue
                    here = ir.Coord(sweep, at, label, type=TensorType("bool", sweep.axes), span=span)
                    found = apply("where", (TensorV(here), value, found), span)
                assert found is not None
                return found

            return call

        first = next(iter(lenses.members.values()))
        encode, decode = whichever(lambda m: m.encode), whichever(lambda m: m.decode)
        return make_lens(first.at, first.source, encode, decode, {}, span)

    return Clause(name, (prefix + name,), (axis,), points, member, span)


def _codes(name: str, prefix: str, view: ViewV, span: Span) -> Clause:
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
            raise fail(
                "MI0402",
                f"how many of `{code.name}` there are is not known",
                span,
                help=f"name them: `{code.name}: [0, 1, 2]`",
            )
        chosen = tuple(range(code.size))
    else:
        assert isinstance(index, ir.Const)
        chosen = index.value if isinstance(index.value, tuple) else (index.value,)  # type: ignore[assignment]
    # not the axis that codes still have, as with positions
    own = prefix + code.name if prefix else f"{code.name}@{name}"
    axis = Axis(own, f"sweep:{name}", len(chosen), chosen)
    points = ir.Points(tuple((i,) for i in chosen), type=DOMAIN, span=span)

    def feature(sweep: ir.Sweep, at: int) -> Value:
        return replace(view, index=coord(sweep, at, "int", span))

    return Clause(name, (prefix + code.name,), (axis,), points, feature, span)


def _computed(name: str, prefix: str, top: TopV, span: Span) -> Clause:
    axes = (Axis(prefix + name, f"sweep:{name}", top.node.k),)
    found = top.site
    score = own_names(top.node.score)

    def value(sweep: ir.Sweep, at: int) -> Value:
        if found is None:
            return TensorV(coord(sweep, at, "int", span))
        site = found.site
        select = tuple(
            (a, coord(sweep, at + score.index(a), "int", span) if isinstance(i, ir.Star) else i)
            for a, i in site.select
        )
        return replace(
            found, site=ir.Site(site.model, site.name, select, site.minus, type=site.type, span=span)
        )

    columns = (prefix + name,) if found is None else tuple(prefix + n for n in score)
    return Clause(name, columns, axes, top.node, value, span)
