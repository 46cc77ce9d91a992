"""What an expression needs beyond its own row: other rows of the data, or what arrives at an edited site."""

from __future__ import annotations

import math
from typing import TypeGuard

from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType

_SELF: dict[str, bool] = {}
_SETTLES: dict[str, bool] = {}
FEW = 65_536
"""How many numbers a value may have that is remembered wherever it is used."""


def mixes_rows(node: ir.Node) -> bool:
    """Whether an operation goes across the rows of the data: each result needs more rows than its own."""
    if isinstance(node, ir.Reduce):
        return any(a.name == "batch" for a in node.axes)
    if isinstance(node, ir.Select):
        return node.axis.name == "batch"
    return isinstance(node, ir.Apply) and "batch" in node.over


def goes_along(node: ir.Node) -> set[tuple[str, str]]:
    """The axes that an operation goes along, by name and owner: it needs more than one place of them."""
    axes: tuple[Axis, ...] = ()
    if isinstance(node, ir.Reduce):
        axes = node.axes
    elif isinstance(node, ir.Select):
        axes = (node.axis,)
    elif isinstance(node, ir.Apply):
        axes = tuple(a for c in node.children for a in _axes(c) if a.name in node.over)
    return {(a.name, a.owner) for a in axes}


def crosses_rows(node: ir.Node) -> bool:
    """Whether an operation goes across examples or positions: it needs what stands at others than its own."""
    return any(name in ("batch", "pos", "key_pos") for name, _ in goes_along(node))


def binds(node: ir.Node, digests: frozenset[str]) -> bool:
    """Whether an operation goes over points of sweeps that the lanes are at none of."""
    if not isinstance(node, (ir.Reduce, ir.Select, ir.Apply, ir.Union)):
        return False
    inside = {s.digest for c in node.children for s in ir.sweeps_of(c)}
    return bool(inside - digests - {s.digest for s in ir.sweeps_of(node)}) or isinstance(node, ir.Union)


def _axes(node: ir.Node) -> tuple[Axis, ...]:
    return node.type.axes if isinstance(node.type, TensorType) else ()


def has_self(node: ir.Node) -> bool:
    """Whether an expression mentions `self` (not inside another run's edits)."""
    known = _SELF.get(node.digest)
    if known is None:
        if isinstance(node, ir.Self):
            known = True
        elif isinstance(node, (ir.Forward, ir.Sweep, ir.Read, ir.Grad)):
            known = False
        else:
            known = any(has_self(c) for c in node.children)
        _SELF[node.digest] = known
    return known


def settles(node: ir.Node) -> bool:
    """Whether what is computed has one value for all rows, lanes and edits, and few numbers."""
    known = _SETTLES.get(node.digest)
    if known is None:
        computed = isinstance(node, (ir.Apply, ir.Reduce, ir.Select, ir.Union))
        sizes = [0 if a.size is None else a.size for a in _axes(node)]
        few = 0 < math.prod(sizes) <= FEW and not {"batch", "pos", "key_pos"} & {a.name for a in _axes(node)}
        known = computed and few and not ir.sweeps_of(node) and not has_self(node)
        _SETTLES[node.digest] = known
    return known


def with_self(node: ir.Node, value: ir.Node) -> ir.Node:
    """The expression with a value in the place of `self` (not inside another run's edits)."""
    memo: dict[str, ir.Node] = {}

    def go(n: ir.Node) -> ir.Node:
        if not has_self(n):
            return n
        if isinstance(n, ir.Self):
            return value
        if n.digest not in memo:
            memo[n.digest] = n.map_children(go)
        return memo[n.digest]

    return go(node)


def is_single(index: ir.Node) -> bool:
    """Whether an index takes its axis away: a number, a swept variable, a column with one for each row."""
    if isinstance(index, ir.Column):
        return isinstance(index.type, TensorType)
    return isinstance(index, ir.Coord) or (isinstance(index, ir.Const) and isinstance(index.value, int))


def streams(node: ir.Node) -> TypeGuard[ir.Apply]:
    """Whether a value is found in a pass over all rows and positions, of which little is kept on the way."""
    return isinstance(node, ir.Apply) and node.op == "contexts"


def pass_of(node: ir.Apply) -> str:
    """The digest of the pass that a value is found in: several are told of one."""
    plain = tuple((n, v) for n, v in node.attrs if n != "gives")
    return ir.Apply(node.op, node.args, plain, type=node.type).digest


_READ: dict[str, frozenset[str]] = {}


def runs_read(node: ir.Node) -> frozenset[str]:
    """Digests of the runs that an expression reads itself, not through another run's edits."""
    known = _READ.get(node.digest)
    if known is None:
        if isinstance(node, ir.Read):
            known = frozenset({node.run.digest})
        elif isinstance(node, ir.Grad):
            known = frozenset({node.run.digest}).union(*map(runs_read, node.values))
        elif isinstance(node, (ir.Forward, ir.Sweep, ir.Site, ir.Coord, ir.Part)):
            known = frozenset()
        else:
            known = frozenset().union(*map(runs_read, node.children))
        _READ[node.digest] = known
    return known
