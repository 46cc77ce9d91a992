"""fold_constants: an operation on numbers alone is the number that it gives.

Legal always: the numbers are float64 here as they are where the operation would run. What has no finite
value (a logarithm of nothing, a division by zero) stays, so that it is met, and told of, while running.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts

FOLDED: dict[str, Callable[..., float | int]] = {
    "neg": lambda x: -x,
    "abs": abs,
    "sign": lambda x: (x > 0) - (x < 0),
    "square": lambda x: x * x,
    "relu": lambda x: max(x, 0),
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "tanh": math.tanh,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "minimum": min,
    "maximum": max,
}
"""What each operation gives of numbers; others are left to the engine."""


def fold_constants(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Replace operations whose arguments are all numbers."""

    def fold(node: ir.Node) -> ir.Node:
        if not isinstance(node, ir.Apply) or node.op not in FOLDED or node.attrs:
            return node
        values = [a.value for a in node.args if isinstance(a, ir.Const) and type(a.value) in (int, float)]
        if len(values) < len(node.args):
            return node
        try:
            found = FOLDED[node.op](*values)
        except (ArithmeticError, ValueError):
            return node
        if not math.isfinite(found):
            return node
        outcome.hits += 1
        if node.tensor_type.kind == "float":  # `abs` of 2 is whole, and stands for a number that is not
            found = float(found)
        return ir.Const(found, type=node.type, span=node.span)

    done = program.rewrite(fold)
    outcome.said = f"{outcome.hits} operations on numbers alone"
    return done
