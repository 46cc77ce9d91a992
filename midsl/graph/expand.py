"""Rewrites that turn an expansion site into a node, on a copy of the graph and only where touched.

Every expansion computes what the graph computed before (to rounding): attention written out, a norm
written out, per-head projections in place of one. `specialise` applies them from upstream to
downstream. After it each touched site is one node whose users are exactly what the site's definition says
a write must reach; a site that is only read may hang at the side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.fx.node import map_arg

from midsl.graph import walk
from midsl.graph.attention import Attention, Heads, Placed
from midsl.graph.axes import COPIES, LAST_AXIS, RESHAPES, VIEWS, Layout, flat
from midsl.graph.mlp import norm_arguments
from midsl.graph.names import PROJECTED
from midsl.graph.parts import Block

if TYPE_CHECKING:
    from midsl.graph.sites import ModelGraph

aten = torch.ops.aten
Site = tuple[str, int | None]
HEADS: Layout = ("batch", "pos", "head", "d_head")
WIDE: Layout = ("batch", "pos", "head", "d_model")

_SDPA = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


class SiteConflict(Exception):
    """Two sites cannot be touched together, or one cannot be written here; `reason` is a sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Rewriter:
    """A copy of a model's graph under rewriting; `at` maps base nodes to what stands for them now."""

    def __init__(self, mg: ModelGraph) -> None:
        self.mg = mg
        self.graph = fx.Graph()
        self.at: dict[fx.Node, fx.Node] = {}
        self.graph.output(self.graph.graph_copy(mg.gm.graph, self.at))
        self.made: dict[Site, Placed] = {}
        self.source: dict[tuple[int, str], fx.Node] = {}
        self.layer: int | None = None
        self._sizes: dict[str, fx.Node] = {}

    # ------------------------------------------------------------ building nodes

    def emit(self, op: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Insert a call at the graph's insertion point, with shape and block noted."""
        node = self.graph.call_function(op, args, kwargs)
        self._note(node)
        return node

    def _note(self, node: fx.Node) -> None:
        assert callable(node.target)
        values = map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        with self.mg.fake_mode:
            node.meta["val"] = node.target(*values[0], **values[1])
        if self.layer is not None:
            node.meta["block"] = self.layer

    def clone(self, node: fx.Node, env: dict[fx.Node, fx.Node]) -> fx.Node:
        """Insert a base node again, reading `env` where that has an argument, else what stands for it."""
        new = self.graph.node_copy(node, lambda n: env[n] if n in env else self.at[n])
        self._note(new)
        return new

    def constant(self, name: str, value: torch.Tensor) -> fx.Node:
        """Insert an index tensor that the graph module holds."""
        target = f"_midsl_{name}"
        if not hasattr(self.mg.gm, target):
            self.mg.gm.register_buffer(target, value.to(self.mg.device), persistent=False)
        node = self.graph.get_attr(target)
        node.meta["val"] = self.mg.fake_mode.from_tensor(getattr(self.mg.gm, target), static_shapes=True)
        return node

    def size(self, axis: str) -> fx.Node:
        """Return the node of the number of examples or positions."""
        if axis not in self._sizes:
            ids = self.at[self.mg.parts.frame.ids]
            last = [n for n in self.graph.nodes if n.op == "placeholder"][-1]
            layer, self.layer = self.layer, None
            with self.graph.inserting_after(last):
                self._sizes[axis] = self.emit(aten.sym_size.int, ids, 0 if axis == "batch" else 1)
            self.layer = layer
        return self._sizes[axis]

    def shape(self, layout: Layout) -> list[Any]:
        """Return the shape arguments of a reshape to a layout; -1 for flattened [batch * pos]."""
        out: list[Any] = []
        for dim in layout:
            if isinstance(dim, tuple):
                fixed = [n for n in dim if n not in ("batch", "pos", "key_pos")]
                total = 1
                for n in fixed:
                    total *= self.mg.info.sizes[n]
                out.append(total if len(fixed) == len(dim) else -1)
            elif dim in ("batch", "pos", "key_pos"):
                out.append(self.size("batch" if dim == "batch" else "pos"))
            else:
                out.append(self.mg.info.sizes[dim])
        return out

    def relayout(self, node: fx.Node, source: Layout, target: Layout) -> fx.Node:
        """Rearrange a value from one layout to another of the same axes."""
        if source == target:
            return node
        if any(isinstance(d, tuple) for d in source):
            node = self.emit(aten.reshape.default, node, self.shape(flat(source)))
        if flat(source) != flat(target):
            order = [flat(source).index(n) for n in flat(target)]
            node = self.emit(aten.permute.default, node, order)
        if any(isinstance(d, tuple) for d in target):
            node = self.emit(aten.reshape.default, node, self.shape(target))
        return node

    def replace(self, base: fx.Node, new: fx.Node) -> None:
        """Let a new node stand for a base node."""
        self.at[base].replace_all_uses_with(new)
        self.at[base] = new

    def swap(self, old: fx.Node, new: fx.Node) -> None:
        """Let a new node stand for one of this graph in all other users, and be the sites that it is."""
        old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        self.at = {base: new if node is old else node for base, node in self.at.items()}
        self.made = {s: Placed(new, p.layout) if p.node is old else p for s, p in self.made.items()}

    def end(self, keep: Iterable[fx.Node]) -> None:
        """Erase what nothing reads any more, except the sites, and check the graph."""
        kept = set(keep)
        for node in reversed(list(self.graph.nodes)):
            if node.op not in ("placeholder", "output") and not node.users and node not in kept:
                self.graph.erase_node(node)
        self.graph.lint()

    # ------------------------------------------------------------ expansions

    def pos_embed(self) -> None:
        """One row per example: the position embedding is shared by the batch, a write is not."""
        base = self.mg.parts.pos_embed
        assert base is not None
        old = self.at[base]
        batch, pos = self.size("batch"), self.size("pos")
        with self.graph.inserting_before(old.next):
            new = self.emit(aten.expand.default, old, [batch, pos, self.mg.info.sizes["d_model"]])
        old.replace_all_uses_with(new, delete_user_cb=lambda u: u is not new)
        self.made["pos_embed", None] = Placed(new, ("batch", "pos", "d_model"))

    def branch_input(self, block: Block, which: str, write: bool) -> None:
        """Give a branch its own name for the stream it reads, so that a write leaves the addition alone."""
        first = which == "attn_in"
        base = block.stream.pre if first else block.mlp_base
        branch = block.stream.attn_out if first else block.stream.mlp_out
        assert branch is not None
        layer = block.stream.layer
        source = self.at[base]
        with self.graph.inserting_before(source.next):
            own = self.emit(aten.alias.default, source)
        self.made[which, layer] = Placed(own, ("batch", "pos", "d_model"))
        if not write:
            return
        region = walk.between(base, branch)
        inside = set(region)
        leaks = [n for n in region if n is not branch and any(u not in inside for u in n.users)]
        shared = [n for n in region if leaks and n in walk.ancestors(*leaks, stop=[base])]
        if any(n.target not in VIEWS for n in shared):
            raise SiteConflict("attention and MLP read the stream through the same norm")
        env = {base: own}
        for node in shared:
            with self.graph.inserting_before(self.at[node].next):
                env[node] = self.clone(node, env)
        for node in region:
            if node not in shared:
                for old, new in env.items():
                    self.at[node].replace_input_with(self.at[old], new)
        self.source[layer, "attn" if first else "mlp"] = own

    def head_input(self, block: Block, name: str, write: bool) -> None:
        """Repeat the stream per query head; where it is written, redo each head's norm and projection."""
        found, layer = block.attn, block.stream.layer
        assert found is not None
        own: Heads = getattr(found, PROJECTED[name])
        source = self.source.get((layer, "attn"), self.at[block.stream.pre])
        heads = self.mg.info.sizes["head"]
        with self.graph.inserting_before(source.next):
            wide = self.emit(aten.unsqueeze.default, source, 2)
            wide = self.emit(aten.expand.default, wide, [-1, -1, heads, -1])
        self.made[name, layer] = Placed(wide, WIDE)
        if not write:
            return
        grouped = "kv_head" in flat(own.at.layout)
        with self.graph.inserting_before(self.at[own.at.node].next):
            value = self._project_heads(block, own, wide, name)
            if not grouped:
                self.replace(own.at.node, self.relayout(value, HEADS, own.at.layout))
                return
        self._bypass_groups(block, own, value, name)

    def _project_heads(self, block: Block, own: Heads, wide: fx.Node, name: str) -> fx.Node:
        """Return q, k or v [batch, pos, head, d_head] from the stream as each head reads it."""
        env = {block.stream.pre: wide}
        for node in walk.between(block.stream.pre, own.projection.input):
            if node.target in RESHAPES | COPIES:
                assert isinstance(node.args[0], fx.Node)
                env[node] = env[node.args[0]]  # [batch, pos, x] <-> [batch * pos, x]
            elif node.target in LAST_AXIS or _mean_of_last(node):
                env[node] = self.clone(node, env)
            else:
                raise SiteConflict(f"its input is computed by {node.target}, which is not per position")
        assert own.rows is not None
        rows = own.rows
        if "kv_head" in flat(own.at.layout):
            rows = rows.repeat_interleave(self.mg.info.sizes["head"] // rows.shape[0], 0)
        index = self.constant(f"{name.replace('.', '_')}_{block.stream.layer}", rows)
        weight = self.at[own.projection.weight]
        if own.projection.in_first:
            weight = self.emit(aten.t.default, weight)
        weight = self.emit(aten.index.Tensor, weight, [index])
        value = self.emit(aten.einsum.default, "bphm,hdm->bphd", [env[own.projection.input], weight])
        if own.projection.bias is not None:
            bias = self.emit(aten.index.Tensor, self.at[own.projection.bias], [index])
            value = self.emit(aten.add.Tensor, value, bias)
        return value

    def _bypass_groups(self, block: Block, own: Heads, value: fx.Node, name: str) -> None:
        """Carry a key or value per query head to attention, past the repeat over query heads."""
        found = block.attn
        assert found is not None
        if own.repeated is None:
            self._ungroup(found)

        def per_head(layout: Layout) -> Layout:
            return tuple(
                tuple("head" if n == "kv_head" else n for n in d)
                if isinstance(d, tuple)
                else ("head" if d == "kv_head" else d)
                for d in layout
            )

        core = self.at[found.core]
        position = {"attn.k_input": 1, "attn.v_input": 2}[name]
        end = own.repeated or Placed(own.used.node, per_head(own.used.layout))
        before = self.at[own.repeated.node].next if own.repeated else core
        with self.graph.inserting_before(before):
            env = {own.at.node: self.relayout(value, HEADS, per_head(own.at.layout))}
            for node in walk.between(own.at.node, own.used.node) if own.used.node is not own.at.node else []:
                if _over_heads(node, self.mg.info.sizes["d_head"]):
                    raise SiteConflict("its keys are normalised over all key heads together")
                env[node] = self.clone(node, env)
            new = self.relayout(env[own.used.node], per_head(own.used.layout), end.layout)
        if own.repeated is not None:
            old = self.at[own.repeated.node]
            if tuple(old.meta["val"].shape) != tuple(new.meta["val"].shape):
                raise SiteConflict("its path to attention names the number of key heads")
            self.replace(own.repeated.node, new)
        else:
            core.update_arg(position, new)

    def _ungroup(self, found: Attention) -> None:
        """Repeat keys and values over query heads before an SDPA that would do it by itself."""
        core = self.at[found.core]
        if not core.kwargs.get("enable_gqa"):
            return
        heads = self.mg.info.sizes["head"]
        with self.graph.inserting_before(core):
            for i in (1, 2):
                operand = core.args[i]
                assert isinstance(operand, fx.Node)
                times = heads // int(operand.meta["val"].shape[1])
                core.update_arg(i, self.emit(aten.repeat_interleave.self_int, operand, times, 1))
        core.update_kwarg("enable_gqa", False)

    def explicit_attention(self, block: Block) -> None:
        """Write SDPA out: scores, mask, softmax, product with the values."""
        found, layer = block.attn, block.stream.layer
        assert found is not None
        self._ungroup(found)
        core = self.at[found.core]
        given = dict(zip(_SDPA, core.args, strict=False)) | dict(core.kwargs)
        q, k, v = core.args[:3]
        mask, causal, scale = given.get("attn_mask"), given.get("is_causal", False), given.get("scale")
        if scale is None:
            scale = self.mg.info.sizes["d_head"] ** -0.5
        pos = self.size("pos")
        with self.graph.inserting_before(core):
            turned = self.emit(aten.transpose.int, k, -2, -1)
            scores = self.emit(aten.mul.Tensor, self.emit(aten.matmul.default, q, turned), scale)
            if causal:
                ones = self.emit(aten.ones.default, [pos, pos], dtype=torch.bool, device=self.mg.device)
                mask = self.emit(aten.tril.default, ones)
            if isinstance(mask, fx.Node) and mask.meta["val"].dtype == torch.bool:
                scores = self.emit(aten.where.ScalarOther, mask, scores, -torch.inf)
            elif isinstance(mask, fx.Node):
                scores = self.emit(aten.add.Tensor, scores, mask)
            pattern = self.emit(aten._safe_softmax.default, scores, -1)
            self.replace(found.core, self.emit(aten.matmul.default, pattern, v))
        axes: Layout = ("batch", "head", "pos", "key_pos")
        self.made["attn.scores", layer] = Placed(scores, axes)
        self.made["attn.pattern", layer] = Placed(pattern, axes)

    def result(self, block: Block, write: bool) -> None:
        """Project each head on its own; where that is written, attention's output is their sum."""
        found, layer = block.attn, block.stream.layer
        assert found is not None and found.z and found.o and found.out and found.o_columns is not None
        out = self.at[found.o.node]
        index_name = f"attn_result_{layer}"
        with self.graph.inserting_before(out):
            z = self.relayout(self.at[found.z.node], found.z.layout, HEADS)
            index = self.constant(index_name, found.o_columns)
            weight = self.at[found.o.weight]
            if not found.o.in_first:
                weight = self.emit(aten.t.default, weight)
            weight = self.emit(aten.index.Tensor, weight, [index])
            value = self.emit(aten.einsum.default, "bphd,hdm->bphm", [z, weight])
            self.made["attn.result", layer] = Placed(value, WIDE)
            if not write:
                return
            total = self.emit(aten.sum.dim_IntList, value, [2])
            if found.o.bias is not None:
                total = self.emit(aten.add.Tensor, total, self.at[found.o.bias])
            node_layout: Layout = ("batch", "pos", "d_model")
            if len(out.meta["val"].shape) == 2:
                node_layout = (("batch", "pos"), "d_model")
            self.replace(found.o.node, self.relayout(total, ("batch", "pos", "d_model"), node_layout))

    def norm(self, which: str, layer: int | None, parts: set[str], write: bool) -> None:
        """Write a norm out as far as needed: `scale` without the axis of size 1, then `normalized`."""
        block = None if layer is None else self.mg.parts.blocks[layer]
        found = self.mg.parts.ln_final if block is None else (block.ln1 if which == "ln1" else block.ln2)
        assert found is not None
        node = self.at[found.node]
        names: Layout = found.leading
        wide: Layout = (*names, "d_model")
        if found.kind == "spelt":
            assert found.normalized is not None
            product = self.at[found.normalized]
            if "scale" in parts:
                with self.graph.inserting_before(product):
                    root = (
                        node if node.target is aten.sqrt.default else self.emit(aten.reciprocal.default, node)
                    )
                    scale = self.emit(aten.squeeze.dim, root, -1)
                    self.made[f"{which}.scale", layer] = Placed(scale, names)
                    if write:
                        other = next(a for a in product.args if a is not node)
                        again = self.emit(aten.unsqueeze.default, scale, -1)
                        self.replace(found.normalized, self.emit(aten.div.Tensor, other, again))
            self.made[f"{which}.normalized", layer] = Placed(self.at[found.normalized], wide)
            return
        x, shape = node.args[0], node.args[1]
        layer_norm = found.kind == "layer"
        weight, bias, eps = norm_arguments(node, layer_norm)
        with self.graph.inserting_before(node):
            if "scale" in parts:
                if layer_norm:
                    x = self.emit(aten.sub.Tensor, x, self.emit(aten.mean.dim, x, [-1], True))
                square = self.emit(aten.pow.Tensor_Scalar, x, 2)
                spread = self.emit(aten.add.Tensor, self.emit(aten.mean.dim, square, [-1], True), eps)
                scale = self.emit(aten.squeeze.dim, self.emit(aten.sqrt.default, spread), -1)
                self.made[f"{which}.scale", layer] = Placed(scale, names)
                value = self.emit(aten.div.Tensor, x, self.emit(aten.unsqueeze.default, scale, -1))
            elif layer_norm:
                value = self.emit(aten.layer_norm.default, x, shape, None, None, eps)
            else:
                value = self.emit(aten.rms_norm.default, x, shape, None, eps)
            self.made[f"{which}.normalized", layer] = Placed(value, wide)
            if weight is not None:
                value = self.emit(aten.mul.Tensor, value, weight)
            if bias is not None:
                value = self.emit(aten.add.Tensor, value, bias)
            self.replace(found.node, value)


def _over_heads(node: fx.Node, d_head: int) -> bool:
    """Whether a node reduces an axis that is not d_head alone."""
    reductions = (aten.mean.dim, aten.sum.dim_IntList, aten.layer_norm.default, aten.rms_norm.default)
    if node.target not in reductions:
        return False
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return int(source.meta["val"].shape[-1]) != d_head


def _mean_of_last(node: fx.Node) -> bool:
    return node.target is aten.mean.dim and node.args[1] in ([-1], (-1,))
