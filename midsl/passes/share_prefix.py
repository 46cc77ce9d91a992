"""share_prefix: lanes join a run at the first layer that they edit; the layers before run once.

Legal where `cut_cones` is, and works through it: lanes that begin to differ at one layer form a group
with a graph of its own, in which everything before that layer is upstream of every edit. Held back for
gradients, which need all layers of all lanes at once.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def share_prefix(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the runs whose lanes edit different layers; the schedule says that they board there."""
    taken = {n.run.digest for n in ir.walk(*program.roots) if isinstance(n, ir.Grad)}
    for node in ir.walk(*program.roots):
        if not (isinstance(node, ir.Forward) and boards(node)):
            continue
        if node.digest in taken:
            outcome.vetoes.append("gradients are taken in the run")
        else:
            outcome.hits += 1
    outcome.said = f"{outcome.hits} runs whose lanes join at the layer that they edit"
    return program


def boards(run: ir.Forward) -> bool:
    """Whether lanes of a run edit different layers."""
    return any(isinstance(e.site.index("layer"), ir.Coord) for e in run.edits)
