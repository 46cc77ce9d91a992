"""Which rows there are, in what order, and how to take them out of a whole value and put them back.

A packed value has its rows in order of lane, example, position. `Index` lists them once for all nodes that
have the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from midsl.graph.rowwise import Dims


@dataclass(frozen=True, eq=False)
class Index:
    """Rows in order of lane, example, position; `mask` is bool [lane, batch, pos]."""

    mask: Tensor

    @cached_property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Lane, example and position of each row: int64 [rows]."""
        lane, example, pos = self.mask.nonzero(as_tuple=True)
        return lane, example, pos

    @cached_property
    def count(self) -> int:
        return int(self.parts[0].numel())

    @cached_property
    def place(self) -> Tensor:
        """Which row each (lane, example, position) is: int64 [lane, batch, pos], -1 for none."""
        out = torch.full(self.mask.shape, -1, dtype=torch.int64)
        out[self.parts] = torch.arange(self.count)
        return out

    @cached_property
    def buckets(self) -> list[Bucket]:
        """The rows by lane and example, those with equally many together (above 16: up to a power of 2)."""
        lane, example, pos = self.parts
        height = self.mask.shape[1]
        groups, counts = torch.unique_consecutive(lane * height + example, return_counts=True)
        starts = counts.cumsum(0) - counts
        widths = torch.where(counts <= 16, counts, 2 ** torch.ceil(torch.log2(counts.double())).long())
        found = []
        for width in sorted(set(widths.tolist())):
            at = (widths == width).nonzero().flatten()
            slot = torch.arange(width)[None, :]
            rows = starts[at, None] + torch.minimum(slot, counts[at, None] - 1)
            end = int(pos[rows].max()) + 1
            found.append(
                Bucket(groups[at] // height, groups[at] % height, rows, slot < counts[at, None], end)
            )
        return found


@dataclass(frozen=True)
class Bucket:
    """Groups (one lane's rows of one example) of one width, for one attention call.

    `lane`, `example`: int64 [groups]; `rows`: int64 [groups, width], the last row repeated to fill;
    `real`: bool [groups, width], which are no repeats; `end`: the last position of any, plus 1.
    """

    lane: Tensor
    example: Tensor
    rows: Tensor
    real: Tensor
    end: int


def gather(x: Tensor, dims: Dims, example: Tensor, pos: Tensor, width: int) -> Tensor:
    """Some rows of a value that has all of them, packed."""
    if dims.flat is not None:
        return x.index_select(dims.flat, example * width + pos)
    if dims.pos is None:
        return x
    if dims.batch is None or x.shape[dims.batch] == 1:
        return x.index_select(dims.pos, pos)
    rows = x.movedim((dims.batch, dims.pos), (0, 1))[example, pos]
    return rows.movedim(0, dims.pos - (dims.batch < dims.pos)).unsqueeze(dims.batch)


def rows_first(x: Tensor, dims: Dims) -> Tensor:
    """A packed value as [rows, ..]."""
    if dims.flat is not None:
        return x.movedim(dims.flat, 0)
    assert dims.batch is not None and dims.pos is not None
    return x.movedim((dims.batch, dims.pos), (0, 1))[0]


def rectangle(x: Tensor, dims: Dims, batch: int) -> Tensor:
    """A packed value whose rows are a whole [batch, pos] rectangle, unpacked; `rows_first` undone."""
    rows = rows_first(x, dims)
    if dims.flat is not None:
        return rows.movedim(0, dims.flat)
    assert dims.batch is not None and dims.pos is not None
    wide = rows.reshape(batch, -1, *rows.shape[1:])
    return wide.movedim((0, 1), (dims.batch, dims.pos))
