"""Gradients in the oracle: by autograd through one run, one entry of the scalar after the other."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ops.named import NT
from midsl.ops.pullback import pull_back
from midsl.ops.reduce import reduce
from midsl.ops.registry import apply_op
from midsl.oracle.inputs import Taken
from midsl.oracle.memo import Memo, OfSelf
from midsl.oracle.sites import Point

if TYPE_CHECKING:
    from midsl.oracle.interp import Oracle


def gradient(oracle: Oracle, node: ir.Grad, point: Point) -> NT:
    """d scalar / d (value of the site after the edits of the run); axes of the scalar's entries first."""
    if oracle.leaf is not None:  # a constant of another gradient's scalar
        return oracle.outside.value(node, point)
    found, sizes, _ = _slopes(oracle, node, point)
    data = torch.stack([x.data for x in found]).reshape(*sizes.values(), *found[0].data.shape)
    return NT(data, (*sizes, *found[0].axes))


def product(oracle: Oracle, node: ir.Jvp, point: Point) -> NT:
    """The gradient of each entry of the value, times the direction: summed over the site, or a row of it."""
    if oracle.leaf is not None:
        return oracle.outside.value(node, point)
    along, seen = oracle.value(node.along, point), node.seen
    found, sizes, rows = _slopes(oracle, node, point)
    made = []
    for slope in found:
        got = oracle.settle(
            [(slope, seen.tensor_type), (along, node.along.tensor_type)], ir.sweeps_of(node), point
        )
        changed = apply_op("mul", got, {})
        real = oracle.rows.real(seen.tensor_type, oracle.rows.usable(seen, point))
        over = [a for a in slope.axes if a not in rows]
        made.append(reduce("sum", changed, over, real))
    data = torch.stack([x.data for x in made]).reshape([*sizes.values(), *made[0].data.shape])
    return NT(data, (*sizes, *made[0].axes))


def _slopes(oracle: Oracle, node: ir.Grad, point: Point) -> tuple[list[NT], dict[str, int], list[str]]:
    """Gradients of the entries, in order; sizes of the axes of entries; axes along which rows do not meet."""
    place = oracle.place(node.site, node.run, point)
    other = copy.copy(oracle)
    other.memo, other.leaf, other.leaf_values = Memo(), oracle.key(node.run, point), None
    other.taken, other.outside = Taken(node, place.addresses()), oracle
    with torch.enable_grad():
        values = other.run(node.run, point)
        scalar = other.value(node.scalar, point)
        wanted = [values[a].data for a in place.addresses()]
        if not scalar.data.requires_grad:
            raise fail("MI0325", "the scalar does not depend on the run", node.span)
        entries = [a.name for a in node.entries]
        rows = [a for a in scalar.axes if a not in entries]  # they do not meet: the sum has each one's own
        whole = scalar.permute_to((*entries, *rows)).data
        whole = whole.flatten(len(entries)).sum(-1) if rows else whole
        found = []
        for at in itertools.product(*map(range, whole.shape)):
            grads = torch.autograd.grad(whole[at], wanted, retain_graph=True, allow_unused=True)
            pairs = zip(place.addresses(), wanted, grads, strict=True)
            found.append(place.read({a: NT(_known(x, g), values[a].axes) for a, x, g in pairs}))
    return found, dict(zip(entries, whole.shape, strict=True)), rows


def _known(x: Tensor, g: Tensor | None) -> Tensor:
    return torch.zeros_like(x) if g is None else g


def pullback(oracle: Oracle, node: ir.Pullback, point: Point) -> NT:
    """A gradient through a map that is no run."""

    def f(x: NT) -> NT:
        other = copy.copy(oracle)
        other.memo, other.of_self, other.given = Memo(), OfSelf(), x
        return other.value(node.of, point)

    at, by = (oracle.value(n, point) for n in (node.at, node.by))
    return pull_back(f, at, by, node.over)
