"""The order of runs. A run has a turn, and a later one where a derivative takes values of runs behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from midsl.ir import nodes as ir


@dataclass(eq=False)
class Turn:
    """A place of a run in the order, and the derivatives that are taken there; the first keeps values."""

    run: ir.Forward
    first: bool = True
    grads: dict[str, ir.Grad] = field(default_factory=dict)

    @property
    def ahead(self) -> list[ir.Jvp]:
        """Derivatives along directions: a turn has these alone, or none."""
        return [g for g in self.grads.values() if isinstance(g, ir.Jvp)]


@dataclass
class Order:
    """Turns, in order."""

    turns: list[Turn] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)
    """Where a run has its first turn, by digest."""

    def __len__(self) -> int:
        return len(self.turns)

    def __contains__(self, run: ir.Forward) -> bool:
        return run.digest in self.at

    def add(self, run: ir.Forward) -> None:
        """Put a run behind all others."""
        if run not in self:
            self.at[run.digest] = len(self.turns)
            self.turns.append(Turn(run))

    def last(self, runs: Iterable[ir.Forward]) -> ir.Forward:
        """The one of some runs that comes last."""
        return max(runs, key=lambda r: self.at[r.digest])

    def turn_for(self, node: ir.Grad, reads: Iterable[ir.Forward]) -> Turn:
        """A turn of the run of a derivative after all runs that it reads."""
        ahead = isinstance(node, ir.Jvp)
        others = [self.at[r.digest] for r in reads if ahead or r != node.run]
        for turn in self.turns[max(others, default=-1) + 1 :]:
            if turn.run == node.run and (ahead == bool(turn.ahead) or not turn.grads):
                return turn
        self.turns.append(Turn(node.run, first=False))
        return self.turns[-1]

    def later(self, turn: Turn) -> bool:
        """Whether all that is asked of a run may be asked at a later turn of it."""
        return any(t is not turn and t.run == turn.run for t in self.turns)
