"""What one clause of a sweep walks, apart from the sweep that it becomes part of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from midsl.ir import nodes as ir
from midsl.ir.types import Axis, Kind, PlainType, TensorType
from midsl.sema.values import Value
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.kinds import OfKind

SWEEP = PlainType("Sweep")
DOMAIN = PlainType("Domain")


@dataclass(frozen=True)
class Swept:
    """A swept variable: the IR of the sweep and the value of its name."""

    sweep: ir.Sweep
    value: Value


@dataclass(frozen=True)
class Clause:
    """What one clause walks, before it is known whether it is a sweep of its own or part of a joint one.

    Attributes:
        columns, axes, domain: as of `ir.Sweep`.
        value: the variable's value in a sweep whose columns from a given one on are this clause's.
        pinned: its value at one point, where it can stand for a literal.
        kinds: those of what it walks, if they are several: each is worked out by itself.
        members: lists the points of a family.
    """

    name: str
    columns: tuple[str, ...]
    axes: tuple[Axis, ...]
    domain: ir.Node
    value: Callable[[ir.Sweep, int], Value]
    span: Span
    pinned: Callable[[tuple[ir.Scalar, ...]], Value] | None = None
    kinds: tuple[OfKind, ...] = ()
    members: Callable[[], Sequence[tuple[ir.Scalar, ...]]] | None = None

    def listed(self) -> Sequence[tuple[ir.Scalar, ...]] | None:
        """The points, where they are known by now, also those of a family that is no block of axes."""
        if self.kinds:
            return None
        return self.points if self.points is not None or self.members is None else self.members()

    @property
    def points(self) -> tuple[tuple[ir.Scalar, ...], ...] | None:
        """The points, where they are known by now and can stand for literals."""
        if self.pinned is None:
            return None
        if isinstance(self.domain, ir.Points):
            return self.domain.points
        if any(a.labels is None for a in self.axes) or len(self.axes) != len(self.columns):
            return None
        return tuple(product(*(a.labels or () for a in self.axes)))

    @property
    def sweep(self) -> ir.Sweep:
        """The sweep over this clause alone."""
        return ir.Sweep(self.name, self.columns, self.axes, self.domain, type=SWEEP, span=self.span)

    @property
    def alone(self) -> Swept:
        """The variable of a sweep over this clause alone."""
        sweep = self.sweep
        return Swept(sweep, self.value(sweep, 0))


def coord(sweep: ir.Sweep, index: int, kind: Kind, span: Span) -> ir.Coord:
    """A coordinate of the point that a sweep is at."""
    return ir.Coord(sweep, index, type=TensorType(kind, sweep.axes), span=span)


def kind_of(value: int | float | str | bool) -> Kind:
    """The kind of a tensor of such literals; texts have none, and are told apart by their labels."""
    return "int" if type(value) is int else "bool" if type(value) is bool else "float"
