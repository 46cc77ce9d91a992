"""Directions pushed through a run: what a small step along each of them changes, all over one forward pass.

The pass is made once, on values; beside every value go its changes, one for each direction (`vmap` over
forward derivatives), so that the prompt is never copied. A direction is laid where it belongs in the graph by
the transpose of reading: what a site reads at an entry, a direction at the site writes there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from midsl.ir import nodes as ir
from midsl.ops.named import NT
from midsl.plan.capture import Captured, from_named
from midsl.plan.evaluate import POINT, Env, Evaluator
from midsl.plan.keys import Key
from midsl.plan.lower import Lowered

Scene = Callable[[ir.Node], tuple[Env, dict[str, NT]]]
"""Where an expression is evaluated in a chunk: over the points of its sweeps."""


@dataclass
class Laid:
    """The directions of one node, as changes of nodes of the graph.

    Attributes:
        node: the derivative.
        by: of each key [slots, *shape of the node]; slots are points beside lanes, times directions.
        more: how many points there are to a lane.
        sizes: of the directions' axes.
    """

    node: ir.Jvp
    by: dict[Key, Tensor]
    more: int
    sizes: dict[str, int]


def push(
    nodes: list[ir.Jvp],
    keys: Callable[[ir.Site], list[Key]],
    lowered: Lowered,
    lanes: int,
    run: Callable[[], Captured],
    scene: Callable[[Captured], Scene],
    length: int,
) -> Iterator[tuple[str, NT]]:
    """Yield what each node comes to in a chunk, by digest: "@" first.

    Args:
        keys: the nodes of the graph that a site touches.
        run: runs the chunk, once.
        scene: where to evaluate expressions, given what was captured.
        length: positions of a row.
    """
    evaluator = lowered.evaluator
    empty = Captured(lowered.run_node, {}, evaluator.rows, evaluator.domains)
    laid = [_laid(n, keys(n.site), lowered, lanes, scene(empty)(n)[0], length) for n in nodes]
    every = sorted({k for x in laid for k in x.by}, key=str)
    slots = [next(iter(x.by.values())).shape[0] for x in laid]
    changes = {k: torch.cat([_of(x, k, n, laid) for x, n in zip(laid, slots, strict=True)]) for k in every}
    axes: dict[str, tuple[str, ...]] = {}

    def values(*zeros: Tensor) -> tuple[Tensor, ...]:
        with _pushing(lowered, dict(zip(every, zeros, strict=True))):
            there = scene(run())
            found = []
            for node in nodes:
                env, memo = there(node)
                value = _pointwise(evaluator.eval(node.scalar, env, memo), env)
                axes[node.digest] = value.axes
                found.append(value.data)
            return tuple(found)

    def along(*tangents: Tensor) -> tuple[Tensor, ...]:
        zeros = tuple(torch.zeros_like(t) for t in tangents)
        changed: tuple[Tensor, ...] = torch.func.jvp(values, zeros, tangents)[1]
        return changed

    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():  # the fused kernel has no forward derivative
        changed = torch.func.vmap(along)(*changes.values())
    start = 0
    for x, n, whole in zip(laid, slots, changed, strict=True):
        mine = whole[start : start + n]
        mine = mine.reshape(x.more, -1, *mine.shape[1:])  # [more, directions, lane and point, ..]
        start += n
        own = torch.stack(
            [mine[m, :, m :: x.more] for m in range(x.more)], dim=2
        )  # [directions, lane, point, ..]
        data = own.flatten(1, 2).transpose(0, 1)
        data = data.reshape(data.shape[0], *x.sizes.values(), *data.shape[2:])
        yield x.node.digest, NT(data, (POINT, *x.sizes, *axes[x.node.digest][1:]))


def _of(x: Laid, key: Key, slots: int, laid: list[Laid]) -> Tensor:
    """The changes of one key in the slots of a node: none, where its site does not touch it."""
    if key in x.by:
        return x.by[key]
    like = next(y.by[key] for y in laid if key in y.by)
    return like.new_zeros((slots, *like.shape[1:]))


def _laid(node: ir.Jvp, keys: list[Key], lowered: Lowered, lanes: int, env: Env, length: int) -> Laid:
    """Lay the directions of a node where they belong."""
    evaluator = lowered.evaluator
    assert env.table is not None and isinstance(env.source, Captured)
    rows = env.rows.stop - env.rows.start if env.rows is not None else 0
    known = {POINT: lanes, "batch": rows, "pos": length, "key_pos": length, **lowered.sizes}
    with torch.enable_grad():
        leaves = {
            k: torch.zeros(
                [known[a] for a in (POINT, *lowered.axes[k])], dtype=torch.float64
            ).requires_grad_()
            for k in keys
        }
        named = {k: NT(t, (POINT, *lowered.axes[k])) for k, t in leaves.items()}
        source = replace(env.source, values=named)
        read = _pointwise(source.read(node.site, replace(env, source=source)), env)
    aside = replace(env, source=None, unswept={}, base=None)
    direction = _counted(evaluator, node, evaluator.eval(node.along, aside, {}), aside)
    sizes = {a.name: direction.size(a.name) for a in node.directions}
    points = env.table.size
    at = direction.expand({POINT: points, **sizes, **{a: n for a, n in read.sizes.items() if a != POINT}})
    whole = at.permute_to((*sizes, *read.axes)).data.reshape(math.prod(sizes.values()), *read.data.shape)
    more = points // lanes
    found: dict[Key, list[Tensor]] = {k: [] for k in keys}
    for m in range(more):
        own = (torch.arange(points) % more == m).reshape(-1, *[1] * (read.data.dim() - 1))
        for one in whole:
            back = torch.autograd.grad(
                read.data,
                list(leaves.values()),
                torch.where(own, one, 0.0),
                retain_graph=True,
                allow_unused=True,
            )
            for k, b in zip(keys, back, strict=True):
                named_back = NT(torch.zeros_like(leaves[k]) if b is None else b, named[k].axes)
                found[k].append(from_named(named_back, lowered.nodes[k].layout))
    return Laid(node, {k: torch.stack(f) for k, f in found.items()}, more, sizes)


def _counted(evaluator: Evaluator, node: ir.Jvp, direction: NT, env: Env) -> NT:
    """A direction, with nothing where the site has nothing: padding, and rows that do not count."""
    names = tuple(a for a in node.seen.tensor_type.names if a in ("batch", "pos", "key_pos"))
    mask = evaluator.counted(node.seen, names, env)
    data = direction if direction.data.is_floating_point() else NT(direction.data.double(), direction.axes)
    if mask is None:
        return NT(data.data.double(), data.axes)
    sizes = {**mask.sizes, **data.sizes}
    return NT(torch.where(mask.expand(sizes).data, data.expand(sizes).data.double(), 0.0), tuple(sizes))


def _pointwise(value: NT, env: Env) -> NT:
    """The value with "@" first, with its derivatives."""
    assert env.table is not None
    if POINT not in value.axes:
        return value.expand({POINT: env.table.size, **value.sizes})
    return value.permute_to((POINT, *(a for a in value.axes if a != POINT)))


@contextmanager
def _pushing(lowered: Lowered, by: dict[Key, Tensor]) -> Iterator[None]:
    """While values change along directions."""
    for op in lowered.pushed:
        op.by = by[op.key]
    try:
        yield
    finally:
        for op in lowered.pushed:
            op.by = None
