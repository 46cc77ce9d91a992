"""batch_sweeps: the points of a sweep become lanes, stacked over the batch of one run.

Legal where examples do not mix (the model's batch rule; `eval()` is forced), since a lane is a copy
of the examples with its own edits. Without it, each point is a run of its own.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def batch_sweeps(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the points that become lanes; the schedule says that they are stacked."""
    swept = 0
    for n in ir.walk(*program.roots):
        if isinstance(n, ir.Forward):
            points = 1
            for s in ir.sweeps_of(n):
                points *= (
                    len(s.domain.points)
                    if isinstance(s.domain, ir.Points)
                    else (s.axes[0].size or s.domain.k or 1)
                    if isinstance(s.domain, ir.Top)
                    else 1
                )
            if points > 1:
                swept += 1
                outcome.hits += points - 1
    outcome.said = (
        f"{swept} swept runs, {outcome.hits} points ride along as lanes" if swept else "nothing swept"
    )
    return program
