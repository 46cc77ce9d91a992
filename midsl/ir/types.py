"""Types of the IR: tensors with nominal named axes, and the few other things a value can be.

An axis is a name *and* an owner: `pos` of one data set is not `pos` of another, `d_model` of one
model is not `d_model` of another. Two tensors combine by axis name, and only if owners agree; an
operation is lifted over every axis it does not name. Sizes may be unknown until data is bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["float", "int", "bool", "token"]


@dataclass(frozen=True)
class Axis:
    """A named axis.

    Attributes:
        name: what specs call it and what result columns are called (`layer`, `pos`, `d_head`); swept
            positions are ``pos@variable``, apart from the positions that a run's values still have.
        owner: what it belongs to: a data set's digest (`batch`, `pos`), a model's (`head`), a
            sweep's name, or "" for an axis that anything may share.
        size: length, or None while unknown.
        labels: coordinates, one per index; None means 0..size-1.
        span: for `pos` only: which stretch of the row it covers; "" is the whole row,
            "predicted" the positions that have a next token, else a Span column or a range.
    """

    name: str
    owner: str = ""
    size: int | None = None
    labels: tuple[int | float | str | bool, ...] | None = None
    span: str = ""

    def same_as(self, other: Axis) -> bool:
        """Whether values along the two axes may be combined index by index."""
        return self.name == other.name and self.owner == other.owner and self.span == other.span

    def __str__(self) -> str:
        return self.name.partition("@")[0]


@dataclass(frozen=True)
class TensorType:
    """``Float[layer, batch]<logit>``: kind, axes in order, unit."""

    kind: Kind = "float"
    axes: tuple[Axis, ...] = ()
    unit: str | None = None

    def axis(self, name: str) -> Axis | None:
        """Return the axis of that name, or None."""
        return next((a for a in self.axes if a.name == name), None)

    def without(self, *names: str) -> TensorType:
        """Return this type with the named axes removed."""
        return replace(self, axes=tuple(a for a in self.axes if a.name not in names))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.axes)

    def __str__(self) -> str:
        head = {"float": "Float", "int": "Int", "bool": "Bool", "token": "Token"}[self.kind]
        axes = f"[{', '.join(map(str, self.axes))}]" if self.axes else ""
        return f"{head}{axes}" + (f"<{self.unit}>" if self.unit else "")


@dataclass(frozen=True)
class PlainType:
    """The type of a node that is not a tensor: `Model`, `Data`, `Run`, `Site`, `Edit`, a sink."""

    name: str

    def __str__(self) -> str:
        return self.name.partition("@")[0]


SCALAR = TensorType()
BOOL = TensorType("bool")
INT = TensorType("int")
