"""stage: a sweep over computed points ends a stage; what follows is planned once its points are there.

`top_sites` chooses by a score that only a run can give, so which lanes the next runs have is not known when
a spec is compiled. Planned at once, they could only run whole; planned after the choice, they are cut like
all others, and start from a base run of their own stage. Legal always. Until the choice is made, `explain`
tells the least and the most that such a run may cost.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def stage(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the choices that end a stage; the schedule says that they do."""
    chosen = {n.digest for n in ir.walk(*program.roots) if isinstance(n, ir.Sweep) and is_computed(n)}
    outcome.hits = len(chosen)
    outcome.said = f"{len(chosen) + 1} stages" if chosen else "one stage: all points are known"
    return program


def is_computed(sweep: ir.Sweep) -> bool:
    """Whether the points of a sweep are chosen while running."""
    return isinstance(sweep.domain, ir.Top)


def computed(run: ir.Forward) -> bool:
    """Whether a run depends on a sweep whose points are chosen while running."""
    return any(map(is_computed, ir.sweeps_of(run)))
