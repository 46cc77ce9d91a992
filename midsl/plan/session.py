"""A plan being worked on: lowered runs, their costs, and the values that are kept.

`Session` prepares each run once (lowering it, sizing its chunks); `explain` asks it for costs, and
`execute` for results, so that both speak of the same graphs and the same chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from midsl.backends import packed
from midsl.backends.compiled import Compiler
from midsl.backends.eager import Counts, Runner
from midsl.data.dataset import Part
from midsl.diagnostics.model import fail
from midsl.graph.backward import Switch
from midsl.graph.hooks import HookModel
from midsl.graph.info import ModelInfo
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.passes.chunk import crosses_rows
from midsl.plan.bound import Bound
from midsl.plan.chunk import Piece, costs, flops_of, row_pieces, whole_pieces
from midsl.plan.compiling import classes_of, worth
from midsl.plan.decode import Decoder
from midsl.plan.domains import Domains, Table
from midsl.plan.evaluate import Evaluator, runs_read
from midsl.plan.hooked import Hooked, hook
from midsl.plan.inputs import Rows
from midsl.plan.keys import Key, keys_of
from midsl.plan.lower import PROJECTED, Lowered, lower
from midsl.plan.memory import Budget, available_bytes, human
from midsl.plan.prepared import Prepared, held_bytes
from midsl.plan.rowed import Rowed
from midsl.plan.rowsteps import RowSteps
from midsl.plan.sizing import Sizing
from midsl.plan.steps import Plan, RunStep
from midsl.plan.totals import Totals
from midsl.plan.written import Written

Boarding = tuple[Tensor, dict[str, set[int]] | None]
"""Lanes that run as a group, and by edit digest the layers that they edit (None: all)."""


@dataclass
class Session:
    """State of one plan."""

    plan: Plan
    bound: Bound
    roots: tuple[ir.Node, ...]
    available: int = field(default_factory=available_bytes)
    generous: int = 0
    """Bytes that one run may keep for plans to come."""
    evaluator: Evaluator = field(init=False)
    sizing: Sizing = field(init=False)
    written: Written = field(init=False)
    """The inputs, with what rollouts have written: `bound` is this, too."""
    prepared: dict[int, Prepared] = field(default_factory=dict)
    decoders: dict[int, Decoder] = field(default_factory=dict)
    rows: RowSteps | None = None
    decided: set[int] = field(default_factory=set)
    costs: dict[int, Totals] = field(default_factory=dict)
    mode: str = "never"
    """Whether segments are compiled: auto, always, never."""
    weighed: set[int] = field(default_factory=set)
    """The stages for which that is decided."""
    compiler: Compiler | None = field(init=False)
    ran: set[str] = field(default_factory=set)
    """Digests of the runs that are done."""
    packing: dict[str, bool] = field(default_factory=dict)
    wholes: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bound = self.written = Written(self.bound)
        self.compiler = None if self.mode == "never" else Compiler(always=self.mode == "always")
        domains = Domains()
        for node in ir.walk(*self.roots):
            if isinstance(node, ir.Sweep) and isinstance(node.domain, ir.Points):
                domains.points[node.digest] = node.domain.points
        self.evaluator = Evaluator(self.bound, domains, Rows.of(self.bound, self.roots), settled={})
        self.sizing = Sizing(self.bound, self.evaluator)

    # -- preparing

    def prepare(self, step: RunStep) -> Prepared:
        """Lower a run and cut it into chunks that fit."""
        done = self.prepared.get(id(step))
        if done is not None:
            return done
        engine = self.bound.engine(step.run.model)
        known = self.known(step)
        rowed = self.by_rows(step.stage).made.get(id(step)) if known else None
        if rowed is not None:
            return self._prepare_rows(step, rowed)
        reads = self.reads(step)
        captures = [k for r in reads for k in self.keys(engine.info, r.site)]
        gradients = [k for g in step.grads for k in self.keys(engine.info, g.site)]
        part = self.bound.part(step.run.data)
        lanes = self.lane_count(step)
        alone: list[Boarding] = [(torch.arange(lanes), None)]
        if isinstance(engine, HookModel):
            if gradients:
                raise fail(
                    "MI0601",
                    "not implemented: gradients on the hook engine",
                    step.run.span,
                    label=engine.info.why,
                    help="patch instead, or take a model that can be exported",
                )
            pieces = self._pieces(step, hook(engine, step.run, captures, self.evaluator), part, alone[0][0])
        else:
            project = self._projects(engine, step, reads)
            make = partial(
                lower,
                engine,
                step.run,
                [*captures, *gradients],
                gradients,
                self.evaluator,
                project,
                cones=step.cones and known,
                backwards=self.sizing.backwards(step),
                tidy=step.tidy,
                switch=Switch.of(*step.grads),
                directions=self.sizing.directions(step),
            )

            def cut(groups: Sequence[Boarding]) -> list[Piece]:
                found = []
                for chosen, layers in groups:
                    found += self._pieces(step, make(layers=layers), part, chosen)
                # groups on the same rows share a prefix
                return sorted(found, key=lambda x: (x.rows.start, x.rows.stop))

            pieces = cut(alone)
            if step.board and known and not step.grads and lanes > 1:
                boarded = cut(self._boardings(engine.info, step, lanes))
                if flops_of(boarded, part) < flops_of(pieces, part):
                    pieces = boarded
        blocks = self._whole(engine, step, int(part.tokens.shape[1]))
        done = Prepared(step, part, lanes, pieces, blocks)
        if known:
            self.prepared[id(step)] = done
        return done

    def by_rows(self, stage: int) -> RowSteps:
        """The runs of the plan that go by rows, those of a stage and before included."""
        if self.rows is None:
            runs = self.plan.runs
            reads = {id(s): self.reads(s) for s in runs}
            projects = {
                id(s): isinstance(engine, ModelGraph) and self._projects(engine, s, reads[id(s)])
                for s in runs
                if (engine := self.bound.engine(s.run.model))
            }
            self.rows = RowSteps(
                self.plan,
                self.bound,
                self.evaluator,
                self.available,
                reads,
                projects,
                self.compiler,
                self.generous,
            )
        if stage not in self.decided:
            self.decided.add(stage)
            self.rows.decide(stage)
        return self.rows

    def compile(self) -> None:
        """Decide which segments of the runs that are planned by now are compiled (none is taken back)."""
        if self.mode != "auto" or self.rows is None or self.weighed == self.decided:
            return
        assert self.compiler is not None
        self.compiler.wanted |= worth(classes_of(self.rows.made.values()))
        self.weighed = set(self.decided)

    def known(self, step: RunStep) -> bool:
        """Whether the points of a run's stage have been chosen."""
        staged = [r for r in self.plan.runs if r.stage == step.stage and (r.cones or r.rows)]
        swept = [*step.open, *(s for r in staged for s in r.sweeps)]
        if not all(map(self.evaluator.domains.known, swept)):
            return False
        if not all(self.written.known(r.run.data) for r in (step, *staged)):
            return False
        return all(d in self.ran for r in staged for g in r.gates for d in runs_read(g))

    def idle(self, step: RunStep) -> bool:
        """Whether a run turns out not to be needed: no other starts from it, and nothing is read of it."""
        return step.spare and id(step) not in self.by_rows(step.stage).made

    def _prepare_rows(self, step: RunStep, rowed: Rowed) -> Prepared:
        pieces = row_pieces(rowed, self.fitting(step, rowed.lowered, rowed.part))
        blocks = self._whole(rowed.mg, step, rowed.real.shape[2])
        done = self.prepared[id(step)] = Prepared(step, rowed.part, rowed.table.size, pieces, blocks)
        return done

    def _boardings(self, info: ModelInfo, step: RunStep, lanes: int) -> list[Boarding]:
        """Lanes by the first layer that they edit, and the layers that each edit touches in a group."""
        table = Table.product(step.sweeps, self.evaluator.domains)
        touched: dict[str, list[set[int]]] = {}
        for edit in step.run.edits:
            index = edit.site.index("layer")
            if isinstance(index, ir.Coord):
                column = self.evaluator.domains.column(index.sweep, index.index)
                touched[edit.digest] = [{int(i)} for i in column[table.index[index.sweep.digest]]]
            else:
                layers = {k[1] for k in self.keys(info, edit.site) if k[1] is not None}
                touched[edit.digest] = [layers or {-1}] * lanes
        first = [min(min(t[i]) for t in touched.values()) for i in range(lanes)]
        groups: list[Boarding] = []
        for layer in sorted(set(first)):
            chosen = [i for i in range(lanes) if first[i] == layer]
            layers_of = {digest: set().union(*(t[i] for i in chosen)) for digest, t in touched.items()}
            groups.append((torch.tensor(chosen), layers_of))
        return groups

    def reads(self, step: RunStep) -> list[ir.Read]:
        """The reads of this run that its outputs and gradients are made of."""
        found: dict[str, ir.Read] = {}
        seen: set[ir.Node] = set()

        def go(node: ir.Node) -> None:
            if node in seen:
                return
            seen.add(node)
            if isinstance(node, ir.Read):
                if node.run == step.run:
                    found[node.digest] = node
                return
            if not isinstance(node, (ir.Forward, ir.Sweep, ir.Site, ir.Part)):
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

    def lane_count(self, step: RunStep) -> int:
        """Points of the run's own sweeps; for a computed domain, as many as it will have."""
        lanes = 1
        for s in step.sweeps:
            lanes *= self.sizing.points_of(s)
        return lanes

    def _pieces(self, step: RunStep, lowered: Lowered | Hooked, part: Part, lanes: Tensor) -> list[Piece]:
        return whole_pieces(lowered, len(part), lanes, self.fitting(step, lowered, part), step.stacked)

    def fitting(self, step: RunStep, lowered: Lowered | Hooked, part: Part) -> int:
        """How many rows of the data, times lanes, may run at once."""
        rows, length = len(part), int(part.tokens.shape[1])
        lanes = self.lane_count(step) if step.stacked else 1
        one, two = lowered.count(1, 1, length).peak_bytes, lowered.count(2, 1, length).peak_bytes
        per_row = max(1, two - one)
        if step.grads and not step.ahead:  # every activation stays until the backward pass
            per_row = one = lowered.count(1, 1, length).total_bytes
        budget = Budget(max(0, one - per_row), per_row)
        room = int((self.available - self._kept_bytes(step)) * 0.6)
        fits = budget.rows(
            room, length, step.run.span, f"the run `{step.name or step.run.data.side or 'base'}`"
        )
        fits = min(fits, step.at_once or fits, self.sizing.looked_at(step, length) or fits)
        together = self.together(step)
        at_once = rows if together else rows * lanes if not step.chunk else 0
        if fits < at_once:
            return budget.together(at_once, room, step.run.span, together or "a run in one piece")
        return fits

    @staticmethod
    def together(step: RunStep) -> str:
        """What makes all rows of a run go at once, also where a spec asks for fewer; "" if nothing does."""
        return "a gradient" if step.grads else "an edit across the batch" if crosses_rows(step.run) else ""

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
        if isinstance(engine, HookModel):
            return dict.fromkeys(range(engine.info.sizes.get("layer", 0)), 1)
        return self.whole_blocks(engine, step.run.model, length)

    def whole_blocks(self, engine: ModelGraph, model: ir.Node, length: int) -> dict[int, int]:
        """FLOPs of each block for one row of so many tokens."""
        key = (model.digest, length)
        if key not in self.wholes:
            counts = Counts()
            ids = torch.zeros(1, length, dtype=torch.int64, device="meta")
            with torch.no_grad():
                Runner(engine.gm.graph, engine.gm, engine.blocks)([ids, ids], counts)
            self.wholes[key] = counts.by_block
        return self.wholes[key]

    def done_with(self, rowed: object) -> None:
        """After a run by rows: what was kept for it alone is let go."""
        for of in (rowed.base, rowed.source) if isinstance(rowed, Rowed) else ():
            if of is not None:
                of.users -= 1
                if of.users == 0:
                    of.kept.clear()

    # -- counting

    def bounds(self, step: RunStep) -> tuple[Totals, Totals]:
        """The least and the most that a run may cost: the same, once the points of its stage are known."""
        if self.known(step):
            exact = self.predict(step)
            return exact, exact
        least = Totals(bytes=0 if step.open else self._left_behind(step))
        if not step.spare:
            least.lanes = 1 if step.open else self.lane_count(step)
            least.forwards = 1 if step.stacked else least.lanes
            most = copy(self.predict(step))
            if step.rows and isinstance(self.bound.engine(step.run.model), ModelGraph):
                most.peak_bytes += self._unedited(step).total_bytes  # what it may take of its base run
            return least, most
        engine, part = self.bound.engine(step.run.model), self.bound.part(step.run.data)
        assert isinstance(engine, ModelGraph)
        counts, length = self._unedited(step), int(part.tokens.shape[1])
        tokens = len(part) * length * len(engine.parts.blocks)
        return least, Totals(1, 1, tokens, counts.flops, 0, counts.total_bytes)

    def _unedited(self, step: RunStep) -> Counts:
        """What a whole run over all rows costs, with nothing edited and all of it kept."""
        engine, part = self.bound.engine(step.run.model), self.bound.part(step.run.data)
        assert isinstance(engine, ModelGraph)
        counts = Counts()
        ids = torch.zeros(len(part), int(part.tokens.shape[1]), dtype=torch.int64, device="meta")
        with torch.no_grad():
            Runner(engine.gm.graph, engine.gm, engine.blocks)([ids, ids], counts)
        return counts

    def predict(self, step: RunStep) -> Totals:
        """What a run will cost; before its points are known, what it would cost whole."""
        if id(step) in self.costs:
            return self.costs[id(step)]
        if self.known(step) and self.idle(step):
            return Totals()
        p = self.prepare(step)
        totals = Totals(forwards=1 if step.stacked else p.lanes, lanes=p.lanes)
        for counts in costs(p.pieces, p.part):
            totals.add_counts(counts, p.blocks, p.length)
        totals.peak_bytes += held_bytes(p)
        totals.flops += self.projection_flops(step, p)
        totals.bytes = self._left_behind(step)
        totals.peak_bytes += totals.bytes
        if id(step) in self.prepared:
            self.costs[id(step)] = totals
        return totals

    def calls(self, step: RunStep) -> int:
        """How many operations a run calls, about; 0 before its points are known."""
        if not self.known(step) or self.idle(step):
            return 0
        pieces = self.prepare(step).pieces
        lowered = [x.lowered.lowered if isinstance(x.lowered, Rowed) else x.lowered for x in pieces]
        return sum(len(x.runner.nodes) for x in lowered if isinstance(x, Lowered))

    def packs(self, model: ir.Node) -> bool:
        """Whether the runs of a model have enough rows, as far as is known, to pack its weights for."""
        if model.digest not in self.packing:
            runs = [s for s in self.plan.runs if s.run.model == model]
            rows = sum(self.predict(s).layer_tokens for s in runs)
            layers = max(1, self.bound.engine(model).info.sizes.get("layer", 1))
            self.packing[model.digest] = rows / layers >= packed.PAYS_FROM
        return self.packing[model.digest]

    def _left_behind(self, step: RunStep) -> int:
        """Bytes of the values that a run leaves."""
        part = self.bound.part(step.run.data)
        return sum(self.sizing.kept_elements(n, part) * 4 for n in [*step.outputs, *step.grads])

    def projection_flops(self, step: RunStep, p: Prepared) -> int:
        """FLOPs of the logits that are projected one by one."""
        projection = p.lowered.projection
        if projection is None:
            return 0
        width = projection.weight.shape[1]
        return sum(
            2 * width * self.sizing.kept_elements(r, p.part)
            for r in self.reads(step)
            if r.site.name == PROJECTED[0]
        )
