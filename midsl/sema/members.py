"""A lens for each member of a family of sites.

A function that takes a `Site` and gives a `Lens` is, given a family there, lifted over its members, as an
operation is over axes that it does not name: there is a lens for each, with parameters and a fit of its own.
What takes `Sites` may make one lens over `joint(sites)` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.sema.values import FamilyV, FnV, SiteV, Value, ViewV
from midsl.source import Span
from midsl.syntax import ast


def each_member(
    func: FnV, args: Mapping[str, Value], make: Callable[[Mapping[str, Value]], Value], span: Span
) -> Value | None:
    """What a function that makes a lens gives for each member of a family; None if it is given none."""
    returns = func.returns
    if not (isinstance(returns, ast.TypeRef) and returns.name in ("Lens", "Basis")):
        return None
    families = {
        p.name: v
        for p in func.params
        if isinstance(p.type, ast.TypeRef) and p.type.name == "Site"
        if isinstance(v := args[p.name], SiteV) and v.stars and not v.joint
    }
    if not families:
        return None
    first = next(iter(families.values()))
    if any(f.stars != first.stars for f in families.values()):
        raise fail(
            "MI0410",
            "these families have other members",
            span,
            label="; ".join(", ".join(f.stars) for f in families.values()),
            help="star the same axes of each",
        )
    star = first.stars[0]
    size = first.model.sizes.get(star)
    if size is None:
        raise fail("MI0402", f"how many of `{star}` there are is not known", span, help="name them in a list")
    made = []
    for i in range(size):
        pinned = {n: _member(f, star, i) for n, f in families.items()}
        here = {**args, **pinned}
        inner = each_member(func, here, make, span)
        made.append(make(here) if inner is None else inner)
    return FamilyV(tuple(made), Axis(star, first.model.owner, size))


def _member(family: SiteV, star: str, i: int) -> SiteV:
    site = family.site
    select = tuple((a, ir.Const(i) if a == star else x) for a, x in site.select)
    return replace(family, site=ir.Site(site.model, site.name, select, type=site.type, span=site.span))


def views_of(family: FamilyV) -> tuple[ViewV, ...]:
    """The places of a family of codes, to edit them all."""
    found: list[ViewV] = []
    for member in family.items:
        if isinstance(member, FamilyV):
            found += views_of(member)
        elif isinstance(member, ViewV):
            found.append(member)
    return tuple(found)
