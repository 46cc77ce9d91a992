"""Bound inputs, with the rows that rollouts write: those that are there, and room for those that are not."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from midsl.data.dataset import Dataset, Part, Tokenizer
from midsl.data.written import dataset_of, with_room
from midsl.graph.hooks import HookModel
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.plan.bound import Bound


@dataclass
class Written:
    """What `bound` has, and `rows`: those of each rollout that is done, by its digest."""

    bound: Bound
    rows: dict[str, Part] = field(default_factory=dict)
    _room: dict[str, Part] = field(default_factory=dict)

    def engine(self, model: ir.Node) -> ModelGraph | HookModel:
        return self.bound.engine(model)

    def weight(self, model: ir.Node, name: str, layer: int | None) -> Tensor:
        return self.bound.weight(model, name, layer)

    def param(self, node: ir.Param) -> Tensor:
        return self.bound.param(node)

    def tokenizer(self, model: ir.Node) -> Tokenizer | None:
        return self.bound.tokenizer(model)

    def dataset(self, data: ir.Node) -> Dataset:
        """A data set; what is made of a part's rows is one of one part."""
        room = _room_of(data)
        if room is None:
            return self.bound.dataset(data)
        return dataset_of(self.part(ir.Part(data)), self.dataset(room.part.data))

    def part(self, node: ir.Part) -> Part:
        """The rows of a part; before a rollout is done, as long as they may become, with nothing written."""
        room = _room_of(node.data)
        if room is None:
            return self.bound.part(node)
        done = self.rows.get(node.data.digest)
        if done is not None:
            return done
        if room.digest not in self._room:
            self._room[room.digest] = with_room(self.part(room.part), room.steps)
        return self._room[room.digest]

    def known(self, node: ir.Part) -> bool:
        """Whether the rows of a part are there."""
        return not isinstance(node.data, ir.Rollout) or node.data.digest in self.rows


def _room_of(data: ir.Node) -> ir.Room | None:
    if isinstance(data, ir.Rollout):
        data = data.room.data
    return data if isinstance(data, ir.Room) else None
