"""Reading places that are no block of axes: ``r[z["7.3", "7.9"]]``, ``r[except(z, z["0.1"])]``, ``r[z | x]``.

The value lies along one axis, `site`, as it does along a variable that is swept over the same places.
"""

from __future__ import annotations

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.sema.context import Context
from midsl.sema.kinds import one_behind_the_other
from midsl.sema.sites import read
from midsl.sema.sweeps import site_clause
from midsl.sema.values import RunV, SitesV, SiteV, TensorV
from midsl.source import Span

AXIS = "site"


def read_members(run: RunV, places: SiteV | SitesV, span: Span, ctx: Context) -> TensorV:
    """The values at all members of a union, or of a family without some, one behind the other."""
    members = places.members if isinstance(places, SitesV) else (places,)
    left_out = [i for m in members for x in m.site.minus for _, i in x.select]
    if any(isinstance(i, ir.Coord) for i in left_out):
        raise fail(
            "MI0410",
            "what is left out is another member at each point of a sweep",
            span,
            label="so these are other places at each of them",
            help="sweep over those that are left, too: `sweep h in z, g in except(z, h)`, and read `r[g]`",
        )
    clause = site_clause(AXIS, "", members, span)
    if not clause.kinds:
        place = clause.alone.value
        assert isinstance(place, SiteV)
        return read(run, place, span, ctx)
    values = [read(run, k.value, span, ctx) for k in clause.kinds if isinstance(k.value, SiteV)]
    found = one_behind_the_other(values, clause.kinds, clause.sweep, span)
    assert isinstance(found, TensorV)
    return found
