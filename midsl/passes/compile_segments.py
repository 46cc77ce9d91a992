"""compile_segments: stretches of operations between products run as one compiled function.

Sums, norms, activations and rotations of one layer are the same function as those of the next: it is compiled
once, with the weights and the number of rows left open. Legal where a run goes by rows, for operations that
keep rows apart; products and attention stay as they are. Held back for runs that go by whole rows and for
gradients. Which functions are worth their compiling is decided when the rows are known
(``midsl.plan.compiling``), or by ``--compile always|never``.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def compile_segments(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the runs whose segments may be compiled; the schedule says that they may."""
    taken = {n.run.digest for n in ir.walk(*program.roots) if isinstance(n, ir.Grad)}
    for node in ir.walk(*program.roots):
        if isinstance(node, ir.Forward):
            if node.digest in taken:
                outcome.vetoes.append("gradients are taken in the run")
            else:
                outcome.hits += 1
    outcome.said = f"{outcome.hits} runs whose segments may be compiled, if that pays"
    return program
