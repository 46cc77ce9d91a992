"""dce: what no report, plot or expect reaches is not computed.

Legal always: a binding has no effect of its own.
"""

from __future__ import annotations

from dataclasses import replace

from midsl.ir import nodes as ir
from midsl.ir.program import Experiment, Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def dce(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Drop bindings that no sink of the program uses."""
    used = {n.digest for n in ir.walk(*program.sinks)}
    experiments = []
    dropped: list[str] = []
    for x in program.experiments:
        kept = tuple((n, v) for n, v in x.lets if v.digest in used)
        dropped += [f"{x.name}.{n}" for n, v in x.lets if v.digest not in used]
        experiments.append(Experiment(x.name, kept, x.sinks, x.at_once))
    outcome.hits = len(dropped)
    outcome.said = "unused: " + ", ".join(dropped) if dropped else "nothing is unused"
    return replace(program, experiments=tuple(experiments))
