"""The rows of a part that count, by themselves, where its condition takes columns alone."""

from __future__ import annotations

import numpy as np

from midsl.data.dataset import Part
from midsl.ir import nodes as ir
from midsl.plan.domains import Domains
from midsl.plan.evaluate import Evaluator
from midsl.plan.inputs import Inputs, Rows


def chosen_rows(inputs: Inputs, node: ir.Part) -> Part:
    """The rows that count, without the others: all of them where the part has no condition."""
    part = inputs.part(node)
    if node.where is None:
        return part
    holds = Evaluator(inputs, Domains(), Rows.of(inputs, (node.where,))).grid(node.where)
    return part.take(np.flatnonzero(holds.data.numpy()))
