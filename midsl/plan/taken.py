"""What a run by rows takes of the run it starts from, and the names that runs know each other's nodes by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from midsl.plan.edits import EditOp

if TYPE_CHECKING:
    from midsl.plan.rowed import Rowed

Static = Mapping[fx.Node, Any]


@dataclass
class Taken:
    """The base run's values for some examples; those of views that expansions made are made here."""

    of: Rowed
    rows: slice
    static: Static
    made: dict[fx.Node, Tensor] = field(default_factory=dict)

    def __call__(self, node: fx.Node) -> Tensor | None:
        if self.of.base is None:
            return None
        name = name_of(node, self.of.lowered.stable)
        if name is not None:
            return self.of.base.taken(name, self.rows)
        if isinstance(node.target, EditOp):  # the base run has no edit there
            return self(node.all_input_nodes[0])
        if node not in self.made:
            moving = [a for a in node.all_input_nodes if self.of.rowwise.kinds.get(a) != "static"]
            if any(self(a) is None for a in moving if a not in self.of.runner.attrs):
                return None  # no row of it is taken: what is asked for is padding
            args, kwargs = fx.map_arg((node.args, node.kwargs), self._arg)
            assert callable(node.target)
            self.made[node] = node.target(*args, **kwargs)
        return self.made[node]

    def _arg(self, node: fx.Node) -> Any:
        if node in self.of.runner.attrs:
            return self.of.runner.attrs[node]
        return self.static[node] if self.of.rowwise.kinds[node] == "static" else self(node)


def name_of(node: fx.Node, stable: frozenset[str]) -> str | None:
    """What other runs know a node by; None for one that an expansion made."""
    while isinstance(node.target, EditOp):
        node = node.all_input_nodes[0]
    return node.name if node.name in stable else None
