"""Running a lowered graph on packed rows: only those that a plan names, of any lane, in tall products.

A packed value has batch 1 and as many positions as it has rows, so every node that is local in positions
runs as it stands in the graph. Where a node's arguments have other rows than it has, they are gathered: from
what was computed, else from the base run's value at that example and position. Rows of an example meet
only in attention, which is done per lane and example, against the base run's keys and values.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from midsl.backends.compiled import Compiler, Segment, one_set, segments_of
from midsl.backends.eager import FLOPS, VIEWS, Counts
from midsl.backends.packed import Call, Then, followers, fused
from midsl.backends.rowindex import Bucket, Index, gather, rectangle
from midsl.backends.rowshape import along, is_view, size_in_bytes, sizes, with_size
from midsl.graph.rowwise import Dims, Rowwise

aten = torch.ops.aten
NEITHER = 0.0
"""What stands at rows that nobody looks at."""


@dataclass
class RowRunner:
    """A graph made ready to run by rows.

    Attributes:
        nodes: its calls, in order.
        attrs: values of its attributes.
        symbols: the sizes called batch and pos.
        blocks: block index by node name, for the counts.
        calls: what to call in place of a node's own target.
    """

    nodes: list[fx.Node]
    rowwise: Rowwise
    attrs: Mapping[fx.Node, Any]
    symbols: tuple[Any, Any]
    blocks: Mapping[str, int]
    calls: Mapping[fx.Node, Call] = field(default_factory=dict)
    compiler: Compiler | None = None
    follows: Mapping[fx.Node, Then] = field(init=False)
    _segments: dict[frozenset[fx.Node], list[Segment]] = field(default_factory=dict)
    _flops: dict[fx.Node, int] = field(default_factory=dict)
    _bytes: dict[fx.Node, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.follows = followers(self.calls, VIEWS)

    def segments(self, keep: Collection[fx.Node]) -> list[Segment]:
        """Stretches of nodes between products and attentions, as compiled functions may run them."""
        key = frozenset(keep)
        if key not in self._segments:  # many chunks keep the same nodes
            activations = {then.node for then in self.follows.values()}
            self._segments[key] = segments_of(self.nodes, self.rowwise.kinds, key, activations)
        return self._segments[key]

    def size(self, value: Any, rows: int) -> int:
        """A size of the graph for packed rows."""
        expr = getattr(getattr(value, "node", None), "expr", None)
        if expr is None:
            return int(value)
        start, step = sizes(expr, *self.symbols)
        return start + step * rows

    def shaped(self, value: Any, rows: int) -> Any:
        """What a value recorded in the graph is for packed rows: tensors on meta, sizes as numbers."""
        if isinstance(value, Tensor):
            return torch.empty([self.size(n, rows) for n in value.shape], dtype=value.dtype, device="meta")
        if isinstance(value, (tuple, list)):
            return type(value)(self.shaped(v, rows) for v in value)
        return self.size(value, rows)

    def flops(self, node: fx.Node) -> int:
        """FLOPs of a local node for one row."""
        if node not in self._flops:
            rule = FLOPS.get(node.target)
            if rule is None:
                self._flops[node] = 0
            else:
                args = fx.map_arg(
                    node.args,
                    lambda a: self.attrs[a] if a in self.attrs else self.shaped(self.value(a), 1),
                )
                self._flops[node] = rule(args, self.shaped(self.value(node), 1))
        return self._flops[node]

    def value(self, node: fx.Node) -> Any:
        """What the graph recorded of a node's value; an edit has the shape of what it edits."""
        while "val" not in node.meta:
            node = node.all_input_nodes[0]
        return node.meta["val"]

    def bytes_kept(self, node: fx.Node) -> int:
        """Bytes of a node's value for one row, if it is kept."""
        return size_in_bytes(self.shaped(self.value(node), 1))

    def bytes(self, node: fx.Node) -> int:
        """Bytes of a node's value for one row; a view has none of its own."""
        if node not in self._bytes:
            self._bytes[node] = 0 if is_view(node) else self.bytes_kept(node)
        return self._bytes[node]

    def attention_flops(self, node: fx.Node, bucket: Bucket) -> int:
        """FLOPs of one call: 2 x queries x keys x (d of k + d of v), filling included."""
        q, k, v = (self.shaped(self.value(a), 1) for a in node.args[:3] if isinstance(a, fx.Node))
        return int(2 * bucket.rows.numel() * q.shape[1] * bucket.end * (k.shape[-1] + v.shape[-1]))

    def predict(self, active: Mapping[fx.Node, Tensor], keep: Collection[fx.Node], counts: Counts) -> None:
        """Count what a pass over these rows does, without doing it."""
        indices = {id(m): Index(m) for m in active.values()}
        for node, live in self.walk(
            active, keep, counts, lambda n: self.bytes(n) * indices[id(active[n])].count
        ):
            index = indices[id(active[node])]
            kind = self.rowwise.kinds[node]
            if kind == "attention":
                self.count(node, sum(self.attention_flops(node, b) for b in index.buckets), counts)
            elif kind == "local":
                self.count(node, self.flops(node) * index.count, counts)
            live()

    def walk(
        self,
        active: Mapping[fx.Node, Tensor],
        keep: Collection[fx.Node],
        counts: Counts,
        bytes_of: Callable[[fx.Node], int],
        let_go: Callable[[fx.Node], object] = lambda node: None,
    ) -> Iterator[tuple[fx.Node, Callable[[], None]]]:
        """Yield active nodes in order, each with what to call once its value is there; counts live bytes."""
        nodes = [n for n in self.nodes if n in active]
        last: dict[fx.Node, fx.Node] = {}
        for node in nodes:
            for used in node.all_input_nodes:
                last[used] = node
        dead: dict[fx.Node, list[fx.Node]] = {}
        for used, by in last.items():
            if used in active and used not in keep:
                dead.setdefault(by, []).append(used)
        held: dict[fx.Node, int] = {}
        live = 0
        for node in nodes:

            def done(node: fx.Node = node) -> None:
                nonlocal live
                held[node] = bytes_of(node)
                live += held[node]
                counts.total_bytes += held[node]
                counts.peak_bytes = max(counts.peak_bytes, live)
                for gone in dead.get(node, ()):
                    live -= held.pop(gone)
                    let_go(gone)

            yield node, done

    def count(self, node: fx.Node, flops: int, counts: Counts) -> None:
        """Add FLOPs to the totals and to the node's block."""
        counts.flops += flops
        block = self.blocks.get(node.name)
        if block is not None and flops:
            counts.by_block[block] = counts.by_block.get(block, 0) + flops


@dataclass
class RowRun:
    """One pass over some lanes and examples.

    Attributes:
        active: the rows of each node that are computed; the same mask is the same object.
        static: values of static nodes, for the examples of the pass.
        base: the base run's value of a node, [batch, pos, ..] as the graph has it; None if it has none.
        given: the rows of each node that are those of the source run.
        source: the source run's value of a node, as `base`.
        edit: computes an edit node at its active rows.
        keep: nodes whose values are asked for afterwards.
    """

    runner: RowRunner
    active: Mapping[fx.Node, Tensor]
    static: Mapping[fx.Node, Any]
    base: Callable[[fx.Node], Tensor | None]
    given: Mapping[fx.Node, Tensor]
    source: Callable[[fx.Node], Tensor]
    edit: Callable[[fx.Node, RowRun], Tensor]
    keep: Collection[fx.Node]
    counts: Counts
    shape: tuple[int, int]
    """Examples and positions."""
    values: dict[fx.Node, Any] = field(default_factory=dict)
    _indices: dict[int, Index] = field(default_factory=dict)
    _static: dict[tuple[fx.Node, int], Any] = field(default_factory=dict)
    _inside: set[fx.Node] = field(default_factory=set)
    """Nodes that a compiled segment has dealt with."""

    def run(self) -> None:
        """Compute every active node, in order; what has no later use is let go."""

        def bytes_of(node: fx.Node) -> int:
            if node not in self.values:  # inside a segment: counted as if it had been there
                return self.runner.bytes(node) * self.index(self.active[node]).count
            return 0 if is_view(node) else size_in_bytes(self.values[node])

        def let_go(node: fx.Node) -> object:
            return self.values.pop(node, None)

        for node, done in self.runner.walk(self.active, self.keep, self.counts, bytes_of, let_go):
            if node not in self._inside and not self._segment(node):
                self.values[node] = self._compute(node)
            done()

    def _segment(self, node: fx.Node) -> bool:
        """Run the compiled segment that begins here, if its nodes have the same rows; whether it was run."""
        segment = self._begins.get(node)
        compiler = self.runner.compiler
        if segment is None or compiler is None:
            return False
        mask = one_set(segment.nodes, self.active)
        if mask is None:
            return False
        index = self.index(mask)
        if index.count < 2:  # one function is for two rows and more
            return False
        inputs = [self.arg(n, index) for n in segment.inputs]
        rows = [self._row_dim(n) for n in segment.inputs]
        found = compiler(segment, inputs, rows)
        if found is None:
            return False
        self.values.update(zip(segment.outputs, found, strict=True))
        self._inside.update(segment.nodes)
        return True

    def _row_dim(self, node: fx.Node) -> int | None:
        """The dimension of rows of a segment's input; None for what is the same for all."""
        if node in self.runner.attrs:
            return None
        dims = self.dims(node)
        if self.runner.rowwise.kinds[node] == "static" and dims.pos is None and dims.flat is None:
            return None
        return along(dims)

    @cached_property
    def _begins(self) -> dict[fx.Node, Segment]:
        """The segments that are compiled, by their first node."""
        compiler = self.runner.compiler
        if compiler is None or not (compiler.always or compiler.wanted):
            return {}
        return {s.nodes[0]: s for s in self.runner.segments(self.keep) if compiler.takes(s)}

    def index(self, mask: Tensor) -> Index:
        """The rows of a mask, listed once."""
        if id(mask) not in self._indices:
            self._indices[id(mask)] = Index(mask)
        return self._indices[id(mask)]

    def dims(self, node: fx.Node) -> Dims:
        return self.runner.rowwise.dims[node]

    def _compute(self, node: fx.Node) -> Any:
        kind = self.runner.rowwise.kinds[node]
        if kind == "edit":
            return self.edit(node, self)
        index = self.index(self.active[node])
        if kind == "attention":
            return self._attention(node, index)
        if node.target is operator.getitem:  # of several results, only the one that is picked is gathered
            return self._item(node, index)
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda a: self.arg(a, index))
        if node.target in FLOPS:
            self.runner.count(node, FLOPS[node.target](args, None), self.counts)
        if node in self._applied:  # with the product before it
            return args[0]
        if node in self.runner.calls:
            return self.runner.calls[node](*args, then=self._fused.get(node))
        assert callable(node.target)
        return node.target(*args, **kwargs)

    @cached_property
    def _fused(self) -> dict[fx.Node, Then]:
        """Products that apply the activation after them, on the same rows."""

        return fused(self.runner.follows, self.keep, lambda ns: one_set(ns, self.active) is not None)

    @cached_property
    def _applied(self) -> set[fx.Node]:
        return {then.node for then in self._fused.values()}

    def _item(self, node: fx.Node, index: Index) -> Any:
        source, which = node.args
        assert isinstance(source, fx.Node) and isinstance(which, int)
        own, mask = self.values[source][which], self.active[source]
        if mask is index.mask:
            return own
        return own.index_select(along(self.dims(node)), self.index(mask).place[index.parts])

    def arg(self, node: fx.Node, index: Index) -> Any:
        """The value of an argument at the rows of an index, packed."""
        if node in self.runner.attrs:
            return self.runner.attrs[node]
        if self.runner.rowwise.kinds[node] == "static":
            return self._fixed(node, index)
        if self.active.get(node) is index.mask:
            return self.values[node]
        return self.at(node, *index.parts)

    def at(self, node: fx.Node, lane: Tensor, example: Tensor, pos: Tensor) -> Tensor:
        """A node's value at some rows, packed: what was computed of it, else what other runs have."""
        if self.runner.rowwise.kinds[node] == "static":
            return gather(self.static[node], self.dims(node), example, pos, self.width)
        given = self.given.get(node)
        found = self._own(node, lane, example, pos)
        if given is None:
            return found
        put = given[lane, example, pos].nonzero().flatten()
        if not len(put):
            return found
        dims = self.dims(node)
        new = gather(self.source(node), dims, example[put], pos[put], self.width)
        return found.index_copy(along(dims), put, new)

    def _own(self, node: fx.Node, lane: Tensor, example: Tensor, pos: Tensor) -> Tensor:
        """A node's value at some rows, packed: what was computed of it, else what the base run has."""
        dims, mask = self.dims(node), self.active.get(node)
        if mask is None:
            base = self.base(node)
            if base is None:
                blank = self.runner.shaped(self.runner.value(node), lane.numel())
                return torch.full(blank.shape, NEITHER, dtype=blank.dtype)
            return gather(base, dims, example, pos, self.width)
        own, source = self.values[node], self.index(mask).place[lane, example, pos]
        mine = source >= 0
        if bool(mine.all()):
            return own.index_select(along(dims), source)  # type: ignore[no-any-return]
        base = self.base(node)
        whole: Tensor
        if base is None:
            whole = own.new_full(with_size(own.shape, along(dims), lane.numel()), NEITHER)
        else:
            whole = gather(base, dims, example, pos, self.width)
        put = mine.nonzero().flatten()
        return whole.index_copy(along(dims), put, own.index_select(along(dims), source[put]))

    @property
    def width(self) -> int:
        return self.shape[1]

    def _fixed(self, node: fx.Node, index: Index) -> Any:
        key = (node, id(index.mask))
        if key not in self._static:
            value = self.static[node]
            if isinstance(value, Tensor):
                _, example, pos = index.parts
                value = gather(value, self.dims(node), example, pos, self.width)
            else:
                value = self.runner.size(node.meta["val"], index.count)
            self._static[key] = value
        return self._static[key]

    def dense(self, node: fx.Node, lanes: Tensor) -> Tensor:
        """A node's value for whole lanes, as the graph has it: [lanes * batch, pos, ..]."""
        height, width = self.shape
        lane = lanes[:, None, None].expand(-1, height, width).reshape(-1)
        example = torch.arange(height)[None, :, None].expand(len(lanes), -1, width).reshape(-1)
        pos = torch.arange(width).expand(len(lanes), height, -1).reshape(-1)
        return rectangle(self.at(node, lane, example, pos), self.dims(node), len(lanes) * height)

    # -- attention

    def _attention(self, node: fx.Node, index: Index) -> Tensor:
        """Fused attention: packed [1, head, rows, d_head] from q, k and v of the same form."""
        q_node, k_node, v_node = node.args[:3]
        assert isinstance(q_node, fx.Node)
        given = dict(zip(("attn_mask", "dropout_p", "is_causal"), node.args[3:], strict=False))
        given |= node.kwargs
        q = self.arg(q_node, index)[0]
        out: Tensor | None = None
        for bucket in index.buckets:
            found = aten.scaled_dot_product_attention.default(
                q[:, bucket.rows].transpose(0, 1),
                self._keys(k_node, bucket),
                self._keys(v_node, bucket),
                self._mask(given, bucket, index),
                0.0,
                False,
                scale=given.get("scale"),
                enable_gqa=given.get("enable_gqa", False),
            )
            self.runner.count(node, self.runner.attention_flops(node, bucket), self.counts)
            if out is None:
                out = found.new_empty(found.shape[1], index.count, found.shape[3])
            out[:, bucket.rows[bucket.real]] = found.permute(1, 0, 2, 3)[:, bucket.real]
        assert out is not None
        return out[None]

    def _keys(self, node: Any, bucket: Bucket) -> Tensor:
        """Keys or values up to the last query: [groups, head, keys, d_head].

        The base run's, with what was computed put in its place.
        """
        mask, base = self.active.get(node), self.base(node)
        if base is not None:
            whole = base.narrow(2, 0, bucket.end).index_select(0, bucket.example)
        else:
            own = self.values[node] if mask is not None else self.source(node)
            whole = own.new_zeros(len(bucket.lane), own.shape[1], bucket.end, own.shape[3])
        if mask is not None:
            place = self.index(mask).place[bucket.lane, bucket.example, : bucket.end]
            group, pos = (place >= 0).nonzero(as_tuple=True)
            whole[group, :, pos] = self.values[node][0].transpose(0, 1)[place[group, pos]]
        given = self.given.get(node)
        if given is not None:
            group, pos = given[bucket.lane, bucket.example, : bucket.end].nonzero(as_tuple=True)
            whole[group, :, pos] = self.source(node)[bucket.example[group], :, pos]
        return whole

    def _mask(self, given: Mapping[str, Any], bucket: Bucket, index: Index) -> Tensor | None:
        """Which keys each query sees: [groups, 1 or head, width, keys]."""
        pos = index.parts[2][bucket.rows]
        node = given.get("attn_mask")
        if node is None:
            return (torch.arange(bucket.end) <= pos[..., None])[:, None] if given.get("is_causal") else None
        whole = self.static[node]
        example = bucket.example if whole.shape[0] > 1 else torch.zeros_like(bucket.example)
        found: Tensor = whole[example[:, None], :, pos].permute(0, 2, 1, 3)[..., : bucket.end]
        return found
