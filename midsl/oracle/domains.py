"""The points that sweeps walk: written out, made from families of sites, or chosen by a score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from midsl.diagnostics.model import fail
from midsl.graph.info import ModelInfo
from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.oracle.inputs import Inputs
from midsl.oracle.sites import Point, chosen_of, coordinate, is_single

Coords = tuple[ir.Scalar, ...]
Points = Sequence[Coords]
Table = tuple[dict[str, list[ir.Scalar]], np.ndarray]


def sweep_along(node: ir.Select) -> ir.Sweep | None:
    """The sweep along whose axis a selection goes, if it goes along one."""
    ids = (node.axis.name, node.axis.owner)
    return next((s for s in ir.sweeps_of(node.arg) if ids in {(a.name, a.owner) for a in s.axes}), None)


class Domains:
    """Points of sweeps; `given` ones are replayed once they are found to be right."""

    def __init__(
        self,
        inputs: Inputs,
        given: Mapping[str, Points],
        tolerance: float,
        table: Callable[[ir.Node, Sequence[ir.Sweep]], Table],
    ) -> None:
        self.inputs, self.given, self.tolerance, self.table = inputs, given, tolerance, table
        self.known: dict[str, Points] = {}

    def points(self, sweep: ir.Sweep) -> Points:
        """Return the points of a sweep in order.

        Raises:
            MiError: MI0901 if points were given that the spec has not, MI0704 for a choice that is
                not the best.
        """
        if sweep.digest not in self.known:
            given = self.given.get(sweep.digest)
            if isinstance(sweep.domain, ir.Top):
                self.known[sweep.digest] = self._top(sweep.domain, given)
            else:
                every = self._members(sweep.domain)
                if given is not None and not set(given) <= set(every):
                    raise fail("MI0901", f"the plan sweeps `{sweep.name}` over points that it has not")
                self.known[sweep.digest] = every if given is None else given
        return self.known[sweep.digest]

    def matching(self, sweep: ir.Sweep, free: Mapping[tuple[str, str], Axis], point: Point) -> Points:
        """Return the points that agree with where a sweep is at, except along the axes `free`.

        Those (by name and owner) range over their labels where the type says which are left.
        """
        now = point.get(sweep.digest)

        def fits(p: Coords) -> bool:
            for i, x in enumerate(p):
                own = axis_of(sweep, i)
                axis = free.get((own.name, own.owner))
                if axis is None:
                    if now is not None and x != now[i]:
                        return False
                elif len(sweep.axes) == len(p) and axis.labels is not None and x not in axis.labels:
                    return False
            return True

        return [p for p in self.points(sweep) if fits(p)]

    def entries(self, sweep: ir.Sweep, axis: Axis, point: Point) -> list[tuple[ir.Scalar, Coords]]:
        """The entries of an axis of a sweep, and the points where they are, all else unchanged.

        An axis of several columns and no labels, as of records, counts its entries.
        """
        columns = [i for i in range(len(sweep.columns)) if axis_of(sweep, i).name == axis.name]
        points = self.matching(sweep, {(axis.name, axis.owner): axis}, point)
        if len(columns) > 1 and axis.labels is None:
            return list(enumerate(points))
        return [(p[columns[0]], p) for p in points]

    def chosen(self, node: ir.Select, point: Point) -> Point | None:
        """Where a selection of one entry along a sweep is; None for any other selection.

        Raises:
            MiError: MI0406 if there is no such entry.
        """
        axis, index = node.axis, node.index
        sweep = sweep_along(node)
        if sweep is None or not isinstance(index, (ir.Const, ir.Coord)) or not is_single(index):
            return None
        label = coordinate(index, point) if isinstance(index, ir.Coord) else index.value
        hit = next((p for x, p in self.entries(sweep, axis, point) if x == label), None)
        if hit is None:
            raise fail("MI0406", f"`{axis.name}` has no entry {label!r}", node.span)
        return {**point, sweep.digest: hit}

    def under(self, node: ir.Reduce | ir.Apply, point: Point) -> Iterator[Point]:
        """Yield the points that a reduction or an operation walks: one, unless it goes along a sweep."""
        if isinstance(node, ir.Reduce):
            axes = node.axes
        else:
            axes = tuple(a for c in node.args for a in c.tensor_type.axes if a.name in node.over)
        gone = {(a.name, a.owner): a for a in axes}
        sweeps = dict.fromkeys(s for c in node.children for s in ir.sweeps_of(c))
        bound = [s for s in sweeps if any((a.name, a.owner) in gone for a in s.axes)]
        for choice in product(*(self.matching(s, gone, point) for s in bound)):
            yield {**point, **{s.digest: p for s, p in zip(bound, choice, strict=True)}}

    def _members(self, domain: ir.Node) -> Points:
        if isinstance(domain, ir.Points):
            return domain.points
        assert isinstance(domain, ir.Family), "a domain is Points, Family or Top"
        return family(domain, self.inputs.model(domain.sites[0].model).info)

    def _top(self, domain: ir.Top, given: Points | None) -> Points:
        """The best `k` by descending score, ties to the lowest coordinates, or all that hold; or the choice

        that was made, if it is right.
        """
        sweeps = ir.sweeps_of(domain.score)
        columns, scores = self.table(domain.score, sweeps)
        own = {(axis_of(s, i).name, c) for s in sweeps for i, c in enumerate(s.columns)}
        # coordinates stand in the order of the score's axes, whatever the order of the table
        names = [c for a in domain.order for c in columns if (a, c) in own or a == c]
        outer = sum((a, c) in own or a == c for a in domain.first for c in columns)
        coords = zip(*(columns[n] for n in names), strict=True)
        known = {c: s for c, s in zip(coords, scores.tolist(), strict=True) if s == s}
        if domain.k is None:  # all at which it is true
            held = [c for c in known if known[c]]
            if given is not None and set(map(tuple, given)) != set(held):
                raise fail("MI0704", "the plan's choice is not where the condition holds", domain.span)
            return held if given is None else given
        places: dict[Coords, list[Coords]] = {}
        for c in known:
            places.setdefault(c[:outer], []).append(c)
        best = [b for p in places.values() for b in sorted(p, key=lambda c: (-known[c], c))[: domain.k]]
        if given is None:
            return best
        slack = self.tolerance * max((abs(s) for s in known.values()), default=0.0)
        pairs = list(zip(best, given, strict=False))
        short = [known[b] - known.get(tuple(c), -np.inf) for b, c in pairs]
        misplaced = any(b[:outer] != tuple(c)[:outer] for b, c in pairs)
        if misplaced or not len(given) == len(set(given)) == len(best) or any(s > slack for s in short):
            raise fail("MI0704", "the plan's choice is not the best one", domain.span)
        return given


def axis_of(sweep: ir.Sweep, column: int) -> Axis:
    """The axis that a coordinate of a sweep lies along; a ragged sweep has one for all."""
    return sweep.axes[column] if len(sweep.axes) == len(sweep.columns) else sweep.axes[0]


def family(node: ir.Family, info: ModelInfo) -> list[Coords]:
    """The members of starred sites, row-major over what is starred or a single number."""
    members: list[Coords] = []
    for site in node.sites:
        named = [(a, i) for a, i in site.select if isinstance(i, ir.Star) or _is_number(i)]
        ranges = [chosen_of(i, {}, _known(site, a, info)) or [] for a, i in named]
        for coords in product(*ranges):
            member = dict(zip((a for a, _ in named), coords, strict=True))
            if not any(_taken(member, site, other, info) for other in site.minus):
                members.append(coords)
    return members


def _is_number(index: ir.Node) -> bool:
    return isinstance(index, ir.Const) and isinstance(index.value, int)


def _known(site: ir.Site, axis: str, info: ModelInfo) -> tuple[int, ...]:
    row = info.site(site.name)
    if axis == "layer" and row is not None and row.layers is not None:
        return row.layers
    if axis not in info.sizes:
        raise fail("MI0601", f"not implemented: one member for each `{axis}`", site.span)
    return tuple(range(info.sizes[axis]))


def _taken(member: dict[str, int], site: ir.Site, other: ir.Site, info: ModelInfo) -> bool:
    """Whether `except` takes a member out: equal wherever both name an index."""
    for axis, theirs in other.select:
        ours = site.index(axis)
        if ours is None or (axis not in member and ours == theirs):
            continue
        if isinstance(theirs, ir.Coord):
            raise fail("MI0601", "not implemented: a family that depends on another sweep", site.span)
        chosen = chosen_of(theirs, {}, _known(site, axis, info)) if axis in member else None
        if chosen is None or member[axis] not in chosen:
            return False
    return other.name == site.name
