"""Which rows of each node a run has to compute: those that its edits can change, and its reads can see.

A row is one (lane, example, position); a set of rows is a bool tensor [lane, batch, pos]. `dirty` goes
forward: what an edit touches, and, after an attention, everything from the first touched key on. `demand`
goes backward: what is read, and, before an attention, everything up to the last query. The rows computed are
dirty and demanded; every other row of a lane is that of the base run. A row that an edit takes whole from
another run's same site is *given*, and so is what follows from it at that row alone: that run has it already.
Between edits and attentions all nodes share one set, which is one object, so planning costs as many set
operations as there are of those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from midsl.graph.rowwise import Rowwise


@dataclass
class Masks:
    """Operations on row sets, each done once; None is the empty set."""

    made: dict[tuple[str, int, int], Tensor | None] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)
    """Everything an `id` in `made` speaks of stays alive."""

    def union(self, a: Tensor | None, b: Tensor | None) -> Tensor | None:
        """Rows in either."""
        if a is None or b is None or a is b:
            return b if a is None else a
        return self._make("or", a, b, torch.logical_or)

    def both(self, a: Tensor | None, b: Tensor | None) -> Tensor | None:
        """Rows in both."""
        if a is None or b is None or a is b:
            return None if a is None or b is None else a
        return self._make("and", a, b, torch.logical_and)

    def minus(self, a: Tensor | None, b: Tensor | None) -> Tensor | None:
        """Rows in the first only."""
        if a is None or b is None:
            return a
        return self._make("minus", a, b, lambda x, y: x & ~y)

    def after(self, a: Tensor | None, real: Tensor) -> Tensor | None:
        """Every real row of an example at or after its first one in `a`."""
        if a is None:
            return None
        return self._make("after", a, real, lambda x, y: (x.cumsum(-1) > 0) & y)

    def before(self, a: Tensor | None, real: Tensor) -> Tensor | None:
        """Every real row of an example at or before its last one in `a`."""
        if a is None:
            return None
        return self._make("before", a, real, lambda x, y: (x.flip(-1).cumsum(-1).flip(-1) > 0) & y)

    def _make(self, name: str, a: Tensor, b: Tensor, f: Callable[[Tensor, Tensor], Tensor]) -> Tensor | None:
        key = (name, id(a), id(b))
        if key not in self.made:
            found = f(a, b)
            if torch.equal(found, a):  # one set is one object, however it came about
                found = a
            elif found.shape == b.shape and torch.equal(found, b):
                found = b
            self.made[key] = found if bool(found.any()) else None
            self.kept += [a, b]
        return self.made[key]


@dataclass(frozen=True)
class EditRows:
    """What the edits at one node do to rows.

    Attributes:
        touched: rows that they write.
        changed: rows that may come out other than the base run's, if what arrives is the base run's.
        whole: rows of which nothing that arrives is left.
        wide: rows of what arrives that must be known for other rows (`self` taken across positions).
        given: rows that become those of the source run, at the same example and position.
    """

    touched: Tensor
    changed: Tensor | None
    whole: Tensor | None
    wide: Tensor | None = None
    given: Tensor | None = None

    def part(self, lanes: Tensor, rows: slice) -> EditRows:
        """The same for some lanes and examples."""
        every = (self.changed, self.whole, self.wide, self.given)
        cut = [None if m is None else m[lanes, rows] for m in every]
        return EditRows(self.touched[lanes, rows], *cut)


@dataclass(frozen=True)
class RowPlan:
    """The rows of each node that are computed, and those that the source run has; other nodes have none."""

    active: Mapping[fx.Node, Tensor]
    given: Mapping[fx.Node, Tensor] = field(default_factory=dict)

    def part(self, lanes: Tensor, rows: slice) -> RowPlan:
        """The plan of some lanes and examples; masks that were one object still are."""
        cut: dict[int, Tensor | None] = {}

        def some(masks: Mapping[fx.Node, Tensor]) -> dict[fx.Node, Tensor]:
            kept = {}
            for node, mask in masks.items():
                if id(mask) not in cut:
                    here = mask[lanes, rows]
                    cut[id(mask)] = here if bool(here.any()) else None
                found = cut[id(mask)]
                if found is not None:
                    kept[node] = found
            return kept

        return RowPlan(some(self.active), some(self.given))

    def distinct(self) -> list[Tensor]:
        """Every mask once."""
        return list({id(m): m for m in self.active.values()}.values())


def operands(node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node]:
    """q, k and v of a fused attention."""
    q, k, v = node.args[:3]
    assert isinstance(q, fx.Node) and isinstance(k, fx.Node) and isinstance(v, fx.Node)
    return q, k, v


def plan_rows(
    nodes: Sequence[fx.Node],
    rowwise: Rowwise,
    real: Tensor,
    start: Mapping[fx.Node, Tensor],
    edits: Mapping[fx.Node, EditRows],
    reads: Mapping[fx.Node, Tensor],
    masks: Masks,
    at_source: Collection[fx.Node] = (),
) -> RowPlan:
    """Decide the rows of every node.

    `real`: the rows there are, [1, batch, pos]; `start`: nodes that are dirty of themselves (the token
    lookup, in a run that has no base); `edits` by edit node; `reads`: by captured node, the rows read;
    `at_source`: nodes that the source run has, too.
    """
    given = _given(nodes, rowwise, edits, masks, at_source) if at_source else {}
    taken: dict[fx.Node, Tensor] = {}
    dirty: dict[fx.Node, Tensor] = {}
    for node in nodes:
        kind = rowwise.kinds.get(node)
        rows: Tensor | None = start.get(node)
        if kind == "edit":
            e = edits[node]
            arrives = masks.minus(dirty.get(node.all_input_nodes[0]), masks.minus(e.whole, e.changed))
            rows = masks.union(arrives, e.changed)
        elif kind == "attention":
            q, k, v = operands(node)
            met = masks.after(masks.union(dirty.get(k), dirty.get(v)), real)
            rows = masks.union(dirty.get(q), met)
        elif kind == "local":
            for a in node.all_input_nodes:
                rows = masks.union(rows, dirty.get(a))
        if rows is not None:
            dirty[node] = rows
    demand: dict[fx.Node, Tensor] = dict(reads)

    def ask(node: fx.Node, rows: Tensor | None) -> None:
        found = masks.union(demand.get(node), rows)
        if found is not None:
            demand[node] = found

    active: dict[fx.Node, Tensor] = {}
    for node in reversed(nodes):
        rows = masks.both(dirty.get(node), demand.get(node))
        found = masks.both(rows, given.get(node))
        if found is not None:
            taken[node] = found
            rows = masks.minus(rows, found)
        if rows is None:
            continue
        active[node] = rows
        kind = rowwise.kinds[node]
        if kind == "edit":
            e = edits[node]
            ask(node.all_input_nodes[0], masks.union(masks.minus(rows, e.whole), e.wide))
        elif kind == "attention":
            q, k, v = operands(node)
            ask(q, rows)
            for a in (k, v):
                ask(a, masks.before(rows, real))
        else:
            for a in node.all_input_nodes:
                ask(a, rows)
    return RowPlan(active, taken)


def _given(
    nodes: Sequence[fx.Node],
    rowwise: Rowwise,
    edits: Mapping[fx.Node, EditRows],
    masks: Masks,
    at_source: Collection[fx.Node],
) -> dict[fx.Node, Tensor]:
    """Rows at which a node has the value that the source run has there."""
    given: dict[fx.Node, Tensor] = {}
    for node in nodes:
        kind = rowwise.kinds.get(node)
        rows: Tensor | None = None
        if kind == "edit":
            e = edits[node]
            rows = masks.union(e.given, masks.minus(given.get(node.all_input_nodes[0]), e.touched))
        elif kind == "local":
            moving = [a for a in node.all_input_nodes if rowwise.kinds.get(a, "static") != "static"]
            rows = given.get(moving[0]) if moving else None
            for a in moving[1:]:
                rows = masks.both(rows, given.get(a))
        if rows is not None and node in at_source:
            given[node] = rows
    return given
