"""drop_dead_lanes: rows that an edit provably leaves as they are, are not run.

A value patched from another run is the base run's own value wherever the two inputs have the same tokens up
to that position: both runs are unedited, and attention is causal. The tokens decide, not the activations
(which may differ in their last bits). Works through `narrow_positions`, where it is legal.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.passes.narrow_positions import base_of
from midsl.sema.facts import Facts


def drop_dead_lanes(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the edits that take another input's value; the schedule says that equal tokens are left out."""
    for run in {n for n in ir.walk(*program.roots) if isinstance(n, ir.Forward)}:
        base = base_of(run)
        outcome.hits += sum(
            isinstance(e.value, ir.Read)
            and base is not None
            and not base.edits
            and not e.value.run.edits
            and e.value.run.data != base.data
            for e in run.edits
        )
    outcome.said = (
        f"{outcome.hits} edits take the value of another input: nothing before the first other token"
    )
    return program
