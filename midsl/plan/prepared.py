"""A run that is ready: its graphs, and the pieces that it is done in."""

from __future__ import annotations

from dataclasses import dataclass

from midsl.data.dataset import Part
from midsl.plan.chunk import Piece
from midsl.plan.hooked import Hooked
from midsl.plan.lower import Lowered
from midsl.plan.rowed import Rowed
from midsl.plan.steps import RunStep


@dataclass
class Prepared:
    """A run with its graphs, its rows and the pieces that it is done in."""

    step: RunStep
    part: Part
    lanes: int
    pieces: list[Piece]
    blocks: dict[int, int]
    """FLOPs of each whole block for one row, unedited: the unit of `layer_tokens`."""

    @property
    def lowered(self) -> Lowered | Hooked | Rowed:
        """The graph, where there is one; the first of them where lanes board at different layers."""
        return self.pieces[0].lowered

    @property
    def length(self) -> int:
        return int(self.part.tokens.shape[1])


def held_bytes(p: Prepared) -> int:
    """Bytes that are held all through a run by rows: what it takes, and what it keeps for others."""
    rowed = p.lowered
    if not isinstance(rowed, Rowed):
        return 0
    return rowed.kept_bytes() + sum(of.kept_bytes() for of in (rowed.base, rowed.source) if of is not None)
