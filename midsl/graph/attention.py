"""The inside of one attention: q k v, their rotated forms, scores, pattern, z and the projections.

Everything starts at the attention operation's operands, whose axes are known, and goes back along
the chain of dominators to the block's input: `q` is the first node that only q depends on, so it
is the projection's output (or, where q k v are one projection, q's share of it).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from midsl.graph import axes, walk
from midsl.graph.axes import VIEWS, Layout, Sizes, flat, same, sizes
from midsl.graph.export import is_call
from midsl.graph.project import Projection, indices, last_projection
from midsl.graph.stream import Frame, Stream

aten = torch.ops.aten
_REPEATS = {aten.expand.default, aten.unsqueeze.default, aten.repeat_interleave.self_int} | axes.RESHAPES


@dataclass(frozen=True)
class Placed:
    """A node and the axis of each of its dimensions."""

    node: fx.Node
    layout: Layout


@dataclass(frozen=True)
class Heads:
    """One of q, k, v.

    Attributes:
        at: the site.
        projection: the linear map it comes out of.
        rows: int64 [head or kv_head, d_head], the projection's outputs it is made of; None if unknown.
        used: where attention takes it, after rotary and before the repeat over query heads.
        repeated: the node that has it per query head, where that is another node than `used`.
        rotary: whether positions enter between `at` and `used`.
    """

    at: Placed
    projection: Projection
    rows: torch.Tensor | None
    used: Placed
    repeated: Placed | None
    rotary: bool


@dataclass
class Attention:
    """The parts of one attention; those not found are None.

    `core` makes z from the pattern and v (or is the SDPA node, then `scores` and `pattern` are None).
    `o_columns` [head, d_head]: which inputs of the output projection each element of z is.
    """

    core: fx.Node
    sizes: Sizes
    q: Heads | None = None
    k: Heads | None = None
    v: Heads | None = None
    scores: Placed | None = None
    pattern: Placed | None = None
    z: Placed | None = None
    o: Projection | None = None
    o_columns: torch.Tensor | None = None
    out: Placed | None = None

    @property
    def fused(self) -> bool:
        """Whether the core is one SDPA operation."""
        return is_call(self.core, aten.scaled_dot_product_attention.default)


def attention(f: Frame, stream: Stream) -> Attention | None:
    """Return the parts of a block's attention, or None where its operands are not understood."""
    core = stream.core
    if core is None:
        return None
    known = Sizes(f.batch, f.pos)
    if is_call(core, aten.scaled_dot_product_attention.default):
        found = Attention(core, known)
        q, k, v = (n for n in core.args[:3])
        key = "pos"
    else:
        product, values, scores, pattern = _explicit(f, core)
        if product is None or values is None:
            return None
        found = Attention(values, known)
        q, k, v, key = product.args[0], product.args[1], values.args[1], "turned"
        found.scores = Placed(scores, ("batch", "head", "pos", "key_pos"))
        found.pattern = Placed(pattern, ("batch", "head", "pos", "key_pos"))
    if not all(isinstance(n, fx.Node) and len(sizes(n)) == 4 for n in (q, k, v)):
        return None
    assert isinstance(q, fx.Node) and isinstance(k, fx.Node) and isinstance(v, fx.Node)
    shape = sizes(q)
    if not (same(shape[0], f.batch) and same(shape[2], f.pos)):
        return None
    known.of["head"] = shape[1]
    values_known = Sizes(f.batch, f.pos)
    values_known.of["head"] = shape[1]
    start: dict[str, tuple[fx.Node, Layout, Sizes]] = {
        "q": (q, ("batch", "head", "pos", "d_head"), known),
        "k": (k, _key_layout(k, key, shape[1]), known),
        "v": (v, ("batch", _heads(v, 1, shape[1]), "pos", "d_head"), values_known),
    }
    for name, (operand, layout, scale) in start.items():
        scale.learn(layout, sizes(operand))
        others = [n for other, (n, _, _) in start.items() if other != name]
        setattr(found, name, _heads_of(f, stream, operand, layout, others, scale))
    if "kv_head" in values_known.of:
        known.of.setdefault("kv_head", values_known.of["kv_head"])
    _result(f, stream, found, values_known)
    return found


def _heads(node: fx.Node, dim: int, heads: object) -> str:
    return "head" if same(sizes(node)[dim], heads) else "kv_head"


def _key_layout(k: fx.Node, kind: str, heads: object) -> Layout:
    head = _heads(k, 1, heads)
    return ("batch", head, "pos", "d_head") if kind == "pos" else ("batch", head, "d_head", "pos")


def _explicit(f: Frame, softmax: fx.Node) -> tuple[fx.Node | None, fx.Node | None, fx.Node, fx.Node]:
    """Return the product q k^T, the product pattern @ v, scores and pattern of a written-out attention."""
    pattern = softmax
    while True:  # casts of the pattern
        users = list(pattern.users)
        if len(users) != 1 or sizes(users[0]) != sizes(pattern) or is_call(users[0], aten.matmul.default):
            break
        pattern = users[0]
    users = list(pattern.users)
    values = users[0] if len(users) == 1 and is_call(users[0], aten.matmul.default) else None
    if values is not None and values.args[0] is not pattern:
        values = None
    scores = softmax.args[0]
    assert isinstance(scores, fx.Node)
    products = [
        n
        for n in walk.ordered(walk.ancestors(scores))
        if is_call(n, aten.matmul.default) and n in f.dynamic and all(same(s, f.pos) for s in sizes(n)[-2:])
    ]
    return (products[-1] if products else None), values, scores, pattern


def _layouts(path: list[fx.Node], layout: Layout, known: Sizes) -> dict[fx.Node, Layout]:
    """Carry the layout of the last node of a chain of dominators back as far as it goes."""
    out = {path[-1]: layout}
    at = path[-1]
    for node in reversed(path[:-1]):
        step = path[path.index(node) + 1]
        before: Layout | None = None
        if step is at and step.args and step.args[0] is node:
            if step.target is aten.repeat_interleave.self_int:
                before = tuple("kv_head" if n == "head" else n for n in out[at])
                known.learn(before, sizes(node))
            elif step.target in VIEWS:
                before = axes.backward(step, out[at], known)
        if before is None and sizes(node) == sizes(at):
            before = out[at]  # an elementwise stretch: norms, rotary, casts, scaling
        if before is None:
            continue
        out[node], at = before, node
    return out


def _heads_of(
    f: Frame, stream: Stream, operand: fx.Node, layout: Layout, others: list[fx.Node], known: Sizes
) -> Heads | None:
    path = walk.chain(stream.pre, operand)
    found = last_projection(path)
    if found is None:
        return None
    start, linear = found
    elsewhere = walk.ancestors(*others)
    layouts = _layouts(path[start:], layout, known)
    own = [n for n in path[start:] if n not in elsewhere]
    first = next((i for i, n in enumerate(own) if n in layouts), None)
    if first is None:
        return None
    # the site may sit on any of the views that only pass the value on; the plainest layout is best
    last = first
    while last + 1 < len(own) and own[last + 1] in layouts and _passes_on(own[last], own[last + 1]):
        last += 1
    candidates = [Placed(n, layouts[n]) for n in own[first : last + 1]]
    at = min(candidates, key=_plainness)
    wanted = {"batch", "pos", "d_head", "head"}
    grouped = {"batch", "pos", "d_head", "kv_head"}
    if set(flat(at.layout)) not in (wanted, grouped):
        return None
    placed = [Placed(n, layouts[n]) for n in own[own.index(at.node) :] if n in layouts]
    used = [p for p in placed if set(flat(p.layout)) == set(flat(at.layout))][-1]
    repeated = [p for p in placed if set(flat(p.layout)) == wanted]
    rows = indices(f.gm, linear.node, at.node, _output_layout(f, linear.node), at.layout)
    if rows is not None:
        rows = _as_heads(rows, at.layout, known)
    stretch = walk.between(at.node, used.node) if used.node is not at.node else []
    rotary = any(f.follows_pos(a) and a not in f.dynamic for n in stretch for a in n.all_input_nodes)
    return Heads(
        at, linear, rows, used, repeated[0] if repeated and "kv_head" in flat(at.layout) else None, rotary
    )


def _output_layout(f: Frame, node: fx.Node) -> Layout:
    """Layout of a projection's output: its last dimension unnamed, batch and pos before it."""
    return (*leading(f, node), "out")


def leading(f: Frame, node: fx.Node) -> Layout:
    """Name the dimensions of a [batch, pos, x], [batch * pos, x] or [batch, x] node, except the last."""
    shape = sizes(node)[:-1]
    if len(shape) == 2 and same(shape[0], f.batch) and same(shape[1], f.pos):
        return ("batch", "pos")
    if len(shape) == 1 and same(shape[0], f.batch * f.pos):  # type: ignore[operator]
        return (("batch", "pos"),)
    if len(shape) == 1 and same(shape[0], f.batch):
        return ("batch",)
    return tuple("" for _ in shape)


def _as_heads(rows: torch.Tensor, layout: Layout, known: Sizes) -> torch.Tensor:
    """Arrange indices as [head, d_head]."""
    own = [n for n in flat(layout) if n not in ("batch", "pos")]
    rows = rows.reshape([int(known.of[n]) for n in own])
    return rows if own[-1] == "d_head" else rows.t()


def _passes_on(node: fx.Node, after: fx.Node) -> bool:
    return (
        after.target in VIEWS
        and after.target not in (aten.expand.default, aten.unsqueeze.default)
        and list(node.users) == [after]
    )


def _plainness(placed: Placed) -> tuple[bool, bool]:
    """Sorts [batch, pos, head, d_head] first, then layouts without flattened dimensions."""
    layout = placed.layout
    in_order = layout[:2] == ("batch", "pos") and layout[-1:] == ("d_head",) and len(layout) == 4
    return (not in_order, any(isinstance(d, tuple) for d in layout))


def _result(f: Frame, stream: Stream, found: Attention, known: Sizes) -> None:
    """Find z, the output projection and its result."""
    layout: Layout = ("batch", "head", "pos", "d_head")
    known.learn(layout, sizes(found.core))
    places = [Placed(found.core, layout)]
    while True:
        users = list(places[-1].node.users)
        if len(users) != 1 or users[0].target not in VIEWS or users[0].args[0] is not places[-1].node:
            break
        after = axes.forward(users[0], places[-1].layout, known)
        if after is None:
            break
        places.append(Placed(users[0], after))
    found.z = min(places, key=_plainness)
    if stream.attn_out is None:
        return
    path = walk.chain(found.core, stream.attn_out)
    last = last_projection(path)
    if last is None:
        return
    found.o = last[1]
    node = found.o.node
    out_layout: Layout = (*leading(f, node), "d_model")
    found.out = Placed(node, out_layout)
    if out_layout[0] == ("batch", "pos"):  # the view that takes it apart again, if nothing is between
        users = list(node.users)
        if len(users) == 1 and users[0].target in VIEWS and leading(f, users[0]) == ("batch", "pos"):
            found.out = Placed(users[0], ("batch", "pos", "d_model"))
    columns = indices(f.gm, found.z.node, found.o.input, found.z.layout, (*leading(f, found.o.input), "in"))
    if columns is not None:
        found.o_columns = _columns(columns, found.z.layout, known)


def _columns(columns: torch.Tensor, layout: Layout, known: Sizes) -> torch.Tensor:
    """Turn "which z is input i" into "which input is z[head, d_head]"."""
    inverse = torch.empty_like(columns)
    inverse[columns] = torch.arange(columns.numel())
    return _as_heads(inverse, layout, known)
