"""Which elements are real: padding has no value, and a row may not be usable at a sweep point.

A row is unusable at a point where a run's edit, or a read, names a single position that the row does
not have. Reductions leave such rows out; whatever is computed from them until then counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from midsl.data.dataset import Part
from midsl.data.spans import span_coordinates, span_positions
from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.states import earlier
from midsl.ir.types import Axis, TensorType
from midsl.ops.named import NT, align
from midsl.oracle.inputs import Inputs
from midsl.oracle.sites import POSITIONS, Point, is_single, row_positions

Usable = dict[str, np.ndarray]
"""By owner of a `batch` axis: which of its rows are usable, bool [batch]."""


def span_of(axis: Axis) -> str:
    """The stretch that a position axis covers; a list of positions shows in its labels."""
    return axis.span if axis.labels is None else str(list(axis.labels))


def over_data(axes: Iterable[str]) -> bool:
    """Whether some axis is one of those that padding and unusable rows concern."""
    return any(a in ("batch", *POSITIONS) for a in axes)


class Rows:
    """Validity of elements of values, given the data parts that the sinks mention."""

    def __init__(
        self,
        inputs: Inputs,
        points_under: Callable[[ir.Reduce | ir.Apply, Point], Iterable[Point]],
        chosen: Callable[[ir.Select, Point], Point | None],
        value: Callable[[ir.Node, Point], NT],
    ) -> None:
        self.inputs, self.value = inputs, value
        self.points_under, self.chosen = points_under, chosen
        self.nodes: dict[str, dict[str, ir.Part]] = {}
        self.memo: dict[tuple[str, tuple[object, ...]], Usable] = {}

    def register(self, node: ir.Part) -> None:
        """Make a part known as an owner of axes."""
        self.nodes.setdefault(node.owner, {})[node.digest] = node

    def part(self, owner: str, span: str = "") -> Part | None:
        """The data that an axis belongs to, of the sides the one that has the Span column `span`."""
        sides = [self.inputs.part(n) for n in self.nodes.get(owner, {}).values()]
        return next((p for p in sides if span in p.columns), sides[0] if sides else None)

    def rows_of(self, owner: str) -> str:
        """The owner of the `batch` axis beside a position axis: rows written on are their prompts'."""
        return next((n.rows.owner for n in self.nodes.get(owner, {}).values()), owner)

    def positions(self, axis: Axis) -> Part | None:
        """The data of a position axis, or None for an axis of another sort."""
        return self.part(axis.owner, axis.span) if axis.name in POSITIONS else None

    def labels(self, axis: Axis, size: int) -> list[ir.Scalar]:
        """What a result calls each index of an axis."""
        part = self.positions(axis)
        if part is not None:
            return [int(i) for i in span_coordinates(part, span_of(axis))]
        return list(axis.labels) if axis.labels is not None else list(range(size))

    def real(self, t: TensorType, usable: Usable) -> NT | None:
        """Which elements of a value of this type count, or None if all do."""
        batch = t.axis("batch")
        masks: list[NT] = []
        for axis in t.axes:
            part = self.positions(axis)
            if part is not None:
                real = torch.as_tensor(span_positions(part, span_of(axis))[1])
                masks.append(NT(real, ("batch", axis.name)) if batch else NT(real.any(0), (axis.name,)))
        if batch and batch.owner in usable:
            masks.append(NT(torch.as_tensor(usable[batch.owner]), ("batch",)))
        return both(masks)

    def usable(self, node: ir.Node, point: Point) -> Usable:
        """Which rows a value can be computed for at a point."""
        key = _key(node, point)
        if key not in self.memo:
            for step in earlier(node, lambda r: _key(r, point) in self.memo):
                self.usable(step, point)
            self.memo[key] = self._usable(node, point)
        return self.memo[key]

    def _usable(self, node: ir.Node, point: Point) -> Usable:
        if isinstance(node, (ir.Sweep, ir.Coord, ir.Train, ir.Model, ir.Data)):
            return {}
        if isinstance(node, ir.Part):
            return self._chosen(node)
        if isinstance(node, ir.Reduce):
            return self._reduced(node, point)
        if isinstance(node, ir.Apply) and node.op == "lay_out":  # over all its points, as a sum is
            (arg,) = node.args
            axes = tuple(a for a in arg.tensor_type.axes if a.name in node.over)
            return self._reduced(ir.Reduce("sum", arg, axes, type=node.type), point)
        if isinstance(node, ir.Select) and (entry := self.chosen(node, point)) is not None:
            return self.usable(node.arg, entry)
        if isinstance(node, ir.Union):
            kind, own = node.members[point[node.sweep.digest]]
            return self.usable(node.parts[kind], {**point, node.kinds[kind].digest: own})
        found: Usable = {}
        if isinstance(node, ir.Apply) and node.over:  # along a sweep: rows that all its points have
            for p in self.points_under(node, point):
                for arg in node.args:
                    _and(found, self.usable(arg, p))
            return found
        for child in node.children:
            if not isinstance(child, ir.Site):
                _and(found, self.usable(child, point))
        if isinstance(node, (ir.Read, ir.Grad)):
            self._place(found, node.site, node.run.data, point)
        elif isinstance(node, ir.Forward):
            for edit in node.edits:
                self._place(found, edit.site, node.data, point)
        elif isinstance(node, ir.Select):
            part = self.positions(node.axis)
            if (
                part is not None
                and is_single(node.index)
                and isinstance(node.index, (ir.Const, ir.Coord, ir.Column))
            ):
                at, real = row_positions(node.index, part, point)
                there, covered = span_positions(part, span_of(node.axis))
                inside = ((there == at[:, None]) & covered).any(1)
                _and(found, {self.rows_of(node.axis.owner): real & inside})
        return found

    def _reduced(self, node: ir.Reduce, point: Point) -> Usable:
        """Rows with something left to reduce over; none at all once `batch` is reduced."""
        result: Usable = {}
        for p in self.points_under(node, point):
            at = dict(self.usable(node.arg, p))
            if node.where is not None:
                _and(at, self.usable(node.where, p))
            for owner, rows in at.items():
                result[owner] = result[owner] | rows if owner in result else rows
        gone = {a.owner for a in node.axes if a.name == "batch"}
        return {owner: rows for owner, rows in result.items() if owner not in gone}

    def _chosen(self, node: ir.Part) -> Usable:
        """The rows of a part that count."""
        if node.where is None:
            return {}
        holds = self.value(node.where, {}).data.numpy()
        for rows in self.usable(node.where, {}).values():
            holds = holds & rows
        return {node.owner: holds}

    def _place(self, found: Usable, site: ir.Site, data: ir.Part, point: Point) -> None:
        part = self.inputs.part(data)
        for axis, index in site.select:
            if axis in POSITIONS and is_single(index):
                _, real = row_positions(index, part, point)
                _and(found, {data.rows.owner: real})


def both(masks: Iterable[NT | None]) -> NT | None:
    """The conjunction of masks, None standing for all true."""
    result: NT | None = None
    for mask in masks:
        if mask is not None and result is not None:
            (a, b), axes = align(result, mask)
            result = NT(a & b, axes)
        elif mask is not None:
            result = mask
    return result


def locate(wanted: NT, axis: Axis, part: Part, batch: bool) -> NT:
    """Where along a position axis given row positions stand (0 for those that are not there).

    wanted: int64 row positions; with `batch` the axis is looked up row by row, else by the
    coordinates that all rows share.
    """
    at, real = span_positions(part, span_of(axis))
    if batch:
        table = NT(torch.where(torch.as_tensor(real), torch.as_tensor(at), -1), ("batch", "@there"))
    else:
        table = NT(torch.as_tensor(span_coordinates(part, span_of(axis))), ("@there",))
    (there, want), axes = align(table, wanted)
    hits = NT(there == want, axes)
    dim = hits.dim("@there")
    return NT(hits.data.long().argmax(dim), tuple(a for a in axes if a != "@there"))


def check_covered(wanted: np.ndarray, real: np.ndarray, axis: Axis, part: Part, node: ir.Node) -> None:
    """Refuse to select positions of rows that the value does not cover (MI0406)."""
    there, covered = span_positions(part, span_of(axis))
    inside = ((wanted[:, :, None] == there[:, None, :]) & covered[:, None, :]).any(2)
    if bool((real & ~inside).any()):
        raise fail(
            "MI0406",
            f"the value covers only `{axis.span}` of each row",
            node.span,
            label="some of these positions are outside of it",
            help="select within the stretch that the value covers",
        )


def joined(types: Sequence[TensorType], values: Sequence[NT]) -> TensorType:
    """A type with those axes that values have as axes of their own, not through a sweep."""
    present = {n for x in values for n in x.axes}
    return TensorType(axes=tuple({a.name: a for t in types for a in t.axes if a.name in present}.values()))


def _and(found: Usable, more: Usable) -> None:
    for owner, rows in more.items():
        found[owner] = found[owner] & rows if owner in found else rows


def _key(node: ir.Node, point: Point) -> tuple[str, tuple[object, ...]]:
    return (node.digest, tuple(point.get(s.digest) for s in ir.sweeps_of(node)))
