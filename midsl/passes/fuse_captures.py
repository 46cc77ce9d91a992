"""fuse_captures: everything that is read of a run is captured in one pass over it.

Legal always: a run is pure. Without it, each value that is asked of a run costs a run of its own.
The planner does the work (see ``midsl.plan.build``); this pass counts what it saves.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def fuse_captures(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count reads that share a run; the schedule says that they are fused."""
    reads: dict[str, set[str]] = {}
    for n in ir.walk(*program.roots):
        if isinstance(n, (ir.Read, ir.Grad)):
            reads.setdefault(n.run.digest, set()).add(n.digest)
    outcome.hits = sum(len(r) - 1 for r in reads.values())
    outcome.said = f"{sum(map(len, reads.values()))} reads of {len(reads)} runs"
    return program
