"""Executing runs: chunk by chunk, keeping what each step must leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from midsl.backends.eager import Counts
from midsl.backends.threads import threads_for
from midsl.ir import nodes as ir
from midsl.ops.named import NT
from midsl.plan.capture import Captured
from midsl.plan.domains import Table
from midsl.plan.edits import Chunk
from midsl.plan.evaluate import POINT, Env, Evaluator, Stored
from midsl.plan.keys import Key
from midsl.plan.lower import Lowered
from midsl.plan.session import Prepared, Session
from midsl.plan.steps import RunStep
from midsl.plan.totals import Totals

Scene = Callable[[ir.Node], tuple[Env, dict[str, NT]]]


@dataclass
class Executor:
    """Runs the run steps of a session; values are kept in its evaluator."""

    session: Session

    @property
    def evaluator(self) -> Evaluator:
        return self.session.evaluator

    def run(self, step: RunStep, done: Totals) -> Iterator[int]:
        """Run all chunks of a step and keep what it leaves; yields the rows done after each chunk."""
        p = self.session.prepare(step)
        tokens = torch.from_numpy(p.part.tokens)
        mask = (torch.arange(p.length)[None, :] < torch.from_numpy(p.part.lengths)[:, None]).to(torch.int64)
        table = Table.product(step.sweeps, self.evaluator.domains)
        kept: dict[str, list[NT]] = {n.digest: [] for n in [*step.outputs, *step.grads]}
        fired: dict[str, int] = {}
        totals = Totals(forwards=1 if step.stacked else p.lanes, lanes=p.lanes)
        for lanes, rows in p.chunks:
            chunk = Chunk(table.rows(torch.arange(lanes.start, lanes.stop)), rows, fired)
            counts = Counts()
            work = p.lowered.count((lanes.stop - lanes.start) * (rows.stop - rows.start), p.length)
            with threads_for(work.flops), torch.set_grad_enabled(bool(step.grads)):
                values = p.lowered.run(tokens, mask, chunk, counts)
                captured = Captured(
                    step.run, values, self.evaluator.rows, self.evaluator.domains, p.lowered.projection
                )
                self._collect(step, captured, chunk, kept)
            self.session.add(totals, p, counts)
            del values, captured
            p.lowered.release()
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

        def scene(node: ir.Node | None) -> tuple[Env, dict[str, NT]]:
            sweeps = self._sweep_order(step, node) if node is not None else step.sweeps
            key = tuple(s.digest for s in sweeps)
            if key not in memos:
                more = sweeps[len(step.sweeps) :]
                table, lanes = chunk.table.extend(more, self.evaluator.domains)
                base = scene(None) if more else None
                memos[key] = (
                    Env(table, chunk.rows, captured, lanes, unswept=unswept, base=base),
                    {} if key else unswept,
                )
            return memos[key]

        for node in step.outputs:
            env, memo = scene(node)
            value = self.evaluator.eval(node, env, memo)
            kept[node.digest].append(_pointwise(value, env))
        if step.grads:
            self._gradients(step, captured, chunk, scene, kept)

    def _gradients(
        self, step: RunStep, captured: Captured, chunk: Chunk, scene: Scene, kept: dict[str, list[NT]]
    ) -> None:
        lowered = self.session.prepare(step).lowered
        assert isinstance(lowered, Lowered), "gradients are taken in a graph"
        for grad in step.grads:
            env, memo = scene(grad.scalar)
            scalar = self.evaluator.eval(grad.scalar, env, memo)
            keys = self.session.keys(self.session.bound.engine(step.run.model).info, grad.site)
            tensors = [lowered.leaves[k] for k in keys]
            assert env.table is not None
            points = scalar.data.expand(env.table.size)
            more = env.table.size // chunk.table.size  # points of sweeps that the run itself has not
            parts: dict[Key, list[torch.Tensor]] = {k: [] for k in keys}
            for i in range(more):  # lanes do not mix: the gradient of their sum is that of each
                found = torch.autograd.grad(
                    points[i::more].sum(), tensors, retain_graph=True, allow_unused=True
                )
                for k, t, g in zip(keys, tensors, found, strict=True):
                    whole = torch.zeros_like(t) if g is None else g
                    parts[k].append(lowered.name(k, whole, chunk.table.size).data)
            values = {
                k: NT(torch.stack(p, dim=1).flatten(0, 1), captured.values[k].axes) for k, p in parts.items()
            }
            source = Captured(step.run, values, captured.rows, captured.domains)
            env, _ = scene(grad)
            assert env.table is not None
            at = env.table.flat(self._sweep_order(step, grad.scalar), self.evaluator.domains)
            env = replace(env, lanes=at - at.min())
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
        domains = self.evaluator.domains
        for edit in step.run.edits:
            index = edit.site.index("layer")
            layers = [op.key[1] for op in p.lowered.ops if edit in op.edits]
            want = p.lanes * copies * len(layers)
            if isinstance(index, ir.Coord):  # each lane edits the layer of its own point
                points = [point[index.index] for point in domains.points[index.sweep.digest]]
                want = p.lanes * copies * sum(map(points.count, layers)) // len(points)
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
