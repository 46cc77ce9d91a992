"""narrow_positions: of each lane, only the rows that its edits can change and its reads can see.

A row is one example at one position. An edit reaches its own rows, through attention those after them, and
nothing else; a read needs its own rows, through attention those before them. What lies outside of either
is the base run's: the run with only the edits that all lanes share. Legal where every node that an edit
reaches keeps positions apart or is one causal attention (the graph's position rules say so, the mask
proves it). Held back, by run and with its reason in the plan, elsewhere, and where gradients are taken.

A base run that no one asks for is made for a sweep, and where several runs share it. A run that has no base
still leaves out the rows that no read can see.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.ir.states import begins
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def narrow_positions(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the edited runs that may start from a base run; the schedule says that they do."""
    runs = {n.digest: n for n in ir.walk(*program.roots) if isinstance(n, ir.Forward)}
    taken = {n.run.digest for n in ir.walk(*program.roots) if isinstance(n, ir.Grad)}
    bases = [base.digest for run in runs.values() if (base := base_of(run)) is not None]
    made: set[str] = set()
    for run in runs.values():
        base = base_of(run)
        if base is None:
            continue
        if run.digest in taken:
            outcome.vetoes.append("gradients are taken in the run")
            continue
        if base.digest not in runs or base.digest in taken:
            if not (ir.sweeps_of(run) or bases.count(base.digest) > 1):
                continue
            made.add(base.digest)
        outcome.hits += 1
    outcome.said = f"{outcome.hits} edited runs start from the run that they edit"
    if made:
        outcome.said += f", {len(made)} of these made for it"
    return program


def base_of(run: ir.Forward) -> ir.Forward | None:
    """The run that an edited run differs from: without its edits, or without those that are swept.

    One of states keeps what it begins with; where that is swept it differs from no other.
    """
    swept = bool(ir.sweeps_of(run))
    if all(begins(e) for e in run.edits) or any(begins(e) and ir.sweeps_of(e) for e in run.edits):
        return None
    shared = tuple(e for e in run.edits if begins(e) or (swept and not ir.sweeps_of(e)))
    return ir.Forward(run.model, run.data, shared, run.origin, type=run.type, span=run.span)
