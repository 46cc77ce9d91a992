"""Sums over swept places inside a run's step: the points of a sweep that an operation binds, as real axes.

Outside of steps a value over all points of a sweep is on the grid. In a step it is needed for each lane,
where a gradient is taken of what goes over swept places itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.ir import nodes as ir
from midsl.ops.index import select
from midsl.ops.named import NT
from midsl.plan.domains import Domains

if TYPE_CHECKING:
    from midsl.plan.evaluate import Env

POINT = "@"
Eval = Callable[[ir.Node, "Env", dict[str, NT]], NT]


def points_as_axes(
    node: ir.Node, env: Env, memo: dict[str, NT], domains: Domains, evaluate: Eval
) -> dict[str, NT]:
    """The memo, with what a node goes over at sweeps that it binds: at all their points, for each lane."""
    assert env.table is not None
    free = {s.digest for s in ir.sweeps_of(node)} | env.digests
    made = dict(memo)
    for child in node.children:
        bound = tuple(s for s in ir.sweeps_of(child) if s.digest not in free)
        if not bound or isinstance(child, ir.Sweep):
            continue
        table, lanes = env.table.extend(bound, domains)
        own = lanes if env.lanes is None else env.lanes[lanes]
        x = evaluate(child, replace(env, table=table, lanes=own, base=None, unswept={}), {})
        if POINT in x.axes:
            x = x.permute_to((POINT, *(a for a in x.axes if a != POINT)))
            sizes = {a: n for s in bound for a, n in zip(*domains.grid(s), strict=True)}
            data = x.data.reshape([env.table.size, *sizes.values(), *x.data.shape[1:]])
            x = NT(data, (POINT, *sizes, *x.axes[1:]))
        made[child.digest] = x
    return made


def at_own_point(value: NT, node: ir.Node, env: Env) -> NT:
    """Of what stands one behind the other along a sweep (`ir.Union`), what belongs to each point of it."""
    if not isinstance(node, ir.Union) or node.sweep.digest not in env.digests:
        return value
    assert env.table is not None
    (axis,) = node.sweep.axes
    at = NT(env.table.index[node.sweep.digest], (POINT,))
    return select(value, axis.name, at) if axis.name in value.axes else value
