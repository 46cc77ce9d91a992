"""chunk: a run is cut into pieces that fit in memory, as the memory model counts them.

Legal because examples and lanes do not mix: a piece gives the rows that it would give within the whole. Held
back where they do: for gradients of a sum over the batch, and for edits whose value goes across the batch,
all rows run together or not at all. Without it every run is one piece, and refused if that does not fit. A
piece that runs out of memory all the same is halved, with a warning, and so are those after it.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.crossing import has_self, mixes_rows
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts

_CROSSES: dict[str, bool] = {}


def chunk(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Count the runs that may be cut; the schedule says that they are."""
    taken = {n.run.digest for n in ir.walk(*program.roots) if isinstance(n, ir.Grad)}
    for run in {n.digest: n for n in ir.walk(*program.roots) if isinstance(n, ir.Forward)}.values():
        if run.digest in taken:
            outcome.vetoes.append("gradients are taken in the run")
        elif crosses_rows(run):
            outcome.vetoes.append("an edit takes a value across the batch")
        else:
            outcome.hits += 1
    outcome.said = f"{outcome.hits} runs may be cut into pieces"
    return program


def crosses_rows(run: ir.Forward) -> bool:
    """Whether an edit mixes what arrives at a site across rows, so that all of them must run together."""
    return any(ir.fold(e.value, _CROSSES, _crosses) for e in run.edits)


def _crosses(node: ir.Node) -> bool:
    """Whether a node or one below it goes across the rows of what has `self` in it."""
    return any(_CROSSES[c.digest] for c in node.children) or (mixes_rows(node) and has_self(node))
