"""What the oracle is given from outside: models lifted to float64, and data.

The protocols keep it apart from the executor and from the way models are loaded, so that the two
sides of a comparison share nothing but the meaning of single operations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from midsl.data.dataset import Part
from midsl.graph.info import ModelInfo
from midsl.ir import nodes as ir
from midsl.ops.named import NT

Address = tuple[str, int | None]
"""A site without its selection: its name, and its layer where it is inside a block."""
Values = Mapping[Address, NT]
"""Whole values of sites in one run; axes as in the site table, ``batch`` first."""
Change = Callable[[NT], NT]
"""What a run does at an address: the arriving whole value in, the whole value that goes on out."""


@dataclass(frozen=True)
class Taken:
    """A gradient that is being taken in a run: which, and the addresses that it is with respect to."""

    grad: ir.Grad
    leaves: tuple[Address, ...]


class OracleModel(Protocol):
    """One model in float64, whole and unsliced."""

    info: ModelInfo

    def run(
        self,
        part: Part,
        edits: Mapping[Address, Change],
        reads: Collection[Address],
        taken: Taken | None = None,
    ) -> Values:
        """Run on a part, with changes in graph order, and return the values read, changes included.

        Where a gradient is `taken`, ``torch.autograd.grad(scalar, value)`` works for any of the values
        returned, by the rules of that gradient.
        """
        ...

    def weight(self, name: str, layer: int | None) -> Tensor:
        """Return a weight in float64; axes as in the weight table."""
        ...

    def with_weights(self, values: Mapping[Address, Tensor]) -> OracleModel:
        """Return the model with other weights; axes as in the weight table."""
        ...


class Inputs(Protocol):
    """Models and data by their IR nodes."""

    def model(self, node: ir.Node) -> OracleModel:
        """Return the model of a `Model` or `Train` node."""
        ...

    def part(self, node: ir.Part) -> Part:
        """Return the rows of a `Part` node."""
        ...

    def param(self, node: ir.Param) -> Tensor:
        """Return a tensor of a decomposition in float64: an input, however it came about."""
        ...
