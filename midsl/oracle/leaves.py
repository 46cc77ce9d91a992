"""Values that come straight from the text, the data and the weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from midsl.data.dataset import Part
from midsl.data.spans import span_positions
from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ops.named import NT
from midsl.oracle.inputs import OracleModel


def literal(value: object) -> Tensor:
    """A literal as a scalar: Bool, whole number, or float64."""
    if isinstance(value, bool):
        return torch.tensor(value)
    if isinstance(value, int):
        return torch.tensor(value, dtype=torch.int64)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    raise fail("MI0301", f"{value!r} is no number")


def column(part: Part, node: ir.Column) -> NT:
    """A column as a tensor: ``tokens`` [batch, pos], ``next`` [batch, pos ("predicted")], else [batch]."""
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
    return NT(torch.as_tensor(np.asarray(found.values)), ("batch",))


def weight(model: OracleModel, node: ir.Weight) -> NT:
    """A weight; all layers of it, first axis ``layer``, where the node names none."""
    row = next((w for w in model.info.weights if w.name == node.name), None)
    if row is None:
        raise fail("MI0401", f"the model has no weight `{node.name}`", node.span)
    if not row.per_block or node.layer is not None:
        return NT(model.weight(node.name, node.layer), row.axes)
    every = [model.weight(node.name, layer) for layer in range(model.info.sizes["layer"])]
    return NT(torch.stack(every), ("layer", *row.axes))
