"""Points of sweeps while a plan runs: their coordinates, and tables of points over several sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from midsl.ir import nodes as ir


@dataclass
class Domains:
    """The points of every sweep, by digest; computed ones are added when their stage is done."""

    points: dict[str, tuple[tuple[ir.Scalar, ...], ...]] = field(default_factory=dict)
    _columns: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def size(self, sweep: ir.Sweep) -> int:
        """The number of points."""
        return len(self.points[sweep.digest])

    def known(self, sweep: ir.Sweep) -> bool:
        return sweep.digest in self.points

    def column(self, sweep: ir.Sweep, index: int) -> Tensor:
        """One coordinate of every point: [points]; text coordinates have no tensor."""
        key = (sweep.digest, index)
        if key not in self._columns:  # the points of a sweep never change once they are known
            values = [p[index] for p in self.points[sweep.digest]]
            kind = torch.float64 if any(isinstance(v, float) for v in values) else torch.int64
            kind = torch.bool if values and all(isinstance(v, bool) for v in values) else kind
            self._columns[key] = torch.tensor(values, dtype=kind)
        return self._columns[key]

    def is_at(self, sweep: ir.Sweep, index: int, label: ir.Scalar) -> Tensor:
        """Whether a coordinate of every point is that: Bool [points]."""
        return torch.tensor([p[index] == label for p in self.points[sweep.digest]])

    def grid(self, sweep: ir.Sweep) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Names and sizes of the axes that the points make: one per column if dense, else one."""
        if is_dense(sweep):
            n = self.points[sweep.digest]
            return tuple(a.name for a in sweep.axes), tuple(
                len(dict.fromkeys(p[i] for p in n)) for i in range(len(sweep.axes))
            )
        return (sweep.axes[0].name,), (self.size(sweep),)


def is_dense(sweep: ir.Sweep) -> bool:
    """Whether a sweep has one axis per column."""
    return len(sweep.axes) == len(sweep.columns)


@dataclass(frozen=True)
class Table:
    """Some points over some sweeps, one row each: ``index[digest]`` is int64 [points]."""

    sweeps: tuple[ir.Sweep, ...]
    index: dict[str, Tensor]
    size: int

    @staticmethod
    def product(sweeps: Sequence[ir.Sweep], domains: Domains) -> Table:
        """Every combination, row-major in the order of the sweeps; one empty row for no sweeps."""
        sizes = [domains.size(s) for s in sweeps]
        total = 1
        for n in sizes:
            total *= n
        flat = torch.arange(total)
        index: dict[str, Tensor] = {}
        for s, n in reversed(list(zip(sweeps, sizes, strict=True))):
            index[s.digest] = flat % n
            flat = flat // n
        return Table(tuple(sweeps), index, total)

    def rows(self, at: Tensor) -> Table:
        """Some of the rows."""
        return replace(self, index={d: i[at] for d, i in self.index.items()}, size=int(at.numel()))

    def extend(self, sweeps: Sequence[ir.Sweep], domains: Domains) -> tuple[Table, Tensor]:
        """Each row with every combination of more sweeps; also which row each one came from."""
        more = Table.product(sweeps, domains)
        source = torch.arange(self.size).repeat_interleave(more.size)
        index = {d: i[source] for d, i in self.index.items()}
        index |= {d: i.repeat(self.size) for d, i in more.index.items()}
        return Table((*self.sweeps, *sweeps), index, self.size * more.size), source

    def flat(self, sweeps: Sequence[ir.Sweep], domains: Domains) -> Tensor:
        """Each row's place in the product of some of its sweeps: int64 [points]."""
        at = torch.zeros(self.size, dtype=torch.int64)
        for s in sweeps:
            at = at * domains.size(s) + self.index[s.digest]
        return at

    @cached_property
    def digests(self) -> frozenset[str]:
        return frozenset(s.digest for s in self.sweeps)
