"""cut_cones: only what an edit can change is computed for every lane; the rest once for all of them.

Legal always: a value upstream of every edit, or beside them, is the same in each lane, and lanes do not
mix (see `batch_sweeps`). Decided node by node in the lowered graph. Held back where the points of a
sweep are computed while running, since the cone is not known when the plan is counted.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def cut_cones(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the swept runs with edits whose prefix is shared; the schedule says that it is."""
    for node in ir.walk(*program.roots):
        if isinstance(node, ir.Forward) and node.edits and ir.sweeps_of(node):
            if computed(node):
                outcome.vetoes.append("the points of a sweep are computed while running")
            else:
                outcome.hits += 1
    outcome.said = f"{outcome.hits} swept runs compute once what their edits cannot change"
    return program


def computed(run: ir.Forward) -> bool:
    """Whether a run depends on a sweep whose points are computed."""
    return any(isinstance(s.domain, ir.Top) for s in ir.sweeps_of(run))
