"""Where values are largest, and what stands around: the plain definition, on whole values.

A run over much data goes by pieces and keeps no whole value (see ``midsl.plan.scan``); what comes of it is
what stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from midsl.ops.axis import to_last
from midsl.ops.elementwise import as_float
from midsl.ops.named import NT, joint_sizes
from midsl.ops.registry import op

RANK, SHIFT = "rank", "shift"
GIVES = ("value", "row", "pos", "around", "inside", "density", "mean")
"""What is told of each unit, a unit being an entry of all axes but those of the data."""


@dataclass(frozen=True)
class Found:
    """The places of each unit, best first: all of it along `units`, flattened.

    value: [units, rank]; at: int64 [units, rank], row x length + position in the stretch, -1 where there is
    none; around, inside: [units, rank, shift]; active, total: at how many positions a unit is active and the
    sum there, [units]; seen: how many positions count, [units].
    """

    value: Tensor
    at: Tensor
    around: Tensor
    inside: Tensor
    active: Tensor
    total: Tensor
    seen: Tensor

    def give(self, what: str, length: int, start: int) -> Tensor:
        """One of `GIVES`, of rows that are `length` long and begin at position `start`."""
        there = self.at >= 0
        nan = torch.full((), torch.nan, dtype=self.value.dtype, device=self.value.device)
        match what:
            case "value":
                return torch.where(there, self.value, nan)
            case "row":
                return torch.where(there, self.at.div(max(length, 1), rounding_mode="floor"), -1)
            case "pos":
                return torch.where(there, self.at % max(length, 1) + start, -1)
            case "around":
                return torch.where(self.inside, self.around, nan)
            case "inside":
                return self.inside
            case "density":
                return self.active / self.seen.double()
            case "mean":
                return self.total.double() / self.active
        raise ValueError(f"nothing is called {what!r}")


def best_places(x: Tensor, on: Tensor, k: int) -> Tensor:
    """The k greatest of the last axis where `on`, of equals the first: indices, -1 where there are none."""
    low = torch.where(on, x, torch.full((), -torch.inf, dtype=x.dtype, device=x.device))
    order = torch.sort(low, dim=-1, descending=True, stable=True).indices
    first = torch.sort((~on).gather(-1, order).long(), dim=-1, stable=True).indices[..., :k]
    at = order.gather(-1, first)
    at = torch.where(on.gather(-1, at), at, -1)
    return torch.nn.functional.pad(at, (0, k - at.shape[-1]), value=-1)


def gather_around(x: Tensor, at: Tensor, real: Tensor, length: int, window: int) -> tuple[Tensor, Tensor]:
    """What stands at places and beside them, in the same row: [.., rank, shift], and whether anything does.

    x, real: [.., rows x length]; at: [.., rank], -1 is nowhere.
    """
    shift = torch.arange(-window, window + 1, device=at.device)
    place = at.clamp(min=0)[..., None] % max(length, 1) + shift
    there = at.clamp(min=0)[..., None] + shift
    inside = (at >= 0)[..., None] & (place >= 0) & (place < length)
    there = there.clamp(0, x.shape[-1] - 1)
    flat = there.flatten(-2)
    found = x.gather(-1, flat).reshape(there.shape)
    inside = inside & real.gather(-1, flat).reshape(there.shape)
    return torch.where(inside, found, torch.zeros((), dtype=x.dtype, device=x.device)), inside


def laid_out(x: NT, mask: NT | None) -> tuple[Tensor, Tensor, tuple[str, ...], int]:
    """Values and what counts, [.., rows x positions], the axes besides, and how long a row is."""
    mask = NT(torch.ones((), dtype=torch.bool, device=x.data.device), ()) if mask is None else mask
    sizes = joint_sizes(x, mask)
    (data, rest), (real, _) = (to_last(n.expand(sizes), ("batch", "pos")) for n in (x, mask))
    return as_float(data), real, rest, x.size("pos")


@op("contexts")
def contexts(
    x: NT,
    over: Sequence[str],
    k: int,
    window: int,
    above: float,
    start: int,
    gives: str,
    mask: NT | None = None,
) -> NT:
    """Where each unit is largest over rows and positions, or what stands there: see `GIVES`.

    Args:
        x: along `batch`, `pos` and the axes of units.
        over: these two axes.
        k: how many places are kept of each unit, greatest first; of equals the earliest row, then position.
        window: how many positions are told on each side of one.
        above: a position is active, and may be kept, where the value is greater.
        start: where in its row the first position stands.
        mask: Bool: which positions count.

    New axes are `rank` and `shift`.
    """
    data, real, rest, length = laid_out(x, mask)
    at = best_places(data, real & (data > above), k)
    found = found_at(at, data, real, length, window, above)
    return NT(found.give(gives, length, start), (*rest, *axes_of(gives)))


def found_at(at: Tensor, data: Tensor, real: Tensor, length: int, window: int, above: float) -> Found:
    """What stands at places, and how active units are: at [units, rank]; data, real [units, positions]."""
    on = real & (data > above)
    around, inside = gather_around(data, at, real, length, window)
    value = data.gather(-1, at.clamp(min=0))
    zero = torch.zeros((), dtype=data.dtype, device=data.device)
    total = torch.where(on, data, zero).sum(-1)
    return Found(value, at, around, inside, on.sum(-1), total, real.sum(-1))


def axes_of(gives: str) -> tuple[str, ...]:
    """The new axes of what is told.

    >>> axes_of("around"), axes_of("density")
    (('rank', 'shift'), ())
    """
    if gives in ("density", "mean"):
        return ()
    return (RANK, SHIFT) if gives in ("around", "inside") else (RANK,)


@op("around")
def around(tokens: NT, row: NT, pos: NT, window: int) -> NT:
    """The tokens at places and beside them, [.., shift]; 0 beyond a row, and where there is no place.

    tokens: int64 along `batch` and `pos`; row, pos: int64 along the same axes, -1 for no place.
    """
    ids = tokens.permute_to(("batch", "pos")).data
    pos = pos.permute_to(row.axes)
    place = pos.data[..., None] + torch.arange(-window, window + 1, device=ids.device)
    there = (row.data[..., None] >= 0) & (place >= 0) & (place < ids.shape[1])
    found = ids[row.data.clamp(min=0)[..., None].expand(place.shape), place.clamp(0, ids.shape[1] - 1)]
    return NT(torch.where(there, found, 0), (*row.axes, SHIFT))


@op("top_values")
def top_values(x: NT, k: int, over: str, gives: str, least: bool = False) -> NT:
    """The k greatest along an axis, best first along `rank`: their `value`, or the `index` of each.

    Of equals the first. `least`: the smallest instead.
    """
    data, rest = to_last(x, over)
    order = torch.sort(data, dim=-1, descending=not least, stable=True).indices[..., :k]
    found = order if gives == "index" else data.gather(-1, order)
    return NT(found, (*rest, RANK))
