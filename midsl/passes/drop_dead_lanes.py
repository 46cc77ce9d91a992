"""drop_dead_lanes: rows that an edit provably leaves as they are, are not run.

A value patched from another run is the base run's own value wherever the two inputs have the same tokens up
to that position, as attention is causal; and so ``self + new - old``, what an edge changes, is `self` there
(``midsl.ir.alike``). The tokens decide, not the activations (which may differ in their last bits). And an
edit that adds a number times something, ``self + a * b``, adds nothing where `a` is zero: a feature that is
silent on an example, a dose of zero. What `a` is, is known once the runs that it is made of are done: those
are a stage. Works through `narrow_positions`, where it is legal.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.alike import others_of
from midsl.ir.crossing import has_self
from midsl.ir.program import Program
from midsl.ir.types import TensorType
from midsl.passes.base import Outcome
from midsl.passes.narrow_positions import base_of
from midsl.sema.facts import Facts


def drop_dead_lanes(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the edits that take another input's value; the schedule says that equal tokens are left out."""
    for run in {n for n in ir.walk(*program.roots) if isinstance(n, ir.Forward)}:
        base = base_of(run)
        if base is not None:
            outcome.hits += sum(bool(others_of(e, base)) for e in run.edits)
    outcome.said = (
        f"{outcome.hits} edits take the value of another input: nothing before the first other token"
    )
    adding = {e for n in ir.walk(*program.roots) if isinstance(n, ir.Forward) for e in n.edits if gates_of(e)}
    if adding:
        outcome.hits += len(adding)
        outcome.said += f"; {len(adding)} may add nothing"
    return program


def gates_of(edit: ir.Edit) -> tuple[tuple[ir.Node, ...], ...]:
    """For each term that an edit adds to `self`, the factors that are one number a row; () if there are none.

    A row is left as it is where each term has a factor that is zero.
    """
    at = edit.site.index("pos")
    stretch = isinstance(at, ir.Slice) or (isinstance(at, ir.Const) and isinstance(at.value, tuple))
    spans = isinstance(at, ir.Column) and not isinstance(at.type, TensorType)
    value = edit.value
    if stretch or spans or not isinstance(value, ir.Apply) or value.op != "add":
        return ()
    left, right = value.args
    term = right if isinstance(left, ir.Self) else left if isinstance(right, ir.Self) else None
    if term is None or has_self(term):
        return ()
    swept = {a.name for s in ir.sweeps_of(term) for a in s.axes}
    found = []
    for t in _terms(term):
        factors = tuple(f for f in _factors(t) if set(f.tensor_type.names) - swept <= {"batch", "pos"})
        factors = tuple(f for f in factors if not isinstance(f, ir.Const) and not _of_parameters(f))
        if not factors:
            return ()
        found.append(factors)
    return tuple(found)


def _of_parameters(node: ir.Node) -> bool:
    """Whether a value comes of parameters without a run: a plan is made before these are fitted."""
    found = list(ir.walk(node))
    return any(isinstance(n, ir.Param) for n in found) and not any(isinstance(n, ir.Read) for n in found)


def _terms(node: ir.Node) -> list[ir.Node]:
    if isinstance(node, ir.Apply) and node.op == "add":
        return [t for a in node.args for t in _terms(a)]
    return [node]


def _factors(node: ir.Node) -> list[ir.Node]:
    if isinstance(node, ir.Apply) and node.op == "mul":
        return [f for a in node.args for f in _factors(a)]
    return [node]
