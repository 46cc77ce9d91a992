"""A plan being worked on: lowered runs, their costs, and the values that are kept.

`Session` prepares each run once (lowering it, sizing its chunks); `explain` asks it for costs, and
`execute` for results, so that both speak of the same graphs and the same chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from midsl.backends.eager import Counts, Runner
from midsl.data.dataset import Part
from midsl.diagnostics.model import fail
from midsl.graph.hooks import HookModel
from midsl.graph.info import ModelInfo
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.plan.bound import Bound
from midsl.plan.domains import Domains
from midsl.plan.evaluate import Evaluator, has_self, mixes_rows
from midsl.plan.hooked import Hooked, hook
from midsl.plan.inputs import Rows
from midsl.plan.keys import Key, keys_of
from midsl.plan.lower import PROJECTED, Lowered, lower
from midsl.plan.memory import Budget, available_bytes, human
from midsl.plan.sizing import Sizing
from midsl.plan.steps import Plan, RunStep
from midsl.plan.totals import Totals


@dataclass
class Prepared:
    """A run with its graph, its rows and the chunks that it is done in."""

    step: RunStep
    lowered: Lowered | Hooked
    part: Part
    lanes: int
    chunks: list[tuple[slice, slice]]
    """(lanes, rows) of each chunk."""
    blocks: dict[int, int]
    """FLOPs of each whole block for one pass over all rows, unedited: the unit of `layer_tokens`."""

    @property
    def length(self) -> int:
        return int(self.part.tokens.shape[1])


@dataclass
class Session:
    """State of one plan."""

    plan: Plan
    bound: Bound
    roots: tuple[ir.Node, ...]
    available: int = field(default_factory=available_bytes)
    evaluator: Evaluator = field(init=False)
    sizing: Sizing = field(init=False)
    prepared: dict[int, Prepared] = field(default_factory=dict)
    wholes: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        domains = Domains()
        for node in ir.walk(*self.roots):
            if isinstance(node, ir.Sweep) and isinstance(node.domain, ir.Points):
                domains.points[node.digest] = node.domain.points
        self.evaluator = Evaluator(self.bound, domains, Rows.of(self.bound, self.roots))
        self.sizing = Sizing(self.bound, self.evaluator)

    # -- preparing

    def prepare(self, step: RunStep) -> Prepared:
        """Lower a run and cut it into chunks that fit."""
        done = self.prepared.get(id(step))
        if done is not None:
            return done
        engine = self.bound.engine(step.run.model)
        reads = self.reads(step)
        captures = [k for r in reads for k in self.keys(engine.info, r.site)]
        gradients = [k for g in step.grads for k in self.keys(engine.info, g.site)]
        lowered: Lowered | Hooked
        if isinstance(engine, HookModel):
            if gradients:
                raise fail(
                    "MI0601",
                    "not implemented: gradients on the hook engine",
                    step.run.span,
                    label=engine.info.why,
                )
            lowered = hook(engine, step.run, captures, self.evaluator)
        else:
            project = self._projects(engine, step, reads)
            wanted = [*captures, *gradients]
            back = self.backwards(step)
            lowered = lower(engine, step.run, wanted, gradients, self.evaluator, project, back)
        part = self.bound.part(step.run.data)
        lanes = self.lane_count(step)
        chunks = self._chunks(step, lowered, part, lanes)
        blocks = self._whole(engine, step, int(part.tokens.shape[1]))
        done = self.prepared[id(step)] = Prepared(step, lowered, part, lanes, chunks, blocks)
        return done

    def reads(self, step: RunStep) -> list[ir.Read]:
        """The reads of this run that its outputs and gradients are made of."""
        found: dict[str, ir.Read] = {}

        def go(node: ir.Node) -> None:
            if isinstance(node, ir.Read):
                if node.run == step.run:
                    found[node.digest] = node
                return
            if not isinstance(node, (ir.Forward, ir.Sweep, ir.Site)):
                for c in node.children:
                    go(c)

        for out in step.outputs:
            go(out)
        for g in step.grads:
            go(g.scalar)
        return list(found.values())

    def keys(self, info: ModelInfo, site: ir.Site) -> list[Key]:
        """The (site, layer) pairs that a site may touch."""
        return keys_of(site, info, self.evaluator.domains)

    def _projects(self, mg: ModelGraph, step: RunStep, reads: list[ir.Read]) -> bool:
        """Whether to leave out the unembedding and project only what is read of the logits."""
        logits = [r for r in reads if r.site.name == "logits"]
        if mg.unembed is None or not logits or any(e.site.name == "logits" for e in step.run.edits):
            return False
        if any(g.site.name == "logits" for g in step.grads):
            return False
        return all(any(a in ("pos", "vocab") for a, _ in r.site.select) for r in logits)

    def backwards(self, step: RunStep) -> int:
        """Passes back in a run: one for each gradient, and each point of it that is no lane of the run."""
        total = 0
        for grad in step.grads:
            points = 1
            for s in ir.sweeps_of(grad.scalar):
                points *= 1 if s in step.sweeps else self.sizing.points_of(s)
            total += points
        return total

    def lane_count(self, step: RunStep) -> int:
        """Points of the run's own sweeps; for a computed domain, as many as it will have."""
        lanes = 1
        for s in step.sweeps:
            lanes *= self.sizing.points_of(s)
        return lanes

    def _chunks(
        self, step: RunStep, lowered: Lowered | Hooked, part: Part, lanes: int
    ) -> list[tuple[slice, slice]]:
        rows, length = len(part), int(part.tokens.shape[1])
        one, two = lowered.count(1, length).peak_bytes, lowered.count(2, length).peak_bytes
        per_row = max(1, two - one)
        if step.grads:  # every activation stays until the backward pass
            per_row = one = lowered.count(1, length).total_bytes
        budget = Budget(max(0, one - per_row), per_row)
        room = int((self.available - self._kept_bytes(step)) * 0.6)
        fits = budget.rows(
            room, length, step.run.span, f"the run `{step.name or step.run.data.side or 'base'}`"
        )
        together = "a gradient" if step.grads else "an edit across the batch" if _edits_rows(step.run) else ""
        if together and fits < rows:
            if budget.base + per_row * rows > room:
                raise fail(
                    "MI0602",
                    f"{together} over {rows} rows needs {human(budget.base + per_row * rows)}",
                    step.run.span,
                    label="all rows at once",
                    help=f"about {max(0, room - budget.base) // per_row} rows would fit",
                    exit_code=4,
                )
            fits = rows
        if not step.stacked:
            fits = min(fits, rows)
        if fits >= rows:
            width = 1 if not step.stacked else max(1, fits // rows)
            spans = [(slice(i, min(i + width, lanes)), slice(0, rows)) for i in range(0, lanes, width)]
        else:
            spans = [
                (slice(i, i + 1), slice(j, min(j + fits, rows)))
                for i in range(lanes)
                for j in range(0, rows, fits)
            ]
        return spans

    def _kept_bytes(self, step: RunStep) -> int:
        """Bytes of the values that this step leaves behind."""
        total = 0
        part = self.bound.part(step.run.data)
        for node in [*step.outputs, *step.grads]:
            total += self.sizing.kept_elements(node, part) * 4
        if total > self.available:
            raise fail(
                "MI0602",
                f"the values to keep of one run need {human(total)}, and {human(self.available)} are free",
                step.run.span,
                label="this run is asked for too much",
                help=f"reduce before reporting, or use about {len(part) * self.available // total} rows",
                exit_code=4,
            )
        return total

    def _whole(self, engine: ModelGraph | HookModel, step: RunStep, length: int) -> dict[int, int]:
        """FLOPs of each whole block for one row: the unit of `layer_tokens` (1 on the hook engine)."""
        key = (step.run.model.digest, length)
        if key not in self.wholes:
            if isinstance(engine, HookModel):
                self.wholes[key] = dict.fromkeys(range(engine.info.sizes.get("layer", 0)), 1)
            else:
                counts = Counts()
                ids = torch.zeros(1, length, dtype=torch.int64, device="meta")
                with torch.no_grad():
                    Runner(engine.gm.graph, engine.gm, engine.blocks)([ids, ids], counts)
                self.wholes[key] = counts.by_block
        return self.wholes[key]

    # -- counting

    def predict(self, step: RunStep) -> Totals:
        """What a run will cost."""
        p = self.prepare(step)
        totals = Totals(forwards=1 if step.stacked else p.lanes, lanes=p.lanes)
        shapes: dict[int, Counts] = {}
        for lanes, rows in p.chunks:
            n = (lanes.stop - lanes.start) * (rows.stop - rows.start)
            if n not in shapes:
                shapes[n] = p.lowered.count(n, p.length)
            self.add(totals, p, shapes[n])
        totals.flops += self.projection_flops(step, p)
        totals.bytes = sum(self.sizing.kept_elements(n, p.part) * 4 for n in [*step.outputs, *step.grads])
        totals.peak_bytes += totals.bytes
        return totals

    def add(self, totals: Totals, p: Prepared, counts: Counts) -> None:
        totals.flops += counts.flops
        totals.peak_bytes = max(totals.peak_bytes, counts.peak_bytes)
        for block, flops in counts.by_block.items():
            whole = p.blocks.get(block, 0)
            if whole:
                totals.layer_tokens += flops / whole * p.length

    def projection_flops(self, step: RunStep, p: Prepared) -> int:
        """FLOPs of the logits that are projected one by one."""
        if p.lowered.projection is None:
            return 0
        width = p.lowered.projection.weight.shape[1]
        return sum(
            2 * width * self.sizing.kept_elements(r, p.part)
            for r in self.reads(step)
            if r.site.name == PROJECTED[0]
        )


def _edits_rows(run: ir.Forward) -> bool:
    """Whether an edit mixes what arrives at a site across rows, so that all of them must run together."""
    return any(mixes_rows(n) and has_self(n) for e in run.edits for n in ir.walk(e.value))
