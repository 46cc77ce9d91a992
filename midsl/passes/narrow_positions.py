"""narrow_positions: of each lane, only the rows that its edits can change and its reads can see.

A row is one example at one position. An edit reaches its own rows, through attention those after them, and
nothing else; a read needs its own rows, through attention those before them. What lies outside of either
is the base run's: the run with only the edits that all lanes share. Legal where every node that an edit
reaches keeps positions apart or is one causal attention (the graph's position rules say so, the mask
proves it). Held back, by run and with its reason in the plan, elsewhere; and for gradients, and where
the points of a sweep are computed while running.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.passes.cut_cones import computed
from midsl.sema.facts import Facts


def narrow_positions(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the edited runs that may start from a base run; the schedule says that they do."""
    runs = {n.digest: n for n in ir.walk(*program.roots) if isinstance(n, ir.Forward)}
    taken = {n.run.digest for n in ir.walk(*program.roots) if isinstance(n, ir.Grad)}
    for run in runs.values():
        base = base_of(run)
        if base is None:
            continue
        if base.digest not in runs:
            outcome.vetoes.append("a run is edited whose unedited run is not asked for")
        elif computed(run):
            outcome.vetoes.append("the points of a sweep are computed while running")
        elif run.digest in taken or base.digest in taken:
            outcome.vetoes.append("gradients are taken in the run")
        else:
            outcome.hits += 1
    outcome.said = f"{outcome.hits} edited runs start from the run that they edit"
    return program


def base_of(run: ir.Forward) -> ir.Forward | None:
    """The run that an edited run differs from: without its edits, or without those that are swept."""
    if not run.edits:
        return None
    shared = tuple(e for e in run.edits if not ir.sweeps_of(e)) if ir.sweeps_of(run) else ()
    return ir.Forward(run.model, run.data, shared, run.origin, type=run.type, span=run.span)
