"""Lowering a run: the model's graph with its edits inserted, cut down to what is read.

A copy of the exported graph gets the expansions that the touched sites need, an `EditOp` behind each
edited node, and as its outputs only the captured nodes; what they don't need is removed, which is
also what stops a run after its deepest read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from midsl.backends.eager import Counts, Runner
from midsl.data.dataset import Part
from midsl.diagnostics.model import fail
from midsl.graph.backward import Switch
from midsl.graph.expand import SiteConflict
from midsl.graph.info import flowing
from midsl.graph.simplify import simplify
from midsl.graph.sites import ModelGraph, SiteNode, specialise
from midsl.ir import nodes as ir
from midsl.ops.named import NT
from midsl.plan.capture import Captured, to_named
from midsl.plan.domains import Table
from midsl.plan.edits import Chunk, EditOp
from midsl.plan.evaluate import Evaluator
from midsl.plan.keys import Key, axes_of, edits_by_key
from midsl.plan.leaf import Leaf, Pushed
from midsl.plan.project import Projection

LEAF = Leaf()
PROJECTED: Key = ("logits", None)
Prefix = Mapping[fx.Node, Any]


@dataclass
class Lowered:
    """A run ready to go: its runner, what it captures, its edits."""

    runner: Runner
    captures: tuple[Key, ...]
    nodes: Mapping[Key, SiteNode]
    axes: Mapping[Key, tuple[str, ...]]
    ops: tuple[EditOp, ...]
    sizes: Mapping[str, int]
    projection: Projection | None
    run_node: ir.Forward
    evaluator: Evaluator
    stable: frozenset[str] = frozenset()
    """Names of the nodes that the exported graph has, before any expansion."""
    counted: dict[tuple[int, int, int], Counts] = field(default_factory=dict)
    leaves: dict[Key, Tensor] = field(default_factory=dict)
    """What the latest chunk captured, as the graph has it: gradients are taken of these tensors."""
    switch: Switch | None = None
    """The backward rules that the graph has, where it has some."""
    pushed: tuple[Pushed, ...] = ()
    """Where directions are pushed on."""

    def count(self, rows: int, lanes: int, length: int) -> Counts:
        """What a run of `lanes` lanes over `rows` rows of `length` tokens costs, on its own."""
        key = (rows, lanes, length)
        if key not in self.counted:
            counts = self.counted[key] = Counts()
            tokens = torch.zeros(rows, length, dtype=torch.int64, device="meta")
            with torch.no_grad():
                ahead = self.prefix(tokens, tokens, slice(0, rows), counts)
            counts.add(self.shapes(ahead, lanes))
        return self.counted[key]

    def shapes(self, prefix: Prefix, lanes: int) -> Counts:
        """What the lanes cost after a prefix on meta tensors; nothing is computed."""
        counts = Counts()
        with torch.no_grad():
            self.runner.rest(prefix, lanes, counts)
        return counts

    def prefix(self, tokens: Tensor, mask: Tensor, rows: slice, counts: Counts, known: Any = None) -> Prefix:
        """Run what no edit can change, for some rows; `known` is the prefix of another cut on them."""
        # nodes that expansions insert bear names that mean something else in another cut
        values = {n.name: v for n, v in known.items() if n.name in self.stable} if known else None
        return self.runner.prefix([tokens[rows], mask[rows]], counts, values)

    def run(self, prefix: Prefix, chunk: Chunk, counts: Counts) -> Captured:
        """Run one chunk of lanes: every captured site with axes ("@", batch, ...)."""
        for op in self.ops:
            op.chunk = chunk
        lanes = chunk.table.size
        outputs = self.runner.rest(prefix, lanes, counts)
        self.leaves = dict(zip(self.captures, outputs, strict=True))
        values = {key: self.name(key, out, lanes) for key, out in self.leaves.items()}
        return Captured(self.run_node, values, self.evaluator.rows, self.evaluator.domains, self.projection)

    def over(self, part: Part) -> Captured:
        """Run all rows of some data once, with one lane."""
        rows = slice(0, len(part))
        mask = torch.arange(part.tokens.shape[1])[None, :] < torch.from_numpy(part.lengths)[:, None]
        counts = Counts()
        ahead = self.prefix(torch.from_numpy(part.tokens), mask.to(torch.int64), rows, counts)
        return self.run(ahead, Chunk(Table.product((), self.evaluator.domains), rows), counts)

    def mark(self) -> object:
        """What `back_to` needs to undo a chunk that did not come to its end."""
        return self.projection.flops if self.projection is not None else 0

    def back_to(self, mark: object) -> None:
        """Undo what an unfinished chunk has counted."""
        if self.projection is not None:
            assert isinstance(mark, int)
            self.projection.flops = mark

    def release(self) -> None:
        """Let go of the latest chunk's tensors."""
        self.leaves = {}
        for op in self.ops:
            op.chunk = None

    def name(self, key: Key, x: Tensor, lanes: int) -> NT:
        """A captured node's value, or its gradient, with named axes."""
        return to_named(x, self.nodes[key].layout, self.axes[key], lanes, self.sizes)


def lower(
    mg: ModelGraph,
    run: ir.Forward,
    captures: Collection[Key],
    gradients: Collection[Key],
    evaluator: Evaluator,
    project: bool,
    cones: bool = True,
    layers: Mapping[str, set[int]] | None = None,
    backwards: int = 1,
    tidy: bool = False,
    switch: Switch | None = None,
    directions: int = 0,
) -> Lowered:
    """Build the graph of one run.

    `gradients` are captured keys at which gradients are taken, in `backwards` passes back; `project`
    leaves out the unembedding; `cones` computes only once what no edit can change. `layers` names, by
    edit digest, the layers that the lanes at hand edit, where these are not all; `tidy` puts together
    what the graph spells out; `switch` has the backward rules of the gradients. Where there are `directions`,
    these are pushed on from the keys of `gradients`, and no pass back is made.
    """
    writes = edits_by_key(run, mg.info, evaluator.domains)
    if layers is not None:
        writes = {
            key: kept
            for key, edits in writes.items()
            if (kept := [e for e in edits if key[1] is None or key[1] in layers[e.digest]])
        }
    wanted = [k for k in dict.fromkeys(captures) if not (project and k == PROJECTED)]
    try:
        graph, nodes = specialise(mg, {*wanted, *writes}, {*writes, *flowing(mg.info, gradients)}, switch)
    except SiteConflict as err:
        raise fail("MI0405", str(err), run.span, help="ask for one of them in a run of its own") from None
    if tidy:
        simplify(graph, {s.node for s in nodes.values()})
    by_name = {n.name: n for n in graph.nodes}
    last: dict[str, fx.Node] = {}
    ops: list[EditOp] = []
    axes = {key: axes_of(mg.info, key) for key in {*wanted, *writes}}
    for key, edits in writes.items():
        site = nodes[key]
        node = last.get(site.node, by_name[site.node])
        op = EditOp(key, site.layout, axes[key], mg.info.sizes, tuple(edits), run, evaluator)
        op.constant = switch.edits() if switch is not None else None
        op.through = op.constant is not None
        op.constant = Tensor.detach if directions else op.constant
        ops.append(op)
        last[site.node] = _insert_after(graph, node, op)
    pushed: list[Pushed] = []
    for key in gradients:
        name = nodes[key].node
        node = last.get(name, by_name[name])
        if not getattr(node.target, "leaf", False):
            mark = Pushed(key) if directions else LEAF
            last[name] = _insert_after(graph, node, mark)
            pushed += [mark] if isinstance(mark, Pushed) else []
    outputs = [last.get(nodes[k].node, by_name[nodes[k].node]) for k in wanted]
    projection = None
    if project:
        assert mg.unembed is not None
        projection = _projection(mg)
        site = mg.unembed.input
        wanted.append(PROJECTED)
        nodes = {**nodes, PROJECTED: site}
        axes[PROJECTED] = ("batch", "pos", "d_model")
        outputs.append(_operand(mg, by_name[mg.unembed.node]))
    end = next(n for n in graph.nodes if n.op == "output")
    end.args = (tuple(outputs),)
    graph.eliminate_dead_code(_keeps)  # attention counts as random, for its dropout: it goes all the same
    alive = {n.target for n in graph.nodes}
    ops = [op for op in ops if op in alive]  # an edit after all that is read is not made
    blocks = {n.name: n.meta["block"] for n in graph.nodes if "block" in n.meta}
    return Lowered(
        Runner(graph, mg.gm, blocks, cones, backwards, directions),
        tuple(wanted),
        nodes,
        axes,
        tuple(ops),
        mg.info.sizes,
        projection,
        run,
        evaluator,
        frozenset(n.name for n in mg.gm.graph.nodes),
        switch=switch,
        pushed=tuple(p for p in pushed if p in alive),
    )


def _operand(mg: ModelGraph, product: fx.Node) -> fx.Node:
    """What the unembedding is a product of, in a rewritten graph."""
    assert mg.unembed is not None
    base = next(n for n in mg.gm.graph.nodes if n.name == mg.unembed.node)
    at = next(i for i, a in enumerate(base.args) if getattr(a, "name", "") == mg.unembed.input.node)
    found = product.args[at]
    assert isinstance(found, fx.Node)
    return found


def _keeps(node: fx.Node) -> bool:
    return node.op in ("placeholder", "output")


def _insert_after(graph: fx.Graph, node: fx.Node, function: object) -> fx.Node:
    with graph.inserting_after(node):
        new = graph.call_function(function, (node,))  # type: ignore[arg-type]
    for known in ("val", "block"):
        if known in node.meta:
            new.meta[known] = node.meta[known]
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    return new


def _projection(mg: ModelGraph) -> Projection:
    """The unembedding as a function of some rows of W_U."""
    u = mg.unembed
    assert u is not None
    nodes = {n.name: n for n in mg.gm.graph.nodes}
    chain = [nodes[name] for name in u.post]

    def post(x: Tensor) -> Tensor:
        for node in chain:
            args = [x if isinstance(a, fx.Node) else a for a in node.args]
            x = node.target(*args, **node.kwargs)
        return x

    weight = _attr(mg.gm, u.weight)
    weight = weight.T if u.in_first else weight
    bias = _attr(mg.gm, u.bias) if u.bias is not None else None
    return Projection(weight, bias, post)


def _attr(module: torch.nn.Module, path: str) -> Tensor:
    found: object = module
    for part in path.split("."):
        found = getattr(found, part)
    assert isinstance(found, Tensor)
    return found.detach()
