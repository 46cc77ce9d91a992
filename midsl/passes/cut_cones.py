"""cut_cones: only what an edit can change is computed for every lane; the rest once for all of them.

Legal always: a value upstream of every edit, or beside them, is the same in each lane, and lanes do not
mix (see `batch_sweeps`). Decided node by node in the lowered graph. Where the points of a sweep are chosen
while running, the cone is not known when a plan is made in one go: see `stage`.
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
            outcome.hits += 1
    outcome.said = f"{outcome.hits} swept runs compute once what their edits cannot change"
    return program
