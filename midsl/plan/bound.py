"""What the planner needs of bound inputs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from midsl.data.dataset import Dataset, Part, Tokenizer
from midsl.graph.hooks import HookModel
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir


class Bound(Protocol):
    """Models and data, ready to run."""

    def engine(self, model: ir.Node) -> ModelGraph | HookModel:
        """The exported graph of a model, or its hook engine where it cannot be exported."""
        ...

    def dataset(self, data: ir.Node) -> Dataset:
        """A data set."""
        ...

    def part(self, node: ir.Part) -> Part:
        """The rows of a part."""
        ...

    def weight(self, model: ir.Node, name: str, layer: int | None) -> Tensor:
        """A weight by field name."""
        ...

    def param(self, node: ir.Param) -> Tensor:
        """A tensor of a decomposition."""
        ...

    def tokenizer(self, model: ir.Node) -> Tokenizer | None:
        """The tokenizer of a model, where it has one."""
        ...
