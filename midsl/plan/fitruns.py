"""A loss that depends on runs: some rows of the data at a time, with gradients through the edits.

The runs under the loss are done in the order in which they need each other. Those that do not depend on the
parameters are done once, for all rows, before the first step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from midsl.data.dataset import Part
from midsl.diagnostics.model import fail
from midsl.graph.hooks import HookModel
from midsl.ir import nodes as ir
from midsl.ops.named import NT
from midsl.plan.bind import Binder
from midsl.plan.domains import Domains, Table
from midsl.plan.evaluate import Env, Evaluator, Stored
from midsl.plan.fitstream import TOKENS
from midsl.plan.inputs import Rows
from midsl.plan.keys import keys_of
from midsl.plan.lower import Lowered, lower


@dataclass
class RunLoss:
    """The loss at some rows, as a function of the step; `param` gives tensors as they stand."""

    binder: Binder
    loss: ir.Node
    param: Callable[[ir.Param], Tensor]
    batch: int
    seed: int
    rows: np.ndarray = field(init=False)
    fixed: dict[str, NT] = field(default_factory=dict)
    """Reads of runs that do not depend on the parameters, for all rows."""

    def __post_init__(self) -> None:
        self.runs = [n for n in ir.walk(self.loss) if isinstance(n, ir.Forward)]  # children come first
        parts = {r.data.digest: r.data for r in self.runs}
        sizes = {len(self.binder.part(p)) for p in parts.values()}
        if len(sizes) > 1:
            raise fail(
                "MI0301",
                "a loss over runs needs paired data",
                self.loss.span,
                help="take both sides of one data set: `source: d.train.clean, base: d.train.corrupt`",
            )
        (self.n,) = sizes or {0}  # of parameters alone: each step takes all there is
        self.reads: dict[str, list[ir.Read]] = {r.digest: [] for r in self.runs}
        for n in ir.walk(self.loss):
            if isinstance(n, ir.Read):
                self.reads[n.run.digest].append(n)
            elif isinstance(n, ir.Grad):
                raise fail(
                    "MI0601",
                    "not implemented: gradients in the loss of a fit",
                    n.span,
                    help="make the loss of values that runs have, and not of gradients",
                )
        self.evaluator = Evaluator(self, Domains(), Rows({}, {}))  # type: ignore[arg-type]
        self.lowered = {r.digest: self._lower(r) for r in self.runs}
        self.rows = np.arange(self.n)
        for run in self.runs:
            if not self._depends(run):
                self._fix(run)

    def _lower(self, run: ir.Forward) -> Lowered:
        engine = self.binder.engine(run.model)
        if isinstance(engine, HookModel):
            raise fail(
                "MI0601",
                "not implemented: fits on the hook engine",
                run.span,
                label=engine.info.why,
                help="take a model that can be exported: `midsl sites` says how each runs",
            )
        keys = [
            k for r in self.reads[run.digest] for k in keys_of(r.site, engine.info, self.evaluator.domains)
        ]
        made = lower(engine, run, keys, [], self.evaluator, project=False)
        for op in made.ops:
            op.through = True
        return made

    def _depends(self, run: ir.Forward) -> bool:
        return any(isinstance(n, ir.Param) for n in ir.walk(run))

    def _fix(self, run: ir.Forward) -> None:
        """All rows of a run, some at a time."""
        each = max(1, TOKENS // int(self.binder.part(run.data).tokens.shape[1]))
        found: dict[str, list[NT]] = {r.digest: [] for r in self.reads[run.digest]}
        with torch.no_grad():
            for at in range(0, self.n, each):
                self._at(np.arange(at, min(self.n, at + each)))
                for digest, value in self._run(run).items():
                    found[digest].append(value)
        for digest, values in found.items():
            axes = values[0].axes
            self.fixed[digest] = NT(torch.cat([v.data for v in values], axes.index("batch")), axes)

    def at(self, step: int) -> Tensor:
        """The loss at the rows of a step."""
        per_epoch = max(1, self.n // self.batch)
        epoch, place = divmod(step, per_epoch)
        order = np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(self.n)
        self._at(np.sort(order[place * self.batch : (place + 1) * self.batch]))
        for run in self.runs:
            if self._depends(run):
                self._run(run)
        return self.evaluator.grid(self.loss).data

    def _at(self, rows: np.ndarray) -> None:
        """Go to some rows; what is fixed there is at hand."""
        self.rows = rows
        self.evaluator.rows = Rows.of(self, (self.loss,))
        self.evaluator.store.clear()
        index = torch.from_numpy(rows)
        for digest, value in self.fixed.items():
            dim = value.dim("batch")
            self.evaluator.store[digest] = Stored((), NT(value.data.index_select(dim, index), value.axes))

    def _run(self, run: ir.Forward) -> dict[str, NT]:
        """Run the rows at hand, and keep what is read."""
        captured = self.lowered[run.digest].over(self.part(run.data))
        captured.rows = self.evaluator.rows
        table, here = Table.product((), self.evaluator.domains), slice(0, len(self.rows))
        zero = torch.zeros(1, dtype=torch.int64)
        found = {}
        for r in self.reads[run.digest]:
            value = captured.read(r.site, Env(table, here, captured, zero))
            if "@" in value.axes:
                value = NT(value.data.select(value.dim("@"), 0), tuple(a for a in value.axes if a != "@"))
            found[r.digest] = value
            self.evaluator.store[r.digest] = Stored((), value)
        return found

    # -- inputs of the rows at hand

    def part(self, node: ir.Part) -> Part:
        """The rows at hand."""
        return self.binder.part(node).take(self.rows)

    def weight(self, model: ir.Node, name: str, layer: int | None) -> Tensor:
        """A weight of the model, which is not fitted."""
        return self.binder.weight(model, name, layer)
