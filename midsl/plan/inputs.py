"""What evaluation needs of the outside: rows of data parts, weights, and which rows are real."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from midsl.data.dataset import Part
from midsl.data.spans import span_positions
from midsl.ir import nodes as ir
from midsl.ops.named import NT


class Inputs(Protocol):
    """Bound data and models."""

    def part(self, node: ir.Part) -> Part:
        """The rows of a part."""
        ...

    def weight(self, model: ir.Node, name: str, layer: int | None) -> Tensor:
        """A weight by field name, in TransformerLens' orientation."""
        ...

    def param(self, node: ir.Param) -> Tensor:
        """A tensor of a decomposition."""
        ...


@dataclass
class Rows:
    """Data parts by axis owner, and named tensors made from their columns."""

    inputs: Inputs
    owners: dict[str, ir.Part] = field(default_factory=dict)
    memo: dict[tuple[str, ...], NT] = field(default_factory=dict)

    @staticmethod
    def of(inputs: Inputs, roots: tuple[ir.Node, ...]) -> Rows:
        """Index the parts under some roots by the owner of their axes."""
        owners = {n.owner: n for n in ir.walk(*roots) if isinstance(n, ir.Part)}
        return Rows(inputs, owners)

    def column(self, node: ir.Column, part: Part | None = None) -> NT:
        """A column as a named tensor: [batch], [batch, pos] for tokens, [batch, d_state] for states."""
        key = ("column", node.digest)
        if key not in self.memo:
            part = self.inputs.part(node.part)  # type: ignore[arg-type]
            if node.name == "tokens":
                value = NT(torch.from_numpy(np.ascontiguousarray(part.tokens)), ("batch", "pos"))
            elif node.name == "next":
                width = int((part.lengths - 1).max(initial=0))
                value = NT(
                    torch.from_numpy(np.ascontiguousarray(part.tokens[:, 1 : 1 + width])), ("batch", "pos")
                )
            else:
                found = part.columns[node.name]
                axes = ("batch", "d_state") if found.kind == "state" else ("batch",)
                value = NT(torch.as_tensor(np.asarray(found.values)), axes)
            self.memo[key] = value
        return self.memo[key]

    def member(self, node: ir.Member) -> NT:
        """Which rows a column gives a label, Bool [batch], or each of its labels: Bool [batch, group]."""
        key = ("member", node.digest)
        if key not in self.memo:
            part = self.inputs.part(node.column.part)  # type: ignore[arg-type]
            values = np.asarray(part.columns[node.column.name].values)
            if node.label is not None:
                self.memo[key] = NT(torch.from_numpy(values == np.asarray(node.label)), ("batch",))
            else:
                group = node.tensor_type.axes[-1]
                is_each = values[:, None] == np.asarray(group.labels)[None, :]
                self.memo[key] = NT(torch.from_numpy(is_each), ("batch", group.name))
        return self.memo[key]

    def stretch(self, owner: str, span: str) -> tuple[NT, NT]:
        """Positions of a stretch and which are real: int64 and Bool [batch, pos]."""
        key = ("stretch", owner, span)
        if key not in self.memo:
            at, real = span_positions(self.inputs.part(self.owners[owner]), span)
            self.memo[key] = NT(torch.from_numpy(at), ("batch", "pos"))
            self.memo[(*key, "real")] = NT(torch.from_numpy(np.ascontiguousarray(real)), ("batch", "pos"))
        return self.memo[key], self.memo[(*key, "real")]

    def shared(self, owner: str, batch: str) -> bool:
        """Whether positions of an owner are of the rows that a `batch` axis counts."""
        part = self.owners.get(owner)
        return owner == batch or (part is not None and part.rows.owner == batch)

    def lengths(self, owner: str) -> NT:
        """Row lengths: int64 [batch]."""
        return NT(torch.from_numpy(np.asarray(self.inputs.part(self.owners[owner]).lengths)), ("batch",))
