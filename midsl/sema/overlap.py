"""Where edits may meet: two absolute writes to one address are refused, and `except` leaves members out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from midsl.diagnostics.model import Label, fail
from midsl.graph.info import ModelInfo
from midsl.ir import nodes as ir
from midsl.sema.values import SiteV
from midsl.source import Span


def check_overlap(edits: list[ir.Edit], info: ModelInfo | None) -> None:
    """Refuse two absolute writes to one address (MI0405); two names of one place are one address."""
    absolute = [x for x in edits if x.absolute]
    for i, a in enumerate(absolute):
        for b in absolute[:i]:
            if a.value == b.value or not may_meet(a.site, b.site, info) or disjoint(a.site, b.site):
                continue
            raise fail(
                "MI0405",
                "two writes set the same place",
                a.span,
                label="this write overlaps an earlier one",
                notes=[Label(b.span, "the other write")],
                help="take one out of the other with `except(family, site)`, or use `self` in one",
            )


def may_meet(a: ir.Site, b: ir.Site, info: ModelInfo | None) -> bool:
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


def disjoint(a: ir.Site, b: ir.Site) -> bool:
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
