"""Cutting a run into pieces that fit in memory: some lanes over some rows, done at once.

Whole lanes are rectangles, lanes x rows. A run by rows takes as many lanes as fit with the rows that they
have, so that a piece is a tall product whatever its lanes look like. `costs` says what each piece will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from midsl.backends.eager import Counts
from midsl.data.dataset import Part
from midsl.plan.hooked import Hooked
from midsl.plan.lower import Lowered
from midsl.plan.rowed import Rowed


@dataclass(frozen=True)
class Piece:
    """Some lanes over some rows: what a lowered graph does at once."""

    lowered: Lowered | Hooked | Rowed
    lanes: Tensor
    """Which points of the run's sweeps: int64 [lanes]."""
    rows: slice

    @property
    def height(self) -> int:
        return int(self.rows.stop - self.rows.start)

    def halves(self, rows_apart: bool) -> tuple[Piece, Piece] | None:
        """Half the lanes and the other half, or, of one lane, half the rows if these may go `rows_apart`."""
        n = len(self.lanes)
        if n > 1:
            first, second = self.lanes[: n // 2], self.lanes[n // 2 :]
            return Piece(self.lowered, first, self.rows), Piece(self.lowered, second, self.rows)
        if self.height > 1 and rows_apart:
            middle = self.rows.start + self.height // 2
            above, below = slice(self.rows.start, middle), slice(middle, self.rows.stop)
            return Piece(self.lowered, self.lanes, above), Piece(self.lowered, self.lanes, below)
        return None

    def same_rows(self, other: Piece | None) -> bool:
        """Whether another piece is over the same rows."""
        return other is not None and (self.rows.start, self.rows.stop) == (other.rows.start, other.rows.stop)

    def same_prefix(self, other: Piece | None) -> bool:
        """Whether what no edit can change is the same as in another piece."""
        return other is not None and self.lowered is other.lowered and self.same_rows(other)


def whole_pieces(
    lowered: Lowered | Hooked, rows: int, lanes: Tensor, fits: int, stacked: bool
) -> list[Piece]:
    """Rectangles of whole lanes; lanes are `stacked` once all rows of one of them fit."""
    height = min(fits, rows)
    width = max(1, fits // height) if stacked and fits >= rows else 1
    return [
        Piece(lowered, lanes[i : i + width], slice(j, min(j + height, rows)))
        for j in range(0, rows, height)
        for i in range(0, len(lanes), width)
    ]


def row_pieces(rowed: Rowed, fits: int) -> list[Piece]:
    """Some examples, and as many lanes as fit with the rows they have: `fits` whole examples in all."""
    rows, length = len(rowed.part), rowed.real.shape[2]
    height = min(fits, rows)
    pieces = []
    for j in range(0, rows, height):
        some = slice(j, min(j + height, rows))
        cost = rowed.lane_rows(some).tolist()
        chosen: list[int] = []
        used = 0
        for lane, n in enumerate(cost):
            if chosen and used + n > fits * length:
                pieces.append(Piece(rowed, torch.tensor(chosen), some))
                chosen, used = [], 0
            chosen.append(lane)
            used += n
        pieces.append(Piece(rowed, torch.tensor(chosen), some))
    return pieces


def costs(pieces: Sequence[Piece], part: Part) -> Iterator[Counts]:
    """What each prefix and each piece costs, in order; nothing is computed."""
    before: Piece | None = None
    ahead: Any = None
    seen: dict[int, Counts] = {}
    tokens = torch.zeros(part.tokens.shape, dtype=torch.int64, device="meta")
    for piece in pieces:
        if isinstance(piece.lowered, Rowed):
            yield piece.lowered.predict(piece.lanes, piece.rows)
            continue
        if not piece.same_prefix(before):
            counts = Counts()
            known = ahead if piece.same_rows(before) else None
            ahead = piece.lowered.prefix(tokens, tokens, piece.rows, counts, known)
            seen = {}
            yield counts
        width = len(piece.lanes)
        if width not in seen:
            seen[width] = piece.lowered.shapes(ahead, width)
        yield seen[width]
        before = piece


def flops_of(pieces: Sequence[Piece], part: Part) -> int:
    """FLOPs of all pieces."""
    return sum(c.flops for c in costs(pieces, part))
