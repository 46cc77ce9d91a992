"""reuse: an experiment that a store already holds, unchanged, is taken from there.

What decides an experiment's rows is its sinks, down to the recipes of its models and data, what these turned
out to be (hashes of weights, tokenizers and rows), the numerics, and the version of midsl. Names of
bindings, comments, other experiments and the choice of passes are no part of it. Legal because a run is a
pure function of these. Held back where Python outside the standard library takes part: its text may have
changed. Only `midsl run` and `midsl explain`, which look into a store, do it.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def reuse(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the experiments that may be taken from a store."""
    for x in program.experiments:
        why = held_back(x.sinks)
        if why:
            outcome.vetoes.append(f"{x.name} {why}")
        else:
            outcome.hits += 1
    outcome.said = f"{outcome.hits} experiments may be taken from a store that has them"
    return program


def held_back(sinks: tuple[ir.Node, ...]) -> str:
    """Why an experiment may not be taken from a store; "" where it may."""
    if any(isinstance(s, ir.Save) for s in sinks):
        return "saves tensors, which stay with the run that made them"
    if any(isinstance(s, ir.View) for s in sinks):
        return "shows values that are kept in no table"
    texts = [s for s in sinks if isinstance(s, ir.Plot) and s.kind == "tokens"]
    if any(isinstance(n, ir.Rollout) for n in ir.walk(*texts)):
        return "shows tokens that are written in the run itself"
    for node in ir.walk(*sinks):
        ref = getattr(node, "ref", "")
        if isinstance(ref, str) and ref and not ref.startswith("midsl."):
            return f"needs {ref}, which is Python outside the standard library"
    return ""
