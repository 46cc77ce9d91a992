"""The sinks of a program: what a spec reports, claims, keeps and shows; all else is for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from midsl.ir.base import Node

if TYPE_CHECKING:
    from midsl.ir.nodes import Sweep


@dataclass(frozen=True, eq=False)
class Report(Node):
    """A result table: one row per point of the sweeps and axes that are left, with n and se.

    `sweeps` are the free sweep variables of the value, in the order they were written: their columns
    come first, then the remaining axes in the order of the value's type (`batch` is column `example`).
    `where` (Bool, of axes that the value has) says which rows there are. `beside` are further key columns, by
    name: what a run finds at each row, along axes that the value has; tokens are told as their text.
    """

    experiment: str
    name: str
    value: Node
    sweeps: tuple[Sweep, ...] = ()
    where: Node | None = None
    beside: tuple[tuple[str, Node], ...] = ()


@dataclass(frozen=True, eq=False)
class Expect(Node):
    """A claim: a Bool scalar; `text` is how it was written."""

    experiment: str
    condition: Node
    message: str
    text: str


@dataclass(frozen=True, eq=False)
class Save(Node):
    """A tensor kept as it is: `value` over its sweeps' axes and its own, as a file of the run."""

    experiment: str
    name: str
    value: Node
    sweeps: tuple[Sweep, ...] = ()

    @property
    def as_report(self) -> Report:
        """The same numbers as a table."""
        return Report(self.experiment, self.name, self.value, self.sweeps, type=self.type, span=self.span)


@dataclass(frozen=True, eq=False)
class View(Node):
    """What is shown with the results and is no table: a part of data, a column of one, or a tensor.

    `text` is how it was written.
    """

    experiment: str
    text: str
    value: Node
    sweeps: tuple[Sweep, ...] = ()

    @property
    def as_report(self) -> Report:
        """The same numbers as a table."""
        return Report(self.experiment, self.text, self.value, self.sweeps, type=self.type, span=self.span)


@dataclass(frozen=True, eq=False)
class Plot(Node):
    """A picture of a report: `kind` and its channels (channel, axis or column name)."""

    experiment: str
    kind: str
    value: Node
    channels: tuple[tuple[str, str], ...] = ()
