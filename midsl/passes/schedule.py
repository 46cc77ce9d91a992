"""schedule: runs come as late as they may, and what they leave is let go once nothing needs it.

Legal always: a run is pure, and its order among others is decided by what it reads. An experiment's rows are
there as soon as its own runs are done, and the memory of a plan is that of what is still needed, not of all
that was ever kept. Without it all runs come first, and everything stays until the end.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def schedule(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the runs that an experiment is the last to need; the planner orders them."""
    seen: set[str] = set()
    for x in reversed(program.experiments):
        mine = {n.digest for n in ir.walk(*x.roots) if isinstance(n, ir.Forward)}
        outcome.hits += len(mine - seen)
        seen |= mine
    outcome.said = (
        f"{outcome.hits} runs over {len(program.experiments)} experiments, each let go after its last use"
    )
    return program
