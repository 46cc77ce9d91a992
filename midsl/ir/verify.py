"""The verifier: what must hold of every program, checked after each pass."""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.ir.types import TensorType


class VerifyError(Exception):
    """A pass or the elaborator made an ill-formed program: a bug of ours."""


def verify(program: Program) -> None:
    """Raise `VerifyError` where a node is not well-formed."""
    for node in ir.walk(*program.roots):
        if type(node).__name__ == "Late":
            raise VerifyError(f"a late-bound column was never resolved: {node}")
        if isinstance(node, ir.Reduce):
            have = {(a.name, a.span) for a in node.arg.tensor_type.axes}
            for a in node.axes:
                if (a.name, a.span) not in have:
                    raise VerifyError(f"reduction over `{a.name}`, which its argument has not")
        if isinstance(
            node, (ir.Apply, ir.Reduce, ir.Select, ir.Read, ir.Grad, ir.Pullback, ir.Coord, ir.Union)
        ):
            if not isinstance(node.type, TensorType):
                raise VerifyError(f"{type(node).__name__} has type {node.type}")
            names = node.type.names
            if len(set(names)) < len(names):
                raise VerifyError(f"{type(node).__name__} has two axes of one name: {names}")
        if isinstance(node, ir.Expect) and node.condition.tensor_type.axes:
            raise VerifyError("an expect still has axes")
        if isinstance(node, (ir.Report, ir.Save)):
            free = {s.digest for s in ir.sweeps_of(node.value)}
            if free != {s.digest for s in node.sweeps}:
                raise VerifyError(f"sink {node.name} names other sweeps than it depends on")
