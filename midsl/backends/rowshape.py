"""Shapes of packed rows: how sizes grow with them, which dimension holds them, what they take of memory."""

from __future__ import annotations

import operator
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

from midsl.backends.eager import VIEWS
from midsl.graph.rowwise import Dims


@cache
def sizes(expr: Any, batch: Any, pos: Any) -> tuple[int, int]:
    """A size of the graph, for packed rows, as (start, step): start + step x rows."""
    at = [int(expr.subs({batch: 1, pos: n})) for n in (2, 3, 7)]
    step = at[1] - at[0]
    if at[2] != at[1] + 4 * step:
        raise AssertionError(f"the size {expr} does not grow evenly with the rows")
    return at[0] - 2 * step, step


def is_view(node: fx.Node) -> bool:
    """Whether a node's value shares memory with its argument's."""
    return node.target in VIEWS or node.target is operator.getitem


def along(dims: Dims) -> int:
    """The dimension of a packed value that holds its rows."""
    found = dims.flat if dims.flat is not None else dims.pos
    assert found is not None
    return found


def size_in_bytes(value: Any) -> int:
    """Bytes of a tensor, or of several."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(size_in_bytes, value)) if isinstance(value, (tuple, list)) else 0


def with_size(shape: torch.Size, dim: int, size: int) -> list[int]:
    return [size if i == dim else n for i, n in enumerate(shape)]
