"""Models: by recipe, trained, or with other weights; and weights as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from midsl.ir.base import Node, Opaque


@dataclass(frozen=True, eq=False)
class Model(Node):
    """A model by recipe: `ref` is ``"module:function"`` of its loader, `args` what it is given.

    Argument values are literals, or nodes (a `Model` to start from, a `Data` to read a vocabulary).
    """

    ref: str
    args: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class Train(Opaque):
    """A model got by training `model` on `data`: minimise the scalar `loss`.

    `loss` is an expression over ``Forward(model, data)``; its value is over the rows of one
    minibatch. `options`: optimiser name and settings, steps, batch, seed. An opaque, cached input.
    """

    model: Node
    data: Node
    loss: Node
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class Weight(Node):
    """A weight of a model by its field name (`W_U`, `mlp.W_out`), with the layer where it has one."""

    model: Node
    name: str
    layer: int | None = None


@dataclass(frozen=True, eq=False)
class WeightEdit(Node):
    """What a weight is in a run: `value` has the axes of ``Weight(model, name, layer)``, or some of them.

    `axes` are those of the weight, by name and in order.
    """

    name: str
    layer: int | None
    axes: tuple[str, ...]
    value: Node


@dataclass(frozen=True, eq=False)
class Reweighted(Node):
    """`model` with other weights. It has the architecture, the sites and the tokenizer of `model`."""

    model: Node
    weights: tuple[WeightEdit, ...]


def start_of(model: Node) -> Node:
    """The model that a training or another choice of weights started from: the same but for its weights."""
    while isinstance(model, (Train, Reweighted)):
        model = model.model
    return model
