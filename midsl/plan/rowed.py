"""A run that goes by rows: its graph, the rows it computes, and what it keeps for runs that start from it.

It has the face of ``midsl.plan.lower.Lowered``, over ``midsl.backends.rows``. A run that starts from a base
run computes only rows that can differ from it; a run without one computes what is read of it and what others
take. What is taken is kept by the name of the node in the model's graph, whole: [batch, pos, ..].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from midsl.backends.compiled import Compiler
from midsl.backends.eager import Counts
from midsl.backends.rowindex import gather
from midsl.backends.rows import RowRun, RowRunner
from midsl.data.dataset import Part
from midsl.graph.rowwise import Dims, Rowwise, classify
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.plan.domains import Table
from midsl.plan.edits import Chunk, EditOp
from midsl.plan.evaluate import Evaluator
from midsl.plan.keys import Key, keys_of
from midsl.plan.lower import Lowered
from midsl.plan.positions import place, single
from midsl.plan.project import Projection
from midsl.plan.rowcapture import RowCaptured
from midsl.plan.rowplan import EditRows, Masks, RowPlan, operands, plan_rows
from midsl.plan.taken import Static, Taken, name_of
from midsl.plan.touch import edit_rows


@dataclass
class Rowed:
    """A run by rows.

    Attributes:
        mg: the model's graph.
        lowered: the run's graph, what it captures, its edits.
        part: the rows of its data.
        table: the points of all its lanes.
        real: the rows that its data has, bool [1, batch, pos].
        reads: what is read of it.
        base: the run whose values stand where nothing is computed; None for a run from the tokens on.
        source: a run that edits take whole rows of.
        dead: leave out rows of which it is known that they do not differ.
        compiler: runs segments of it compiled.
        wanted: rows that others take of this run, bool [batch, pos], by name.
        kept: the values of those nodes, once they are there.
    """

    mg: ModelGraph
    lowered: Lowered
    part: Part
    table: Table
    real: Tensor
    reads: list[ir.Read]
    base: Rowed | None
    dead: bool
    compiler: Compiler | None = None
    source: Rowed | None = None
    wanted: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    users: int = 0
    """How many runs still start from this one."""
    counted: dict[tuple[int, ...], Counts] = field(default_factory=dict)
    """What a chunk costs, by its lanes and examples."""
    fired: dict[str, int] = field(default_factory=dict)
    """How often each edit should have fired, in the chunks done so far."""

    @property
    def run_node(self) -> ir.Forward:
        return self.lowered.run_node

    @property
    def evaluator(self) -> Evaluator:
        return self.lowered.evaluator

    @property
    def projection(self) -> Projection | None:
        return self.lowered.projection

    @property
    def ops(self) -> tuple[EditOp, ...]:
        return self.lowered.ops

    # -- what is there

    @cached_property
    def nodes(self) -> list[fx.Node]:
        return [n for n in self.lowered.runner.nodes if n.op == "call_function"]

    @cached_property
    def rowwise(self) -> Rowwise:
        graph = self.lowered.runner.nodes[0].graph
        return classify(graph, self.mg.parts, self.mg.rules, self.lowered.stable)

    @cached_property
    def runner(self) -> RowRunner:
        r, frame = self.lowered.runner, self.mg.parts.frame
        return RowRunner(
            self.nodes, self.rowwise, r.attrs, (frame.batch, frame.pos), r.blocks, r.calls, self.compiler
        )

    @cached_property
    def outputs(self) -> dict[Key, fx.Node]:
        """The node of each capture."""
        end = self.lowered.runner.nodes[-1]
        return dict(zip(self.lowered.captures, end.args[0], strict=True))

    @cached_property
    def edited(self) -> dict[fx.Node, EditOp]:
        return {n: n.target for n in self.nodes if isinstance(n.target, EditOp)}

    @cached_property
    def named(self) -> dict[str, fx.Node]:
        """Nodes by the name that other runs know them by: an edited value has that of what it was."""
        found = {n.name: n for n in self.nodes if n.name in self.lowered.stable}
        return found | {name_of(n, self.lowered.stable) or "": n for n in self.edited}

    @cached_property
    def veto(self) -> str:
        """Why this run cannot go by rows; "" where it can."""
        if len({n.all_input_nodes[0] for n in self.edited} & set(self.edited)):
            return "two edits stand at one place"
        if self.base is not None:
            if self.base.veto:
                return self.base.veto
            if any(name_of(n, self.base.lowered.stable) is None for n in self.base.edited):
                return "the run it starts from has an edit that is no node of the model"
            for op in self.edited.values():
                shared = [e in self.base.run_node.edits for e in op.edits]
                if any(shared) and not all(shared):
                    return "edits of all lanes and of some stand at one place"
        reached: set[fx.Node] = set()
        for node in self.nodes:
            starts = node in self.edited or (self.base is None and node.name == self.rowwise.start)
            if starts or any(a in reached for a in node.all_input_nodes):
                reached.add(node)
                if self.rowwise.kinds[node] == "mixing":
                    return self.rowwise.why[node]
        for node in self.outputs.values():
            dims = self.rowwise.dims.get(node, Dims())
            if dims.flat is None and (dims.batch is None or dims.pos is None):
                return f"{node.name} is read, which has no rows"
        return ""

    # -- planning

    @cached_property
    def edit_rows(self) -> dict[fx.Node, EditRows]:
        base = self.base.run_node if self.base is not None else None
        source = self.source.run_node if self.source is not None else None
        return {
            n: edit_rows(op, base, self.table, self.real, self.dead, source) for n, op in self.edited.items()
        }

    @property
    def _at_source(self) -> set[fx.Node]:
        """The nodes that the source run has, too."""
        if self.source is None:
            return set()
        names = {n: name_of(n, self.lowered.stable) for n in self.nodes}
        return {n for n, name in names.items() if name is not None and name in self.source.named}

    @property
    def every(self) -> Tensor:
        """All rows that there are: bool [lane, batch, pos]."""
        return self.real.expand(self.table.size, *self.real.shape[1:])

    @cached_property
    def plan(self) -> RowPlan:
        """The rows of all lanes and examples; asked for once all that `wanted` holds is known."""
        masks, every = Masks(), self.every
        reads: dict[fx.Node, Tensor] = {}

        def ask(node: fx.Node, rows: Tensor) -> None:
            found = masks.union(reads.get(node), rows)
            assert found is not None
            reads[node] = found

        for node, rows in self._read_rows(every):
            ask(node, rows)
        for name, rows in self.wanted.items():
            ask(self.named[name], rows.expand(self.table.size, *rows.shape))
        start = dict.fromkeys(self.start if self.base is None else [], every)
        return plan_rows(
            self.nodes, self.rowwise, self.real, start, self.edit_rows, reads, masks, self._at_source
        )

    @property
    def start(self) -> list[fx.Node]:
        """The token lookup, where rows begin; none in a graph that is cut to what needs no tokens."""
        return [n for n in self.nodes if n.name == self.rowwise.start]

    def _read_rows(self, every: Tensor) -> Iterator[tuple[fx.Node, Tensor]]:
        """Which rows each read needs, of which node."""
        width = every.shape[2]
        for read in self.reads:
            index = read.site.index("pos")
            at = place(index, self.table, slice(0, every.shape[1]), self.evaluator) if single(index) else None
            rows = every
            if at is not None:
                rows = (at.clamp(0, width - 1)[..., None] == torch.arange(width)).expand(every.shape) & every
            for key in keys_of(read.site, self.mg.info, self.evaluator.domains):
                if key in self.outputs:
                    yield self.outputs[key], rows

    def _taken(self) -> dict[fx.Node, Tensor]:
        """Rows that are taken of the base run, bool [batch, pos], by node of this run."""
        found: dict[fx.Node, Tensor] = {}
        active = self.plan.active

        def take(node: fx.Node, rows: Tensor) -> None:
            if self.rowwise.kinds.get(node, "static") == "static" or active.get(node) is rows:
                return
            there = rows
            for has in (active.get(node), self.plan.given.get(node)):
                if has is not None:
                    there = there & ~has
            some = there.any(0)
            if bool(some.any()):
                found[node] = found[node] | some if node in found else some

        for node, rows in active.items():
            if node in self.edited:
                take(node.all_input_nodes[0], self._arriving(node, rows))
            elif self.rowwise.kinds[node] == "attention":
                q, k, v = operands(node)
                take(q, rows)
                keys = (rows.flip(-1).cumsum(-1).flip(-1) > 0) & self.real
                take(k, keys)
                take(v, keys)
            else:
                for a in node.all_input_nodes:
                    take(a, rows)
        for node, rows in self._read_rows(self.every):
            take(node, rows)
        for name, rows in self.wanted.items():
            take(self.named[name], rows.expand(self.table.size, *rows.shape))
        return found

    def _arriving(self, node: fx.Node, rows: Tensor) -> Tensor:
        """Rows of what arrives at an edit that the edit, or what passes it by, needs."""
        e = self.edit_rows[node]
        needed = rows if e.whole is None else rows & ~e.whole
        if e.wide is not None:
            needed = needed | (e.wide & rows.any(2, keepdim=True).any(1, keepdim=True))
        return needed

    def _made_of(self, node: fx.Node) -> list[fx.Node]:
        """The nodes of the model's graph that a node's base value is made of: itself, unless it is a view."""
        if name_of(node, self.lowered.stable) is not None:
            return [node]
        moving = [a for a in node.all_input_nodes if self.rowwise.kinds[a] != "static"]
        return [m for a in moving for m in self._made_of(a)]

    def ask_base(self) -> str:
        """Tell the base run which rows of which nodes to keep; say why, if it has no such nodes."""
        assert self.base is not None
        asked: dict[str, Tensor] = {}
        for node, rows in self._taken().items():
            for made in self._made_of(node):
                name = name_of(made, self.lowered.stable)
                if name is None or name not in self.base.named:
                    return f"the run it starts from does not reach {made.name}"
                asked[name] = asked[name] | rows if name in asked else rows
        for name, rows in asked.items():
            before = self.base.wanted.get(name)
            self.base.wanted[name] = rows if before is None else before | rows
        return ""

    def ask_source(self) -> None:
        """Tell the source run which rows of which nodes to keep."""
        assert self.source is not None
        for node, rows in self.plan.given.items():
            name = name_of(node, self.lowered.stable)
            assert name is not None
            before, some = self.source.wanted.get(name), rows.any(0)
            self.source.wanted[name] = some if before is None else before | some

    def keep_all(self, most: int) -> None:
        """Keep all rows that are computed, for runs of later plans; none, if that is over `most` bytes."""
        own = {n: node for n, node in self.named.items() if isinstance(self.runner.value(node), Tensor)}
        active = {name: self.plan.active.get(node) for name, node in own.items()}
        found = {name: rows.any(0) for name, rows in active.items() if rows is not None}
        if sum(self.runner.bytes_kept(self.named[n]) for n in found) * self.real.numel() <= most:
            self.wanted.update({n: rows | self.wanted.get(n, rows) for n, rows in found.items()})

    def lane_rows(self, rows: slice) -> Tensor:
        """The most rows that one node computes, by lane, for some examples: int64 [lane]."""
        most = torch.zeros(self.table.size, dtype=torch.int64)
        for mask in self.plan.distinct():
            most = torch.maximum(most, mask[:, rows].sum((1, 2)))
        return most

    def kept_bytes(self) -> int:
        """Bytes of what is kept for others."""
        rows = self.real.numel()
        return sum(self.runner.bytes_kept(self.named[name]) * rows for name in self.wanted)

    def predict(self, lanes: Tensor, rows: slice) -> Counts:
        """What a chunk costs; nothing is computed."""
        key = (*lanes.tolist(), rows.start, rows.stop)
        if key not in self.counted:
            counts = self.counted[key] = Counts()
            self.runner.predict(self.plan.part(lanes, rows).active, self.keep, counts)
        return self.counted[key]

    @cached_property
    def keep(self) -> set[fx.Node]:
        """Nodes whose values are read, or kept for others."""
        return {*self.outputs.values(), *(self.named[n] for n in self.wanted)}

    # -- running

    def prefix(self, tokens: Tensor, mask: Tensor, rows: slice, counts: Counts, known: Any = None) -> Static:
        """What follows from the tokens alone, for some rows of the data."""
        return self.lowered.runner.static(
            [tokens[rows], mask[rows]], {n for n, k in self.rowwise.kinds.items() if k == "static"}
        )

    def run(self, prefix: Static, chunk: Chunk, counts: Counts) -> RowCaptured:
        """Compute the rows of some lanes and examples; what was captured is read of the result."""
        lanes = chunk.lanes
        assert lanes is not None
        plan = self.plan.part(lanes, chunk.rows)
        base = Taken(self, chunk.rows, prefix)
        edits = {n: e.part(lanes, chunk.rows) for n, e in self.edit_rows.items()}
        run = RowRun(
            self.runner,
            plan.active,
            prefix,
            base,
            plan.given,
            lambda node: self._of_source(node, chunk.rows),
            lambda node, run: self._edit(node, edits[node], chunk, run),
            self.keep,
            counts,
            (chunk.rows.stop - chunk.rows.start, self.real.shape[2]),
        )
        run.run()
        self._store(run, chunk.rows)
        return RowCaptured(
            self.run_node, {}, self.evaluator.rows, self.evaluator.domains, self.projection, self, run, chunk
        )

    def _of_source(self, node: fx.Node, rows: slice) -> Tensor:
        """What the source run has of a node, for some examples."""
        name = name_of(node, self.lowered.stable)
        assert self.source is not None and name is not None
        found = self.source.taken(name, rows)
        assert found is not None, f"{name} was not kept by the run that it is taken of"
        return found

    def _edit(self, node: fx.Node, rows: EditRows, chunk: Chunk, run: RowRun) -> Tensor:
        """An edit at its active rows: whole lanes go through the operation, the others pass by."""
        source, op = node.all_input_nodes[0], self.edited[node]
        index = run.index(run.active[node])
        lane, example, pos = index.parts
        mine = rows.touched.any(2).any(1) & index.mask.any(2).any(1)
        lanes = mine.nonzero().flatten()
        if not len(lanes):
            return run.arg(source, index)  # type: ignore[no-any-return]
        op.chunk = Chunk(chunk.table.rows(lanes), chunk.rows, chunk.fired)
        self._expect(op, lanes, chunk)
        edited = op(run.dense(source, lanes))
        dims = run.dims(source)
        number = torch.full((chunk.table.size,), -1, dtype=torch.int64)
        number[lanes] = torch.arange(len(lanes))
        row = number[lane]
        height, width = run.shape
        inside = (row >= 0).nonzero().flatten()
        new = gather(edited, dims, row[inside] * height + example[inside], pos[inside], width)
        if len(inside) == index.count:
            return new
        rest = (row < 0).nonzero().flatten()
        old = run.at(source, lane[rest], example[rest], pos[rest])
        dim = dims.flat if dims.flat is not None else dims.pos
        assert dim is not None
        order = torch.cat([inside, rest]).argsort()
        return torch.cat([new, old], dim).index_select(dim, order)

    def _expect(self, op: EditOp, lanes: Tensor, chunk: Chunk) -> None:
        """Count the lanes whose point edits this layer."""
        for edit in op.edits:
            index = edit.site.index("layer")
            n = len(lanes)
            if isinstance(index, ir.Coord):
                column = self.evaluator.domains.column(index.sweep, index.index)
                n = int(column[chunk.table.index[index.sweep.digest][lanes]].eq(op.key[1] or 0).sum())
            self.fired[edit.digest] = self.fired.get(edit.digest, 0) + n

    def _store(self, run: RowRun, rows: slice) -> None:
        """Keep what others take of this run, which then has one lane."""
        for name in self.wanted:
            value = run.dense(self.named[name], torch.zeros(1, dtype=torch.int64))
            if name not in self.kept:
                every = self._examples(name, slice(0, self.real.shape[1]))
                self.kept[name] = value.new_zeros(every.stop, *value.shape[1:])
            self.kept[name][self._examples(name, rows)] = value

    def taken(self, name: str, rows: slice) -> Tensor | None:
        """What is kept of a node for some examples; None if it is not kept."""
        kept = self.kept.get(name)
        return None if kept is None else kept[self._examples(name, rows)]

    def _examples(self, name: str, rows: slice) -> slice:
        """Where some examples stand along the first dimension of a node: it may hold their positions too."""
        each = self.real.shape[2] if self.rowwise.dims[self.named[name]].flat is not None else 1
        return slice(rows.start * each, rows.stop * each)

    def mark(self) -> object:
        """What `back_to` needs to undo a chunk that did not come to its end."""
        return dict(self.fired), self.lowered.mark()

    def back_to(self, mark: object) -> None:
        """Undo what an unfinished chunk has counted."""
        assert isinstance(mark, tuple)
        self.fired = mark[0]
        self.lowered.back_to(mark[1])

    def release(self) -> None:
        """Let go of the latest chunk."""
        for op in self.ops:
            op.chunk = None
