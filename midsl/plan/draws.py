"""Draws while running: one for each seed at hand, over whole rows, so that no chunk can change one."""

from __future__ import annotations

import numpy as np
import torch

from midsl.data.dataset import Ints, Part
from midsl.data.spans import span_positions
from midsl.ir import nodes as ir
from midsl.ops.index import select
from midsl.ops.named import NT
from midsl.ops.random import draw, permutation
from midsl.plan.inputs import Inputs


def drawn(node: ir.Draw, seed: int, inputs: Inputs) -> NT:
    """The numbers of one seed, over all rows of the data: axes as the node names them."""
    part = inputs.part(node.part) if isinstance(node.part, ir.Part) else None
    coords = {
        axis.name: _coordinates(axis.name, axis.size, labels, part)
        for axis, labels in zip(node.axes, node.labels, strict=True)
    }
    if node.kind == "permutation":
        order = permutation(seed, node.stream, coords, "batch", _groups(node.within, part))
        return NT(torch.from_numpy(order), ("batch",))
    value = NT(torch.from_numpy(draw(node.kind, seed, node.stream, coords)), tuple(coords))
    for axis in node.axes:
        if axis.name in ("pos", "key_pos") and axis.span:
            assert part is not None
            at = torch.from_numpy(span_positions(part, axis.span)[0]).clamp(0, part.tokens.shape[1] - 1)
            value = select(value, axis.name, NT(at, ("batch", axis.name)))
    return value


def _coordinates(name: str, size: int | None, labels: ir.Json, part: Part | None) -> Ints:
    if name == "batch":
        assert part is not None
        return part.examples
    if name in ("pos", "key_pos"):
        assert part is not None
        return np.arange(part.tokens.shape[1], dtype=np.int64)
    if isinstance(labels, tuple):
        return np.array(labels, np.int64)
    assert size is not None, f"the size of `{name}` is not known"
    return np.arange(size, dtype=np.int64)


def _groups(within: ir.Node | None, part: Part | None) -> Ints | None:
    """The group of each row, numbered."""
    if not isinstance(within, ir.Column):
        return None
    assert part is not None
    _, number = np.unique(np.asarray(part.columns[within.name].values), return_inverse=True)
    return number.astype(np.int64)
