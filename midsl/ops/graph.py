"""Operations that graphs and tables are made with: entries laid out along other axes, by places known before.

Which node an entry belongs to is part of the spec, so places are static; values are whatever runs give.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from midsl.ops.axis import to_last
from midsl.ops.named import NT, as_axes
from midsl.ops.registry import op


@op("spread")
def spread(x: NT, over: str | Sequence[str], to: tuple[tuple[str, int], ...], at: tuple[int, ...]) -> NT:
    """The entries along `over` (several axes are one long axis), each added at its place along new axes.

    Args:
        to: name and length of each new axis; they come last.
        at: for each entry its place among those of `to`, row-major; -1: it goes nowhere. With no axis in
            `over`, the one entry is put at all of these places.

    Places where nothing goes hold 0; of truth values, one that any entry at a place has holds there.
    """
    data, rest = to_last(x, over) if as_axes(over) else (x.data.unsqueeze(-1), x.axes)
    if not as_axes(over):
        data = data.expand(*data.shape[:-1], len(at))
    if data.shape[-1] != len(at):
        raise ValueError(f"{data.shape[-1]} entries, and {len(at)} places")
    truth = data.dtype == torch.bool
    data = data.long() if truth else data
    places = torch.tensor(at, dtype=torch.int64, device=data.device)
    goes = torch.nonzero(places >= 0).reshape(-1)
    made = data.new_zeros((*data.shape[:-1], prod(n for _, n in to)))
    made = made.index_add(-1, places[goes], data[..., goes])
    made = made > 0 if truth else made
    return NT(made.reshape(*made.shape[:-1], *(n for _, n in to)), (*rest, *(a for a, _ in to)))


@op("numbers")
def numbers(*, values: tuple[int | float | bool, ...], axis: str) -> NT:
    """Literal numbers or truth values along an axis."""
    dtype = torch.float64 if any(isinstance(v, float) for v in values) else None
    return NT(torch.tensor(values, dtype=dtype), (axis,))


@op("lift")
def lift(x: NT, like: NT) -> NT:
    """The same values all along the axes that `like` has and `x` has not."""
    return x.expand({**{a: n for a, n in like.sizes.items() if a not in x.axes}, **x.sizes})
