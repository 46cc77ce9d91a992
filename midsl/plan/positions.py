"""Single positions: which one an index picks, by lane and example, where it picks one."""

from __future__ import annotations

import torch
from torch import Tensor

from midsl.ir import nodes as ir
from midsl.ir.types import TensorType
from midsl.plan.domains import Table
from midsl.plan.evaluate import Evaluator


def single(index: ir.Node | None) -> bool:
    """Whether an index picks one position of each row."""
    if isinstance(index, ir.Column):
        return isinstance(index.type, TensorType)
    return isinstance(index, ir.Coord) or (isinstance(index, ir.Const) and isinstance(index.value, int))


def place(index: ir.Node | None, table: Table, rows: slice, evaluator: Evaluator) -> Tensor | None:
    """The position that a single index picks: int64, broadcast to [point, batch].

    None if it is swept by something that the points of the table do not know.
    """
    if isinstance(index, ir.Column):
        return evaluator.rows.column(index).data[rows][None]
    if isinstance(index, ir.Coord):
        if index.sweep.digest not in table.index:
            return None
        column = evaluator.domains.column(index.sweep, index.index)
        return column[table.index[index.sweep.digest]][:, None]
    assert isinstance(index, ir.Const) and isinstance(index.value, int)
    return torch.tensor([[index.value]])
