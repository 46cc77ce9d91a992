"""Where an edit that adds a number times something adds nothing (see ``midsl.passes.drop_dead_lanes``)."""

from __future__ import annotations

import torch
from torch import Tensor

from midsl.ir import nodes as ir
from midsl.plan.domains import Table
from midsl.plan.evaluate import POINT, Env, Evaluator, NotKept

LANES = 256
"""Lanes whose gates are worked out at a time."""


def open_rows(
    gates: tuple[tuple[ir.Node, ...], ...], evaluator: Evaluator, table: Table, height: int, width: int
) -> Tensor:
    """Where some term is not zero: Bool [lane, batch, pos]."""
    found = torch.zeros(table.size, height, width, dtype=torch.bool)
    for start in range(0, table.size, LANES):
        lanes = torch.arange(start, min(table.size, start + LANES))
        env, memo = Env(table.rows(lanes)), {}  # type: ignore[var-annotated]
        sizes = {POINT: len(lanes), "batch": height, "pos": width}
        for term in gates:
            live = torch.ones(len(lanes), height, width, dtype=torch.bool)
            for factor in term:
                try:
                    x = evaluator.eval(factor, env, memo)
                except NotKept:  # it takes a run of this very stage, which is not done when rows are decided
                    continue
                live &= x.expand(sizes).data != 0
            found[lanes] |= live
    return found
