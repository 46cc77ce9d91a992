"""Swept variables: the domains that they walk, where they are, and values along several kinds of places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from midsl.ir.base import Node, Scalar, once
from midsl.ir.types import Axis

if TYPE_CHECKING:
    from midsl.ir.nodes import Site


@dataclass(frozen=True, eq=False)
class Points(Node):
    """An explicit domain: one tuple of coordinates per point."""

    points: tuple[tuple[Scalar, ...], ...]


@dataclass(frozen=True, eq=False)
class Family(Node):
    """The members of a starred site, row-major over its stars; pass `expand_sites` makes it `Points`.

    `sites` is a union: more than one template only if the sweep's axis is ragged.
    """

    sites: tuple[Site, ...]


@dataclass(frozen=True, eq=False)
class Top(Node):
    """A computed domain, which ends a stage: the `k` largest entries of `score`, highest first, ties to the
    lowest coordinates; without `k` those entries of a Bool `score` that are true, in its order.

    The coordinates of a point are those of `score`'s axes: first of those that are named in `first`, in their
    order, then of the others. With `k`, it is so many for each place along the `first` ones.
    """

    score: Node
    k: int | None
    first: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """The names of the score's axes, as coordinates stand."""
        return self.first + tuple(n for n in self.score.tensor_type.names if n not in self.first)


@dataclass(frozen=True, eq=False)
class Sweep(Node):
    """A swept variable.

    Attributes:
        name: the variable (part of the identity: two sweeps over one domain are two variables).
        columns: result columns, one per coordinate, prefix included (``src_layer``).
        axes: one axis per column if the domain is a dense product (row-major), else one ragged axis.
        domain: `Points`, `Family` or `Top`.
    """

    name: str
    columns: tuple[str, ...]
    axes: tuple[Axis, ...]
    domain: Node


@dataclass(frozen=True, eq=False)
class Coord(Node):
    """The `index`-th coordinate of the point that `sweep` is at: a scalar, or an index into a site.

    With a `label`, whether that is the coordinate: Bool.
    """

    sweep: Sweep
    index: int = 0
    label: Scalar = None


@dataclass(frozen=True, eq=False)
class Union(Node):
    """A value along a sweep over several kinds of places, each kind worked out with a sweep of its own.

    The points of `sweep` are those of `kinds`, one after the other; at a point of a kind the value is that of
    its part at the kind's own point. All domains are `Points`, and the sweeps of the kinds are bound here.
    """

    sweep: Sweep
    kinds: tuple[Sweep, ...]
    parts: tuple[Node, ...]

    @once
    def members(self) -> dict[tuple[Scalar, ...], tuple[int, tuple[Scalar, ...]]]:
        """For each point: which kind it is of, and its point there."""
        own = [(i, p) for i, k in enumerate(self.kinds) for p in points_of(k)]
        return dict(zip(points_of(self.sweep), own, strict=True))


def points_of(sweep: Sweep) -> tuple[tuple[Scalar, ...], ...]:
    """The points of a sweep over an explicit domain."""
    assert isinstance(sweep.domain, Points), f"the points of {sweep.name} are not written out"
    return sweep.domain.points
