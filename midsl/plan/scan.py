"""Finding where units are largest in one pass: of ``contexts`` a run by pieces keeps the k best so far.

A piece of rows adds what is better than the worst that is kept of a unit, with what stands around it, and is
then gone: never is there a value of all rows and all units. Places are ordered by value, then by row and
position, so it does not matter in what pieces they come. Where a lens keeps only k features at each position,
only these are looked at (`Sparse`). What comes of it is what ``midsl.ops.contexts`` says of the whole value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from midsl.ir import nodes as ir
from midsl.ops.contexts import Found, axes_of
from midsl.ops.elementwise import as_float
from midsl.ops.named import NT
from midsl.plan.chunk import Piece
from midsl.plan.evaluate import POINT, Env, Evaluator, Stored

DATA = ("batch", "pos")
CROWD = 4
"""So many times the places that are kept may come of one piece before the worse are left out first."""
AT_ONCE = 4096
"""Places around which entries of sparse codes are compared at once."""


class Entries(Protocol):
    """The values of one piece at one point: [positions, units], however they are held."""

    @property
    def real(self) -> Tensor:
        """Which positions count: [positions]."""
        ...

    def active(self, above: float) -> tuple[Tensor, Tensor]:
        """How many positions of each unit are above a value, and the sum of these: [units]."""
        ...

    def better(self, floor: Tensor, above: float, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Entries of at least `floor` [units] and above a value: positions, units and values, each [entries].

        Some that are not among the best k of their unit may be left out.
        """
        ...

    def around(self, at: Tensor, unit: Tensor, length: int, window: int) -> tuple[Tensor, Tensor]:
        """Values of units at positions and beside them, and whether there are any: [entries, shift]."""
        ...


@dataclass(frozen=True)
class Dense:
    """Values as they are: [positions, units]."""

    x: Tensor
    real: Tensor

    def active(self, above: float) -> tuple[Tensor, Tensor]:
        """Counts and sums."""
        on = self._on(above)
        return on.sum(0), torch.where(on, self.x, self._zero).sum(0, dtype=torch.float64)

    def better(self, floor: Tensor, above: float, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of a crowd only those that are as good as the k-th of this piece."""
        on = self._on(above) & (self.x >= floor)
        if int(on.sum()) > CROWD * k * self.x.shape[1] and self.x.shape[0] > k:
            low = torch.where(on, self.x, torch.full_like(self._zero, -torch.inf))
            on &= self.x >= low.topk(k, dim=0).values[-1]
        at, unit = on.nonzero(as_tuple=True)
        return at, unit, self.x[at, unit]

    def around(self, at: Tensor, unit: Tensor, length: int, window: int) -> tuple[Tensor, Tensor]:
        """Taken from where they stand."""
        there, inside = beside(at, self.real, length, window)
        found = self.x[there, unit[:, None]]
        return torch.where(inside, found, self._zero), inside

    def _on(self, above: float) -> Tensor:
        return (self.x > above) & self.real[:, None]

    @property
    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=self.x.dtype, device=self.x.device)


@dataclass(frozen=True)
class Sparse:
    """A few units at each position, all others 0: which, and their values, [positions, few]."""

    index: Tensor
    value: Tensor
    real: Tensor
    units: int

    def active(self, above: float) -> tuple[Tensor, Tensor]:
        """Counts and sums; `above` is 0 or more, so that zeros do not count."""
        on = (self.value > above) & self.real[:, None]
        which = self.index[on]
        count = torch.bincount(which, minlength=self.units)
        total = torch.zeros(self.units, dtype=torch.float64, device=which.device)
        return count, total.index_add_(0, which, self.value[on].double())

    def better(self, floor: Tensor, above: float, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Those of the few that are good enough."""
        on = (self.value > above) & self.real[:, None] & (self.value >= floor[self.index])
        at, few = on.nonzero(as_tuple=True)
        return at, self.index[at, few], self.value[at, few]

    def around(self, at: Tensor, unit: Tensor, length: int, window: int) -> tuple[Tensor, Tensor]:
        """Looked for among the few of each position."""
        there, inside = beside(at, self.real, length, window)
        found = self.value.new_zeros(there.shape)
        for i in range(0, len(at), AT_ONCE):
            some = there[i : i + AT_ONCE]
            same = self.index[some] == unit[i : i + AT_ONCE, None, None]
            found[i : i + AT_ONCE] = (self.value[some] * same).sum(-1)
        return torch.where(inside, found, torch.zeros_like(found)), inside


def beside(at: Tensor, real: Tensor, length: int, window: int) -> tuple[Tensor, Tensor]:
    """Positions around positions (kept inside the piece), and whether they are of the same row and count."""
    shift = torch.arange(-window, window + 1, device=at.device)
    place = at[:, None] % length + shift
    there = (at[:, None] + shift).clamp(0, len(real) - 1)
    return there, (place >= 0) & (place < length) & real[there]


# ---------------------------------------------------------------- the k best so far


@dataclass(frozen=True)
class Update:
    """What one piece changes: the new entries of some units, and what it counted of all."""

    points: list[tuple[Tensor, Found]]
    """For each point of the piece: which units have new entries, and all that is known of each point."""
    length: int
    units: tuple[str, ...]
    sizes: tuple[int, ...]


@dataclass
class Scan:
    """One pass: the k best places of each unit, at each point of the sweeps."""

    node: ir.Apply
    lanes: int
    state: list[Found] = field(default_factory=list)
    """What is known, by point."""
    length: int = 0
    units: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        said = dict(self.node.attrs)
        self.k, self.window, self.start = (int(said[n]) for n in ("k", "window", "start"))  # type: ignore[arg-type]
        self.above = float(said["above"])  # type: ignore[arg-type]

    def look(self, evaluator: Evaluator, env: Env, memo: dict[str, NT], piece: Piece) -> Update:
        """What a piece changes; nothing is changed yet."""
        (node,) = self.node.args
        mask = evaluator.counted(node, DATA, env)
        points: list[tuple[Tensor, Found]] = []
        many = env.table.size if env.table is not None else 1
        more = many // len(piece.lanes)
        arrived = Arrived.of(node, evaluator, env, memo, self.above)
        for i, entries in enumerate(arrived.points(mask, many)):
            place = int(piece.lanes[i // more]) * more + i % more
            known = self.state[place] if self.state else None
            points.append(self._merged(known, entries, arrived, piece.rows.start))
        return Update(points, arrived.length, arrived.units, arrived.sizes)

    def put(self, update: Update, piece: Piece) -> None:
        """Take in what a piece changes."""
        self.length, self.units, self.sizes = update.length, update.units, update.sizes
        more = len(update.points) // len(piece.lanes)
        if not self.state:
            self.state = [self._empty(update.points[0][1]) for _ in range(self.lanes * more)]
        for i, (which, new) in enumerate(update.points):
            place = int(piece.lanes[i // more]) * more + i % more
            old = self.state[place]
            for name in ("value", "at", "around", "inside"):
                getattr(old, name)[which] = getattr(new, name)
            sums = {n: getattr(old, n) + getattr(new, n) for n in ("active", "total", "seen")}
            self.state[place] = replace(old, **sums)

    def stored(self, node: ir.Node, sweeps: tuple[ir.Sweep, ...]) -> Stored:
        """What is told of the pass under one name: "@" first if there are sweeps."""
        assert isinstance(node, ir.Apply)
        gives = str(dict(node.attrs)["gives"])
        data = torch.stack([f.give(gives, self.length, self.start) for f in self.state])
        return self._named(data, axes_of(gives), sweeps)

    def places(self, sweeps: tuple[ir.Sweep, ...]) -> Stored:
        """Row x length + position of each place, [.., rank]: what was chosen, to be looked at again."""
        data = torch.stack([f.at for f in self.state])
        return self._named(data, ("rank",), sweeps)

    def _named(self, data: Tensor, new: tuple[str, ...], sweeps: tuple[ir.Sweep, ...]) -> Stored:
        data = data.reshape(len(self.state), *self.sizes, *data.shape[2:])
        return Stored(sweeps, NT(data, (POINT, *self.units, *new))).over_sweeps

    def _empty(self, like: Found) -> Found:
        n, wide = len(like.active), 2 * self.window + 1
        new = like.value.new_full
        return Found(
            new((n, self.k), -torch.inf),
            like.at.new_full((n, self.k), -1),
            new((n, self.k, wide), 0.0),
            like.inside.new_zeros((n, self.k, wide)),
            torch.zeros_like(like.active),
            torch.zeros_like(like.total),
            torch.zeros_like(like.seen),
        )

    def _merged(
        self, known: Found | None, entries: Entries, arrived: Arrived, first: int
    ) -> tuple[Tensor, Found]:
        """The units of which a piece has better places than are known, and their places then."""
        count, total = entries.active(self.above)
        seen = entries.real.sum().expand(len(count)).clone()
        low = torch.full((), -torch.inf, dtype=arrived.dtype, device=count.device)
        floor = low.expand(len(count)) if known is None else known.value[:, -1]  # -inf while there is room
        at, unit, value = entries.better(floor, self.above, self.k)
        which, unit = torch.unique(unit, return_inverse=True)
        k = self.k
        old_value, old_at = value.new_empty(0), at.new_empty(0)
        old_unit, old_slot = unit.new_empty(0), unit.new_empty(0)
        if known is not None:
            old_unit, rank = (known.at[which] >= 0).nonzero(as_tuple=True)
            old_slot = which[old_unit] * k + rank
            old_value, old_at = (x.flatten()[old_slot] for x in (known.value, known.at))
        values, ats = torch.cat([old_value, value]), torch.cat([old_at, at + first * arrived.length])
        units = torch.cat([old_unit, unit])
        order = _ordered(units, values, ats)
        units = units[order]
        begins = torch.searchsorted(units, torch.arange(len(which), device=units.device))
        rank = torch.arange(len(units), device=units.device) - begins[units]
        order, slot = order[rank < k], (units * k + rank)[rank < k]
        n, wide = len(which), 2 * self.window + 1
        new_value = values.new_full((n * k,), -torch.inf).index_put_((slot,), values[order])
        new_at = ats.new_full((n * k,), -1).index_put_((slot,), ats[order])
        around = values.new_zeros((n * k, wide))
        inside = torch.zeros((n * k, wide), dtype=torch.bool, device=slot.device)
        was, came = order < len(old_slot), order >= len(old_slot)
        if known is not None:
            from_ = old_slot[order[was]]
            around[slot[was]] = known.around.flatten(0, 1)[from_]
            inside[slot[was]] = known.inside.flatten(0, 1)[from_]
        fresh = order[came] - len(old_slot)
        around[slot[came]], inside[slot[came]] = entries.around(
            at[fresh], which[unit[fresh]], arrived.length, self.window
        )
        found = Found(
            new_value.reshape(n, k),
            new_at.reshape(n, k),
            around.reshape(n, k, wide),
            inside.reshape(n, k, wide),
            count,
            total,
            seen,
        )
        return which, found


def _ordered(units: Tensor, values: Tensor, ats: Tensor) -> Tensor:
    """An order by unit, then from the greatest value, then from the earliest place."""
    order = ats.argsort(stable=True)
    order = order[values[order].argsort(descending=True, stable=True)]
    return order[units[order].argsort(stable=True)]


# ---------------------------------------------------------------- what a piece has


@dataclass(frozen=True)
class Arrived:
    """The value of a piece, its axes told apart; `few` are the entries that are kept of a sparse code."""

    value: NT
    few: tuple[NT, NT] | None
    units: tuple[str, ...]
    sizes: tuple[int, ...]
    length: int

    @property
    def dtype(self) -> torch.dtype:
        return self.value.data.dtype

    @classmethod
    def of(cls, node: ir.Node, evaluator: Evaluator, env: Env, memo: dict[str, NT], above: float) -> Arrived:
        """Evaluate a value; of a code that keeps the k greatest along its one axis, only these."""
        names = tuple(a for a in node.tensor_type.names if a not in DATA)
        swept = {a.name for s in ir.sweeps_of(node) for a in s.axes}
        units = tuple(a for a in names if a not in swept)
        if above >= 0 and _keeps_few(node, units) and node.digest not in memo:
            x = evaluator.eval(node.args[0], env, memo)
            x = NT(as_float(x.data.detach()), x.axes)
            found = _few(x, units[0], int(dict(node.attrs)["k"]))  # type: ignore[arg-type]
            if found is not None:
                return cls(x, found, units, (x.size(units[0]),), x.size("pos"))
        x = evaluator.eval(node, env, memo)
        x = NT(as_float(x.data.detach()), x.axes)
        return cls(x, None, units, tuple(x.size(a) for a in units), x.size("pos"))

    def points(self, mask: NT | None, many: int) -> Iterator[Entries]:
        """What there is at each point of the piece."""
        rows = self.value.size("batch")
        for i in range(many):
            real = torch.ones(rows, self.length, dtype=torch.bool, device=self.value.data.device)
            if mask is not None:
                real = real & self._at(mask, i).expand({"batch": rows, "pos": self.length}).data
            if self.few is None:
                x = self._at(self.value, i).permute_to((*DATA, *self.units)).data
                yield Dense(x.reshape(rows * self.length, -1), real.reshape(-1))
            else:
                index, value = (
                    self._at(n, i).permute_to((*DATA, "few")).data.flatten(0, 1) for n in self.few
                )
                yield Sparse(index, value, real.reshape(-1), self.sizes[0])

    @staticmethod
    def _at(x: NT, i: int) -> NT:
        if POINT not in x.axes:
            return x
        return NT(x.data.select(x.dim(POINT), i), tuple(a for a in x.axes if a != POINT))


def _keeps_few(node: ir.Node, units: tuple[str, ...]) -> TypeGuard[ir.Apply]:
    """Whether a value is 0 but for a few entries along its one axis."""
    return (
        isinstance(node, ir.Apply)
        and node.op == "top_mask"
        and node.over == units
        and "per" not in dict(node.attrs)
    )


def _few(x: NT, axis: str, k: int) -> tuple[NT, NT] | None:
    """The k greatest along an axis: which, and their values; None where there are no more than k."""
    rest = tuple(a for a in x.axes if a != axis)
    data = x.permute_to((*rest, axis)).data
    if data.shape[-1] <= k:
        return None
    top = data.topk(k + 1, dim=-1)
    index, value = top.indices[..., :k], top.values[..., :k]
    draw = (value[..., -1] == top.values[..., k]) & (value[..., -1] != 0)
    if bool(draw.any()):  # of equals the first is kept
        some = data[draw]
        index[draw] = torch.sort(some, dim=-1, descending=True, stable=True).indices[..., :k]
        value[draw] = some.gather(-1, index[draw])
    return NT(index, (*rest, "few")), NT(value, (*rest, "few"))
