"""cse: equal runs are one run, across experiments and methods of a file.

Legal always: a run is a value, decided by its model, data and edits. Equal expressions are equal
nodes already; what this pass removes is the mark that tells one occurrence of `run` from another.
"""

from __future__ import annotations

from dataclasses import replace

from midsl.ir import nodes as ir
from midsl.ir.program import Experiment, Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def cse(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Give every `Forward` origin 0, so that equal ones are one node."""
    before = {n.digest for n in ir.walk(*program.roots) if isinstance(n, ir.Forward)}

    def merge(node: ir.Node) -> ir.Node:
        if isinstance(node, ir.Forward) and node.origin:
            return ir.Forward(node.model, node.data, node.edits, 0, type=node.type, span=node.span)
        return node

    experiments = []
    memo: dict[str, ir.Node] = {}
    for x in program.experiments:
        sinks = tuple(ir.rewrite(s, merge, memo) for s in x.sinks)
        lets = tuple((n, ir.rewrite(v, merge, memo)) for n, v in x.lets)
        experiments.append(Experiment(x.name, lets, sinks, x.at_once))
    done = replace(program, experiments=tuple(experiments))
    after = {n.digest for n in ir.walk(*done.roots) if isinstance(n, ir.Forward)}
    outcome.hits = len(before) - len(after)
    outcome.said = f"{len(before)} runs written, {len(after)} distinct" if before else "no runs"
    return done
