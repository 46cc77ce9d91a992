"""Values that come straight from the text, the data and the weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from midsl.data.dataset import Part
from midsl.data.spans import span_positions
from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import TensorType
from midsl.ops.index import select
from midsl.ops.named import NT
from midsl.ops.random import draw, permutation
from midsl.oracle.inputs import Inputs, OracleModel
from midsl.oracle.sites import POSITIONS, Point, coordinate


def literal(value: object) -> Tensor:
    """A literal as a scalar: Bool, whole number, or float64."""
    if isinstance(value, bool):
        return torch.tensor(value)
    if isinstance(value, int):
        return torch.tensor(value, dtype=torch.int64)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    raise fail("MI0301", f"{value!r} is no number")


def leaf(inputs: Inputs, node: ir.Column | ir.Member | ir.Weight | ir.Draw, point: Point) -> NT:
    """A column, who has a label of it, a weight or a draw."""
    if isinstance(node, ir.Member):
        return member(inputs.part(node.column.part), node)  # type: ignore[arg-type]
    if isinstance(node, ir.Weight):
        return weight(inputs.model(node.model), node)
    if isinstance(node, ir.Draw):
        return drawn(inputs, node, point)
    return column(inputs.part(node.part), node)  # type: ignore[arg-type]


def drawn(inputs: Inputs, node: ir.Draw, point: Point) -> NT:
    """Random numbers at the coordinates of their axes; positions count from each row's first token."""
    assert isinstance(node.seed, (ir.Coord, ir.Const))
    seed = coordinate(node.seed, point) if isinstance(node.seed, ir.Coord) else node.seed.value
    assert isinstance(seed, int)
    part = inputs.part(node.part) if node.part is not None else None  # type: ignore[arg-type]
    coords: dict[str, np.ndarray] = {}
    for axis, labels in zip(node.axes, node.labels, strict=True):
        if axis.name == "batch":
            assert part is not None
            coords["batch"] = part.examples
        elif axis.name in POSITIONS:
            assert part is not None
            coords[axis.name] = np.arange(part.tokens.shape[1])
        else:
            coords[axis.name] = np.asarray(range(axis.size or 0) if labels is None else labels)
    if node.kind == "permutation":
        groups = None
        if node.within is not None:
            assert part is not None and isinstance(node.within, ir.Column)
            groups = np.unique(np.asarray(part.columns[node.within.name].values), return_inverse=True)[1]
        return NT(torch.as_tensor(permutation(seed, node.stream, coords, "batch", groups)), ("batch",))
    found = NT(torch.as_tensor(draw(node.kind, seed, node.stream, coords)), tuple(coords))
    for axis in node.axes:
        if axis.name in POSITIONS and axis.span:
            assert part is not None
            at = span_positions(part, axis.span)[0].clip(0, part.tokens.shape[1] - 1)
            found = select(found, axis.name, NT(torch.as_tensor(at), ("batch", axis.name)))
    return found


def column(part: Part, node: ir.Column) -> NT:
    """A column as a tensor: ``tokens`` [batch, pos], ``next`` [batch, pos ("predicted")], else [batch].

    A column of states is [batch, d_state].
    """
    if node.name == "tokens":
        return NT(torch.as_tensor(part.tokens), ("batch", "pos"))
    if node.name == "next":
        at, real = span_positions(part, "predicted")
        after = np.take_along_axis(part.tokens, np.where(real, at + 1, 0), axis=1)
        return NT(torch.as_tensor(np.where(real, after, 0)), ("batch", "pos"))
    found = part.columns.get(node.name)
    if found is None:
        raise fail("MI0506", f"the data has no column `{node.name}`", node.span)
    if found.kind in ("span", "label"):
        raise fail("MI0301", f"a {found.kind} column is no number", node.span)
    axes = ("batch", "d_state") if found.kind == "state" else ("batch",)
    return NT(torch.as_tensor(np.asarray(found.values)), axes)


def member(part: Part, node: ir.Member) -> NT:
    """Which rows a column gives a label, or each of the labels that the node's type has."""
    values = list(part.columns[node.column.name].values)
    if node.label is not None:
        return NT(torch.tensor([v == node.label for v in values]), ("batch",))
    group = node.tensor_type.axes[-1]
    assert group.labels is not None
    return NT(torch.tensor([[v == label for label in group.labels] for v in values]), ("batch", group.name))


def weight(model: OracleModel, node: ir.Weight) -> NT:
    """A weight; all layers of it, first axis ``layer``, where the node names none."""
    row = next((w for w in model.info.weights if w.name == node.name), None)
    if row is None:
        raise fail("MI0401", f"the model has no weight `{node.name}`", node.span)
    if not row.per_block or node.layer is not None:
        axes = node.type.names if isinstance(node.type, TensorType) else row.axes
        return NT(model.weight(node.name, node.layer), axes)
    every = [model.weight(node.name, layer) for layer in range(model.info.sizes["layer"])]
    return NT(torch.stack(every), ("layer", *row.axes))
