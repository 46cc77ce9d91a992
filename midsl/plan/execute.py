"""Executing runs: chunk by chunk, keeping what each step must leave behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from midsl.backends.eager import Counts
from midsl.backends.packed import Packing
from midsl.backends.threads import threads_for
from midsl.diagnostics.model import Diagnostic
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.ir.crossing import pass_of, streams
from midsl.ir.types import Axis
from midsl.ops.named import NT
from midsl.passes.chunk import crosses_rows
from midsl.plan.capture import Captured
from midsl.plan.chunk import Piece
from midsl.plan.directions import push
from midsl.plan.domains import Table
from midsl.plan.edits import Chunk
from midsl.plan.evaluate import POINT, Env, Evaluator, Stored, pointwise
from midsl.plan.hooked import Hooked
from midsl.plan.keys import Key
from midsl.plan.lower import Lowered
from midsl.plan.memory import out_of_memory
from midsl.plan.prepared import Prepared, held_bytes
from midsl.plan.rowed import Rowed
from midsl.plan.scan import Scan
from midsl.plan.session import Session
from midsl.plan.steps import RunStep
from midsl.plan.totals import Totals

Scene = Callable[[ir.Node], tuple[Env, dict[str, NT]]]


@dataclass
class Executor:
    """Runs the run steps of a session; values are kept in its evaluator."""

    session: Session
    warn: Callable[[Diagnostic], object] = lambda diagnostic: None
    told: set[int] = field(default_factory=set)
    also: Callable[[RunStep], list[ir.Read]] = lambda step: []
    """Reads of a step to note beside what it leaves."""
    noted: dict[str, Stored] = field(default_factory=dict)

    @property
    def evaluator(self) -> Evaluator:
        return self.session.evaluator

    def run(self, step: RunStep, done: Totals) -> Iterator[int]:
        """Run all chunks of a step and keep what it leaves; yields the rows done after each chunk."""
        p = self.session.prepare(step)
        if self.session.compiler is not None:
            self.session.compiler.warn = self.warn
            self.session.compile()
        engine = self.session.bound.engine(step.run.model)
        if isinstance(engine, ModelGraph):
            Packing.of(engine.gm).on = self.session.packs(step.run.model)
        tokens = torch.from_numpy(p.part.tokens)
        mask = (torch.arange(p.length)[None, :] < torch.from_numpy(p.part.lengths)[:, None]).to(torch.int64)
        table = Table.product(step.sweeps, self.evaluator.domains)
        left = {n.digest for n in [*step.outputs, *step.grads]}
        also = [r for r in self.also(step) if r.digest not in left]
        scans = {pass_of(n): Scan(n, p.lanes) for n in step.outputs if streams(n)}
        kept: dict[str, _Kept | Scan] = {d: _Kept(p.lanes, len(p.part)) for d in left}
        kept |= {r.digest: _Kept(p.lanes, len(p.part)) for r in also}
        kept |= {n.digest: scans[pass_of(n)] for n in step.outputs if streams(n)}
        fired: dict[str, int] = {}
        totals = Totals(forwards=1 if step.stacked else p.lanes, lanes=p.lanes)
        before: Piece | None = None
        ahead: Any = None

        def do(piece: Piece) -> None:
            """One piece; nothing of it counts if memory runs out on the way."""
            nonlocal before, ahead
            lowered = piece.lowered
            done = dict(fired)
            chunk = Chunk(table.rows(piece.lanes), piece.rows, done, piece.lanes)
            spent = []
            with (
                threads_for(_work(piece, p.length)),
                torch.set_grad_enabled(bool(step.grads and not step.ahead)),
            ):
                if not piece.same_prefix(before):
                    spent.append(Counts())
                    known = ahead if piece.same_rows(before) else None
                    ahead = lowered.prefix(tokens, mask, piece.rows, spent[-1], known)
                spent.append(Counts())
                if step.ahead:
                    pushed = self._pushed(
                        step, partial(lowered.run, ahead, chunk, spent[-1]), chunk, piece, p.length
                    )
                    takes = [self._taking(kept[digest], value, piece) for digest, value in pushed]
                else:
                    captured = lowered.run(ahead, chunk, spent[-1])
                    takes = list(self._collect(step, captured, chunk, piece, also, kept))
                for take in takes:  # all is worked out by now: memory may run out before, and nothing counts
                    take()
            for counts in spent:
                totals.add_counts(counts, p.blocks, p.length)
            fired.update(done)
            before = piece

        apart = not step.grads and not crosses_rows(step.run)  # whether rows may run without each other
        pieces = list(reversed(p.pieces))
        p.pieces.clear()  # those that are done, as they were done
        while pieces:
            piece = pieces.pop()
            marks = piece.lowered.mark()
            try:
                do(piece)
            except (MemoryError, RuntimeError) as err:
                halves = piece.halves(apart)
                if halves is None or not out_of_memory(err):
                    raise
                piece.lowered.back_to(marks)
                before = None
                self._tell(step, piece)
                pieces = [half for x in pieces for half in reversed(x.halves(apart) or (x,))]
                pieces += reversed(halves)
                continue
            finally:
                piece.lowered.release()
            p.pieces.append(piece)
            yield piece.height * len(piece.lanes)
        self._check_fired(step, fired, p)
        self.noted = {}
        for node in [*step.outputs, *step.grads, *also]:
            stored = kept[node.digest].stored(node, self._sweep_order(step, node))
            if node.digest not in left:
                self.noted[node.digest] = stored
                continue
            self.evaluator.store[node.digest] = stored
            totals.bytes += stored.value.data.numel() * 4
        for digest, scan in scans.items():
            self.evaluator.chosen[digest] = scan.places(self._sweep_order(step, scan.node))
        for projection in {id(x.lowered): x.lowered.projection for x in p.pieces}.values():
            if projection is not None:
                totals.flops += projection.flops
                projection.flops = 0
        totals.peak_bytes += totals.bytes + held_bytes(p)
        self.session.done_with(p.lowered)
        if not step.spare:
            self.session.ran.add(step.run.digest)
        done.add(totals)

    def _tell(self, step: RunStep, piece: Piece) -> None:
        """Say once of a run that memory ran out, and that its pieces are smaller from here on."""
        if id(step) in self.told:
            return
        self.told.add(id(step))
        self.warn(
            Diagnostic(
                "MI0705",
                f"memory ran out in the run {step.name}: its pieces are halved",
                step.run.span,
                label=f"a piece of {len(piece.lanes)} lanes x {piece.height} rows was too large",
                help="nothing is lost; MIDSL_MEMORY gives the bytes to plan with",
                severity="warning",
            )
        )

    def _sweep_order(self, step: RunStep, node: ir.Node) -> tuple[ir.Sweep, ...]:
        own = {s.digest for s in step.sweeps}
        return (*step.sweeps, *(s for s in ir.sweeps_of(node) if s.digest not in own))

    def _collect(
        self,
        step: RunStep,
        captured: Captured,
        chunk: Chunk,
        piece: Piece,
        also: list[ir.Read],
        kept: Mapping[str, _Kept | Scan],
    ) -> Iterator[Callable[[], None]]:
        """What takes in each value that a piece leaves."""
        scene = self._scene(step, captured, chunk)
        looked: list[Scan] = []
        for node in [*step.outputs, *also]:
            env, memo = scene(node)
            holder = kept[node.digest]
            if isinstance(holder, _Kept):
                value = pointwise(self.evaluator.eval(node, env, memo), env)
                yield self._taking(holder, value, piece)
            elif not any(holder is x for x in looked):
                looked.append(holder)
                yield partial(holder.put, holder.look(self.evaluator, env, memo, piece), piece)
        if step.grads:
            for digest, value in self._gradients(step, captured, chunk, scene, piece.lowered):
                yield self._taking(kept[digest], value, piece)

    @staticmethod
    def _taking(holder: _Kept | Scan, value: NT, piece: Piece) -> Callable[[], None]:
        assert isinstance(holder, _Kept)
        return partial(holder.put, value, piece)

    def _pushed(
        self, step: RunStep, run: Callable[[], Captured], chunk: Chunk, piece: Piece, length: int
    ) -> Iterator[tuple[str, NT]]:
        """What directions change in a piece."""
        assert isinstance(piece.lowered, Lowered), "directions are pushed through a graph"
        info = self.session.bound.engine(step.run.model).info
        keys, scene = partial(self.session.keys, info), partial(self._scene, step, chunk=chunk)
        return push(step.ahead, keys, piece.lowered, chunk.table.size, run, scene, length)

    def _scene(self, step: RunStep, captured: Captured, chunk: Chunk) -> Scene:
        """Where expressions are evaluated in a chunk: each over the points of its sweeps."""
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

        return scene

    def _gradients(
        self, step: RunStep, captured: Captured, chunk: Chunk, scene: Scene, lowered: Lowered | Hooked | Rowed
    ) -> Iterator[tuple[str, NT]]:
        assert isinstance(lowered, Lowered), "gradients are taken in a graph"
        for grad in step.grads:
            env, memo = scene(grad.scalar)
            if lowered.switch is not None:
                lowered.switch.use(grad)
            scalar = self.evaluator.eval(grad.scalar, env, memo)
            entries = grad.entries
            keys = self.session.keys(self.session.bound.engine(step.run.model).info, grad.site)
            tensors = [lowered.leaves[k] for k in keys]
            assert env.table is not None
            points, sizes = _entries(scalar, entries, env.table.size)
            more = env.table.size // chunk.table.size  # points of sweeps that the run itself has not
            env, _ = scene(grad)  # its site may be at points of sweeps that the scalar has not
            assert env.table is not None
            at = env.table.flat(self._sweep_order(step, grad.scalar), self.evaluator.domains)
            env = replace(env, lanes=at - at.min())
            read: list[NT] = []
            for entry in points.T:
                parts: dict[Key, list[torch.Tensor]] = {k: [] for k in keys}
                for i in range(more):  # lanes do not mix: the gradient of their sum is that of each
                    found = torch.autograd.grad(
                        entry[i::more].sum(), tensors, retain_graph=True, allow_unused=True
                    )
                    for k, t, g in zip(keys, tensors, found, strict=True):
                        whole = torch.zeros_like(t) if g is None else g
                        parts[k].append(lowered.name(k, whole, chunk.table.size).data)
                values = {
                    k: NT(torch.stack(p, dim=1).flatten(0, 1), captured.values[k].axes)
                    for k, p in parts.items()
                }
                source = Captured(step.run, values, captured.rows, captured.domains)
                read.append(pointwise(source.read(grad.site, env), env))
            whole = torch.stack([x.data for x in read], dim=1)
            whole = whole.reshape(whole.shape[0], *sizes, *whole.shape[2:])
            yield grad.digest, NT(whole, (POINT, *(a.name for a in entries), *read[0].axes[1:]))

    def _check_fired(self, step: RunStep, fired: dict[str, int], p: Prepared) -> None:
        """Every write must have fired as often as the plan says: never a silent no-op."""
        table = Table.product(step.sweeps, self.evaluator.domains)
        for edit in step.run.edits:
            if isinstance(p.lowered, Rowed):
                _compare(edit, fired, p.lowered.fired.get(edit.digest, 0))
                continue
            index = edit.site.index("layer")
            want = 0
            for piece in p.pieces:
                layers = [op.key[1] for op in piece.lowered.ops for e in op.edits if e == edit]
                if isinstance(index, ir.Coord):  # each lane edits the layer of its own point
                    column = self.evaluator.domains.column(index.sweep, index.index)
                    mine = column[table.index[index.sweep.digest][piece.lanes]].tolist()
                    want += sum(map(layers.count, mine))
                else:
                    want += len(piece.lanes) * len(layers)
            _compare(edit, fired, want)


def _compare(edit: ir.Edit, fired: dict[str, int], want: int) -> None:
    if fired.get(edit.digest, 0) != want:
        raise AssertionError(
            f"an edit at {edit.site.name} fired {fired.get(edit.digest, 0)} times, planned {want}"
        )


def _entries(scalar: NT, entries: Sequence[Axis], points: int) -> tuple[torch.Tensor, list[int]]:
    """What is differentiated, [points, entries], rows summed since they do not meet; sizes of the entries."""
    sizes = {a.name: scalar.sizes.get(a.name, a.size) for a in entries}
    own = {a: n for a, n in scalar.sizes.items() if a not in (POINT, *sizes)}
    whole = scalar.expand({POINT: points, **own, **sizes}).data  # type: ignore[dict-item]
    return whole.reshape(points, math.prod(own.values()), -1).sum(1), list(sizes.values())  # type: ignore[arg-type]


def _work(piece: Piece, length: int) -> int:
    """FLOPs of a piece."""
    if isinstance(piece.lowered, Rowed):
        return piece.lowered.predict(piece.lanes, piece.rows).flops
    return piece.lowered.count(piece.height, len(piece.lanes), length).flops


class _Kept:
    """One value while its pieces come in: lanes and rows in whatever order."""

    def __init__(self, lanes: int, rows: int) -> None:
        self.lanes, self.rows = lanes, rows
        self.buffer: NT | None = None

    def put(self, value: NT, piece: Piece) -> None:
        """Take the value of one piece: axes "@" (lanes, then points of further sweeps), and the rest."""
        if len(piece.lanes) == self.lanes and piece.height == self.rows:
            ordered = bool((piece.lanes == torch.arange(self.lanes)).all())
            assert ordered and self.buffer is None, "one piece of all lanes has them in order"
            self.buffer = value
            return
        more = value.size(POINT) // len(piece.lanes)
        sizes = {a: self.rows if a == "batch" else n for a, n in value.sizes.items()}
        sizes[POINT] = self.lanes * more
        if self.buffer is None:
            self.buffer = NT(value.data.new_empty(list(sizes.values())), value.axes)
        assert "batch" in value.axes or piece.height == self.rows, "pieces of a value without `batch`"
        value = value.permute_to(self.buffer.axes)
        places = (piece.lanes[:, None] * more + torch.arange(more)[None, :]).reshape(-1)
        target = self.buffer.data
        if "batch" in value.axes:
            target = target.narrow(self.buffer.dim("batch"), piece.rows.start, piece.height)
        target[places] = value.data

    def stored(self, node: ir.Node, sweeps: tuple[ir.Sweep, ...]) -> Stored:
        """The whole value, once all pieces are in."""
        assert self.buffer is not None
        return Stored(sweeps, self.buffer).over_sweeps
