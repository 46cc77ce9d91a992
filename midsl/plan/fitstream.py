"""The values that fits are made on: read of one shared pass over the data, shuffled in a bounded buffer.

An epoch is a permutation of the rows of the data, cut into blocks of which the memory holds one; the
positions of a block are shuffled, and taken some at a time. Which positions a step gets is a function of the
seed and the number of the step, so that an interrupted fit goes on with what it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor

from midsl.data.spans import span_positions
from midsl.diagnostics.model import fail
from midsl.graph.hooks import HookModel
from midsl.ir import nodes as ir
from midsl.ops.named import NT
from midsl.plan.bound import Bound
from midsl.plan.domains import Domains, Table
from midsl.plan.evaluate import Env, Evaluator
from midsl.plan.inputs import Rows
from midsl.plan.keys import keys_of
from midsl.plan.lower import Lowered, lower

BUFFER = 256 << 20
"""Bytes of values that are held at a time."""
TOKENS = 4096
"""Tokens that run through the model at a time."""


@dataclass
class Stream:
    """Values of some reads, all on the same rows, position by position."""

    bound: Bound
    reads: Sequence[ir.Read]
    batch: int
    seed: int
    buffer: int = BUFFER
    forwards: int = 0
    """Rows that ran through a model so far."""
    _block: tuple[tuple[int, int], list[Tensor]] | None = None
    _order: tuple[tuple[int, int], Tensor] | None = None
    """The permutation of the block at hand."""
    _epoch: tuple[int, int] = (0, 0)
    """The epoch at hand, and the step that it begins with."""
    _runs: list[tuple[Lowered, list[ir.Read]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = {r.run.data.digest: r.run.data for r in self.reads}
        self.part = self.bound.part(next(iter(parts.values())))
        if any(len(self.bound.part(p)) != len(self.part) for p in parts.values()):
            raise fail(
                "MI0301",
                "a fit reads paired data",
                self.reads[0].span,
                help="read and write on parts of one data set, split alike",
            )
        self.evaluator = Evaluator(self.bound, Domains(), Rows.of(self.bound, tuple(self.reads)))
        first = self.reads[0]
        self.real = _real(first, self.evaluator)
        self.counts = self.real.sum(1)
        """Positions of each row."""
        if not self.counts.sum():
            raise fail(
                "MI0301",
                "there is nothing to fit to",
                first.span,
                label="no row has these positions",
                help="select positions that the rows have, or take longer rows",
            )
        for read in self.reads[1:]:
            if not np.array_equal(_real(read, self.evaluator), self.real):
                raise fail(
                    "MI0303",
                    "what is fitted together has the same positions",
                    read.span,
                    help="select the same `pos` at each site",
                )
        by_run: dict[str, list[ir.Read]] = {}
        for r in self.reads:
            by_run.setdefault(r.run.digest, []).append(r)
        for group in by_run.values():
            engine = self.bound.engine(group[0].run.model)
            if isinstance(engine, HookModel):
                raise fail(
                    "MI0601",
                    "not implemented: fits on the hook engine",
                    group[0].span,
                    label=engine.info.why,
                    help="take a model that can be exported: `midsl sites` says how each runs",
                )
            keys = [k for r in group for k in keys_of(r.site, engine.info, self.evaluator.domains)]
            self._runs.append((lower(engine, group[0].run, keys, [], self.evaluator, project=False), group))
        width = sum(map(self._width, self.reads))
        most = int(self.counts.max())
        self.room = max(self.buffer // (4 * width), most)
        self._epochs: dict[int, list[np.ndarray]] = {}

    def _width(self, read: ir.Read) -> int:
        info = self.bound.engine(read.run.model).info
        own = (a for a in read.tensor_type.axes if a.name in _own(read))
        return prod(a.size if a.size is not None else info.sizes[a.name] for a in own)

    def blocks(self, epoch: int) -> list[np.ndarray]:
        """The rows of each block of an epoch."""
        if epoch not in self._epochs:
            order = np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(len(self.part))
            ends = self.counts[order].cumsum()
            which = np.zeros(len(order), np.int64)
            start = 0
            for i, end in enumerate(ends):  # a block takes rows while they fit
                if end - start > self.room:
                    which[i:] += 1
                    start = ends[i - 1]
            self._epochs = {epoch: [order[which == w] for w in range(which[-1] + 1)]}
        return self._epochs[epoch]

    def step(self, number: int) -> list[NT]:
        """The values of one step: axes ``batch`` and the site's own."""
        if number < self._epoch[1]:
            self._epoch = (0, 0)
        while True:
            epoch, first = self._epoch
            left = number - first
            for i, rows in enumerate(self.blocks(epoch)):
                n = int(self.counts[rows].sum())
                steps = max(1, n // self.batch)
                if left < steps:
                    return self._take(epoch, i, rows, n, left)
                left -= steps
            self._epoch = (epoch + 1, number - left)

    def _take(self, epoch: int, block: int, rows: np.ndarray, n: int, step: int) -> list[NT]:
        whole = len(self.blocks(epoch)) == 1
        key = (0, 0) if whole else (epoch, block)  # one block holds all rows: no need to run them again
        if self._block is None or self._block[0] != key:
            self._block = (key, self._values(np.sort(rows) if whole else rows))
        if self._order is None or self._order[0] != (epoch, block):
            seeds = [self.seed + (1 << 32), epoch * 65_537 + block]
            order = np.random.Generator(np.random.Philox(key=seeds)).permutation(n)
            self._order = ((epoch, block), torch.from_numpy(order))
        at = self._order[1][step * self.batch : (step + 1) * self.batch]
        return [
            NT(v.index_select(0, at), ("batch", *_own(r)))
            for v, r in zip(self._block[1], self.reads, strict=True)
        ]

    def _values(self, rows: np.ndarray) -> list[Tensor]:
        """The values at all positions of some rows: [positions, ..]."""
        found: dict[str, list[Tensor]] = {r.digest: [] for r in self.reads}
        length = int(self.part.tokens.shape[1])
        each = max(1, TOKENS // length)
        table = Table.product((), self.evaluator.domains)
        for at in range(0, len(rows), each):
            some = rows[at : at + each]
            keep = torch.from_numpy(self.real[some])
            self.forwards += len(some)
            for lowered, group in self._runs:
                with torch.no_grad():
                    captured = lowered.over(self.bound.part(group[0].run.data).take(some))
                captured.rows = Rows.of(_Some(self.bound, some), (group[0].run,))
                zero = torch.zeros(1, dtype=torch.int64)
                for r in group:
                    env = Env(table, slice(0, len(some)), captured, zero)
                    value = captured.read(r.site, env)
                    order = [a for a in ("batch", "pos") if a in value.axes]
                    data = value.permute_to((*(a for a in value.axes if a == "@"), *order, *_own(r))).data
                    data = data[0] if "@" in value.axes else data
                    data = data[keep] if "pos" in order else data[keep[:, 0]]
                    found[r.digest].append(data.float())
                lowered.release()
        return [torch.cat(found[r.digest]) for r in self.reads]


class _Some:
    """Inputs of which only some rows are at hand."""

    def __init__(self, bound: Bound, rows: np.ndarray) -> None:
        self.bound, self.rows = bound, rows

    def part(self, node: ir.Part):  # type: ignore[no-untyped-def]
        return self.bound.part(node).take(self.rows)

    def weight(self, model: ir.Node, name: str, layer: int | None) -> Tensor:
        return self.bound.weight(model, name, layer)

    def param(self, node: ir.Param) -> Tensor:
        return self.bound.param(node)


def _own(read: ir.Read) -> tuple[str, ...]:
    return tuple(a.name for a in read.tensor_type.axes if a.name not in ("batch", "pos"))


def _real(read: ir.Read, evaluator: Evaluator) -> np.ndarray:
    """Which positions of a read count: Bool [rows, positions]."""
    part = evaluator.inputs.part(read.run.data)
    pos = read.tensor_type.axis("pos")
    if pos is None:
        at = read.site.index("pos")
        if at is None:
            return np.ones((len(part), 1), bool)
        index = evaluator.grid(at).data.numpy()
        return (
            ((index >= 0) & (index < part.lengths))[:, None]
            if index.ndim
            else (part.lengths > index)[:, None]
        )
    return (
        span_positions(part, pos.span)[1]
        if pos.span
        else evaluator.rows.stretch(read.run.data.owner, "")[1].data.numpy()
    )
