"""Reading sites of a run that went by rows: a single position is gathered, the rest made whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from midsl.backends.rowindex import rectangle
from midsl.backends.rows import RowRun
from midsl.ir import nodes as ir
from midsl.ops.index import select
from midsl.ops.named import NT
from midsl.plan.capture import Captured, to_named
from midsl.plan.edits import Chunk
from midsl.plan.evaluate import Env
from midsl.plan.keys import Key
from midsl.plan.positions import place, single

if TYPE_CHECKING:
    from midsl.plan.rowed import Rowed


@dataclass
class RowCaptured(Captured):
    """What one chunk of a run by rows gave; `values` holds what has been made whole of it."""

    rowed: Rowed | None = None
    done: RowRun | None = None
    chunk: Chunk | None = None

    def keys(self) -> list[Key]:
        assert self.rowed is not None
        return list(self.rowed.outputs)

    def _at(self, site: ir.Site, key: Key, env: Env) -> NT:
        assert self.rowed is not None and self.done is not None and self.chunk is not None
        index = site.index("pos")
        swept = env.table is not None and bool(env.table.sweeps)
        table = env.table if env.table is not None else self.chunk.table
        at = place(index, table, self.chunk.rows, self.rowed.evaluator) if single(index) else None
        if at is None:
            if key not in self.values:
                lanes = torch.arange(self.chunk.table.size)
                whole = self.done.dense(self.rowed.outputs[key], lanes)
                self.values[key] = self._named(key, whole, len(lanes))
            return super()._at(site, key, env)
        points = table.size if swept else 1
        lanes = env.lanes if swept and env.lanes is not None else torch.zeros(points, dtype=torch.int64)
        height, width = self.done.shape
        at = at.expand(points, height) if at.shape[0] == points else at[:1].expand(points, height)
        pos = at.clamp(0, width - 1).reshape(-1)
        lane = lanes[:, None].expand(points, height).reshape(-1)
        example = torch.arange(height).expand(points, height).reshape(-1)
        node = self.rowed.outputs[key]
        packed = self.done.at(node, lane, example, pos)
        named = self._named(key, rectangle(packed, self.done.dims(node), points * height), points)
        return named if swept else NT(named.data[0], named.axes[1:])

    def _named(self, key: Key, value: torch.Tensor, lanes: int) -> NT:
        assert self.rowed is not None
        lowered = self.rowed.lowered
        return to_named(value, lowered.nodes[key].layout, lowered.axes[key], lanes, lowered.sizes)

    def select(self, site: ir.Site, x: NT, axis: str, index: ir.Node, env: Env) -> NT:
        if axis == "pos" and single(index) and x.size("pos") == 1:  # picked already
            return select(x, axis, 0)
        return super().select(site, x, axis, index, env)
