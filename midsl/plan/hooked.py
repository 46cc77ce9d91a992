"""A run on the hook engine: whole forwards with module hooks, for models that cannot be exported.

It has the same face as a lowered graph. Nothing is cut short, so its FLOPs are not counted; a block
counts as one layer for every token.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from midsl.backends.eager import Counts
from midsl.diagnostics.model import fail
from midsl.graph.hooks import HookModel
from midsl.graph.sites import SiteConflict
from midsl.ir import nodes as ir
from midsl.plan.capture import Captured, to_named
from midsl.plan.edits import Chunk, EditOp
from midsl.plan.evaluate import Evaluator
from midsl.plan.keys import Key, axes_of, edits_by_key
from midsl.source import Span


@dataclass
class Hooked:
    """A run ready to go on the hook engine."""

    model: HookModel
    captures: tuple[Key, ...]
    axes: dict[Key, tuple[str, ...]]
    ops: tuple[EditOp, ...]
    run_node: ir.Forward
    evaluator: Evaluator
    projection: None = None

    def count(self, rows: int, lanes: int, length: int) -> Counts:
        """One unit per block and row: see ``Session._whole``."""
        return Counts(by_block=dict.fromkeys(range(self.model.info.sizes.get("layer", 0)), rows * lanes))

    def shapes(self, prefix: tuple[Tensor, Tensor], lanes: int) -> Counts:
        """Whole forwards: no part is shared."""
        return self.count(int(prefix[0].shape[0]), lanes, int(prefix[0].shape[1]))

    def prefix(
        self, tokens: Tensor, mask: Tensor, rows: slice, counts: Counts, known: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Nothing runs ahead of the lanes."""
        return tokens[rows], mask[rows]

    def run(self, prefix: tuple[Tensor, Tensor], chunk: Chunk, counts: Counts) -> Captured:
        """Run one chunk of lanes, as ``Lowered.run``."""
        for op in self.ops:
            op.chunk = chunk
        lanes = chunk.table.size
        ids, attend = prefix[0].repeat(lanes, 1), prefix[1].repeat(lanes, 1)
        counts.add(self.count(int(prefix[0].shape[0]), lanes, int(prefix[0].shape[1])))
        try:
            found = self.model.run(
                ids, attend, {op.key: partial(self.edited, op) for op in self.ops}, self.captures
            )
        except SiteConflict as err:
            raise fail(
                "MI0403",
                str(err),
                self.run_node.span,
                help="`midsl sites` lists what can be read, and why the rest cannot",
            ) from None
        values = {
            key: to_named(
                fitting(key, found[key], axes, self.run_node.span), axes, axes, lanes, self.model.info.sizes
            )
            for key, axes in ((key, self.axes[key]) for key in self.captures)
        }
        return Captured(self.run_node, values, self.evaluator.rows, self.evaluator.domains)

    def edited(self, op: EditOp, x: Tensor) -> Tensor:
        """Apply the edits at one site."""
        return op(fitting(op.key, x, op.axes, self.run_node.span))

    def mark(self) -> object:
        """An unfinished chunk leaves no trace here."""
        return None

    def back_to(self, mark: object) -> None:
        """Nothing to undo."""

    def release(self) -> None:
        """Let go of the latest chunk."""
        for op in self.ops:
            op.chunk = None


def fitting(key: Key, x: Tensor, axes: tuple[str, ...], span: Span) -> Tensor:
    """Return the value of a module if it has as many axes as the spec names (MI0303)."""
    if x.dim() != len(axes):
        raise fail(
            "MI0303",
            f"{key[0]} has {x.dim()} axes, of sizes {', '.join(map(str, x.shape))}",
            span,
            label=f"the spec names {len(axes)}: {', '.join(axes)}",
            help="name each of them: `site x: Site[batch, pos, d] = ...`",
        )
    return x


def hook(model: HookModel, run: ir.Forward, captures: Collection[Key], evaluator: Evaluator) -> Hooked:
    """Prepare a run on the hook engine."""
    writes = edits_by_key(run, model.info, evaluator.domains)
    axes = {key: axes_of(model.info, key) for key in {*captures, *writes}}
    ops = tuple(
        EditOp(key, axes[key], axes[key], model.info.sizes, tuple(edits), run, evaluator)
        for key, edits in writes.items()
    )
    return Hooked(model, tuple(dict.fromkeys(captures)), axes, ops, run, evaluator)
