"""A plan being worked on: lowered runs, their costs, and the values that are kept.

`Session` prepares each run once (lowering it, sizing its chunks); `explain` asks it for costs, and
`execute` for results, so that both speak of the same graphs and the same chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from midsl.backends.eager import Counts
from midsl.data.dataset import Part
from midsl.diagnostics.model import fail
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.ops.named import NT
from midsl.plan.capture import Captured, Key
from midsl.plan.domains import Domains, Table
from midsl.plan.edits import Chunk
from midsl.plan.evaluate import POINT, Env, Evaluator, Stored
from midsl.plan.inputs import Rows
from midsl.plan.lower import PROJECTED, Lowered, keys_of, lower, site_layers
from midsl.plan.memory import Budget, available_bytes, human
from midsl.plan.steps import Plan, RunStep


class Bound(Protocol):
    """Bound models and data."""

    def graph(self, model: ir.Node) -> ModelGraph:
        """The exported graph of a model, in its own precision."""
        ...

    def part(self, node: ir.Part) -> Part: ...

    def weight(self, model: ir.Node, name: str, layer: int | None) -> Tensor: ...


@dataclass
class Totals:
    """What was, or will be, done (SEMANTICS 19): see the README for the meaning of each count."""

    forwards: int = 0
    lanes: int = 0
    layer_tokens: float = 0.0
    flops: int = 0
    bytes: int = 0
    peak_bytes: int = 0

    def add(self, other: Totals) -> None:
        self.forwards += other.forwards
        self.lanes += other.lanes
        self.layer_tokens += other.layer_tokens
        self.flops += other.flops
        self.bytes += other.bytes
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)

    def as_dict(self) -> dict[str, int | float]:
        return {
            "forwards": self.forwards,
            "lanes": self.lanes,
            "layer_tokens": round(self.layer_tokens, 3),
            "flops": self.flops,
            "bytes": self.bytes,
            "peak_bytes": self.peak_bytes,
        }


@dataclass
class Prepared:
    """A run with its graph, its rows and the chunks that it is done in."""

    step: RunStep
    lowered: Lowered
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
    prepared: dict[int, Prepared] = field(default_factory=dict)
    wholes: dict[tuple[str, int, int], dict[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        domains = Domains()
        for node in ir.walk(*self.roots):
            if isinstance(node, ir.Sweep) and isinstance(node.domain, ir.Points):
                domains.points[node.digest] = node.domain.points
        self.evaluator = Evaluator(self.bound, domains, Rows.of(self.bound, self.roots))

    # -- preparing

    def prepare(self, step: RunStep) -> Prepared:
        """Lower a run and cut it into chunks that fit."""
        done = self.prepared.get(id(step))
        if done is not None:
            return done
        mg = self.bound.graph(step.run.model)
        if mg.info.engine != "graph":
            raise fail("MI0601", f"not implemented: the hook engine in plans ({mg.info.why})", step.run.span)
        reads = self.reads(step)
        captures = self.captures(mg, reads)
        gradients = [
            k
            for g in step.grads
            for k in keys_of(g.site, site_layers(mg, g.site.name), self.evaluator.domains)
        ]
        project = self._projects(mg, step, reads)
        lowered = lower(mg, step.run, [*captures, *gradients], gradients, self.evaluator, project)
        part = self.bound.part(step.run.data)
        lanes = self.lane_count(step)
        chunks = self._chunks(step, lowered, part, lanes)
        blocks = self._whole(mg, step, int(part.tokens.shape[1]))
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

    def captures(self, mg: ModelGraph, reads: list[ir.Read]) -> list[Key]:
        """The (site, layer) pairs to capture."""
        return [
            k for r in reads for k in keys_of(r.site, site_layers(mg, r.site.name), self.evaluator.domains)
        ]

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
            lanes *= self.points_of(s)
        return lanes

    def points_of(self, sweep: ir.Sweep) -> int:
        """The number of points a sweep has or will have."""
        if self.evaluator.domains.known(sweep):
            return self.evaluator.domains.size(sweep)
        assert isinstance(sweep.domain, ir.Top)
        total = 1
        for a in sweep.domain.score.tensor_type.axes:
            total *= self.axis_size(sweep.domain.score, a.name)
        return min(sweep.domain.k, total)

    def axis_size(self, node: ir.Node, name: str) -> int:
        """The size of an axis, from the sweeps and the models under a node."""
        for n in ir.walk(node):
            if isinstance(n, ir.Sweep) and self.evaluator.domains.known(n):
                names, sizes = self.evaluator.domains.grid(n)
                if name in names:
                    return sizes[names.index(name)]
            if isinstance(n, ir.Read) and n.type.axis(name) is not None:  # type: ignore[union-attr]
                size = self.bound.graph(n.run.model).info.sizes.get(name)
                if size is not None:
                    return size
        raise AssertionError(f"the size of `{name}` is not known")

    def _chunks(self, step: RunStep, lowered: Lowered, part: Part, lanes: int) -> list[tuple[slice, slice]]:
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
        if step.grads and fits < rows:
            if per_row * rows > room:
                raise fail(
                    "MI0602",
                    f"a gradient over {rows} rows needs {human(per_row * rows)}",
                    step.run.span,
                    label="all rows at once",
                    help=f"about {room // per_row} rows would fit",
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
            total += self.kept_elements(node, part) * 4
        if total > self.available:
            raise fail(
                "MI0602",
                f"the values to keep of one run need {human(total)}, and {human(self.available)} are free",
                step.run.span,
                label="this run is asked for too much",
                help=f"reduce before reporting, or use about {max(1, int(len(part) * self.available / total))} rows",
                exit_code=4,
            )
        return total

    def kept_elements(self, node: ir.Node, part: Part) -> int:
        """The number of elements of a kept value."""
        n = 1
        swept = ir.sweeps_of(node)
        for s in swept:
            n *= self.points_of(s)
        gone = {(a.name, a.owner) for s in swept for a in s.axes}
        for a in node.tensor_type.axes:
            if (a.name, a.owner) in gone:
                continue
            if a.name == "batch":
                n *= len(part)
            elif a.name in ("pos", "key_pos"):
                n *= int(part.tokens.shape[1])
            else:
                n *= a.size if a.size is not None else self.axis_size(node, a.name)
        return n

    def _whole(self, mg: ModelGraph, step: RunStep, length: int) -> dict[int, int]:
        key = (step.run.model.digest, 1, length)
        if key not in self.wholes:
            from midsl.backends.eager import Runner

            counts = Counts()
            ids = torch.zeros(1, length, dtype=torch.int64, device="meta")
            with torch.no_grad():
                Runner(mg.gm.graph, mg.gm, mg.blocks)([ids, ids], counts)
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
            self._add(totals, p, shapes[n])
        totals.flops += self.projection_flops(step, p)
        totals.bytes = sum(self.kept_elements(n, p.part) * 4 for n in [*step.outputs, *step.grads])
        totals.peak_bytes += totals.bytes
        return totals

    def _add(self, totals: Totals, p: Prepared, counts: Counts) -> None:
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
            2 * width * self.kept_elements(r, p.part) for r in self.reads(step) if r.site.name == PROJECTED[0]
        )

    # -- executing

    def execute(self, step: RunStep, done: Totals) -> Iterator[int]:
        """Run all chunks of a step and keep what it leaves; yields the rows done after each chunk."""
        p = self.prepare(step)
        tokens = torch.from_numpy(p.part.tokens)
        mask = (torch.arange(p.length)[None, :] < torch.from_numpy(p.part.lengths)[:, None]).to(torch.int64)
        table = Table.product(step.sweeps, self.evaluator.domains)
        kept: dict[str, list[NT]] = {n.digest: [] for n in [*step.outputs, *step.grads]}
        fired: dict[str, int] = {}
        totals = Totals(forwards=1 if step.stacked else p.lanes, lanes=p.lanes)
        for lanes, rows in p.chunks:
            chunk = Chunk(table.rows(torch.arange(lanes.start, lanes.stop)), rows, fired)
            counts = Counts()
            with torch.set_grad_enabled(bool(step.grads)):
                values = p.lowered.run(tokens, mask, chunk, counts)
                captured = Captured(
                    step.run, values, self.evaluator.rows, self.evaluator.domains, p.lowered.projection
                )
                self._collect(step, captured, chunk, kept)
            self._add(totals, p, counts)
            del values, captured
            yield (lanes.stop - lanes.start) * (rows.stop - rows.start)
        self._check_fired(step, fired, p)
        for node in [*step.outputs, *step.grads]:
            sweeps = self._sweep_order(step, node)
            self.evaluator.store[node.digest] = self._join(kept[node.digest], p.chunks, sweeps)
            totals.bytes += self.evaluator.store[node.digest].value.data.numel() * 4
        if p.lowered.projection is not None:
            totals.flops += p.lowered.projection.flops
            p.lowered.projection.flops = 0
        totals.peak_bytes += totals.bytes
        done.add(totals)

    def _sweep_order(self, step: RunStep, node: ir.Node) -> tuple[ir.Sweep, ...]:
        own = {s.digest for s in step.sweeps}
        return (*step.sweeps, *(s for s in ir.sweeps_of(node) if s.digest not in own))

    def _collect(self, step: RunStep, captured: Captured, chunk: Chunk, kept: dict[str, list[NT]]) -> None:
        memos: dict[tuple[str, ...], tuple[Env, dict[str, NT]]] = {}
        unswept: dict[str, NT] = {}

        def scene(node: ir.Node) -> tuple[Env, dict[str, NT]]:
            sweeps = self._sweep_order(step, node)
            key = tuple(s.digest for s in sweeps)
            if key not in memos:
                table, lanes = chunk.table.extend(sweeps[len(step.sweeps) :], self.evaluator.domains)
                memos[key] = (Env(table, chunk.rows, captured, lanes, unswept=unswept), {} if key else unswept)
            return memos[key]

        for node in step.outputs:
            env, memo = scene(node)
            value = self.evaluator.eval(node, env, memo)
            kept[node.digest].append(_pointwise(value, env))
        if step.grads:
            self._gradients(step, captured, scene, kept)

    def _gradients(self, step: RunStep, captured: Captured, scene, kept: dict[str, list[NT]]) -> None:  # type: ignore[no-untyped-def]
        for grad in step.grads:
            env, memo = scene(grad.scalar)
            scalar = self.evaluator.eval(grad.scalar, env, memo)
            keys = keys_of(
                grad.site,
                site_layers(self.bound.graph(step.run.model), grad.site.name),
                self.evaluator.domains,
            )
            tensors = [captured.values[k].data for k in keys]
            found = torch.autograd.grad(scalar.data.sum(), tensors, retain_graph=True, allow_unused=True)
            values = {
                k: NT(torch.zeros_like(t) if g is None else g, captured.values[k].axes)
                for k, t, g in zip(keys, tensors, found, strict=True)
            }
            source = Captured(step.run, values, captured.rows, captured.domains)
            env, _ = scene(grad)
            kept[grad.digest].append(_pointwise(source.read(grad.site, env), env))

    def _join(
        self, parts: list[NT], chunks: list[tuple[slice, slice]], sweeps: tuple[ir.Sweep, ...]
    ) -> Stored:
        """Put the chunks' values together: rows side by side, then lanes one after the other."""
        lanes: list[NT] = []
        current: list[NT] = []
        start: int | None = None
        for value, (lane, _) in zip(parts, chunks, strict=True):
            if lane.start != start and current:
                lanes.append(_cat(current, "batch"))
                current = []
            start = lane.start
            current.append(value)
        lanes.append(_cat(current, "batch"))
        whole = _cat(lanes, POINT)
        if not sweeps:
            whole = NT(whole.data[0], whole.axes[1:])
        return Stored(sweeps, whole)

    def _check_fired(self, step: RunStep, fired: dict[str, int], p: Prepared) -> None:
        """Every write must have fired as often as the plan says: never a silent no-op."""
        copies = len({(r.start, r.stop) for _, r in p.chunks})
        mg = self.bound.graph(step.run.model)
        for edit in step.run.edits:
            index = edit.site.index("layer")
            layers = (
                1
                if isinstance(index, ir.Coord)
                else len(keys_of(edit.site, site_layers(mg, edit.site.name), self.evaluator.domains))
            )
            want = p.lanes * copies * layers
            if fired.get(edit.digest, 0) != want:
                raise AssertionError(
                    f"an edit at {edit.site.name} fired {fired.get(edit.digest, 0)} times, planned {want}"
                )


def _pointwise(value: NT, env: Env) -> NT:
    """The value with "@" first, whether or not it depends on the points."""
    assert env.table is not None
    value = NT(value.data.detach(), value.axes)
    if POINT not in value.axes:
        return NT(value.data.unsqueeze(0).expand(env.table.size, *value.data.shape), (POINT, *value.axes))
    return value.permute_to((POINT, *(a for a in value.axes if a != POINT)))


def _cat(parts: list[NT], axis: str) -> NT:
    if len(parts) == 1:
        return parts[0]
    assert axis in parts[0].axes, f"chunks of a value without `{axis}`"
    return NT(
        torch.cat([p.permute_to(parts[0].axes).data for p in parts], dim=parts[0].dim(axis)), parts[0].axes
    )
