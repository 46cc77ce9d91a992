"""The other parts of a model: norms before a branch, the MLP's hidden layer, both ends of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx

from midsl.graph import walk
from midsl.graph.attention import Placed, leading
from midsl.graph.axes import VIEWS, Layout, same, sizes
from midsl.graph.export import is_call
from midsl.graph.project import Projection, indices, last_projection, only_picks, projection
from midsl.graph.stream import Frame, Stream

aten = torch.ops.aten
_ROOTS = {aten.rsqrt.default, aten.sqrt.default}


@dataclass(frozen=True)
class Norm:
    """A normalisation of the last axis.

    Attributes:
        kind: one operation (`layer`, `rms`), or written out around a root (`spelt`).
        node: the operation; for a written-out norm the (reciprocal) root, [..., 1].
        normalized: the result before weight and bias, where it is a node.
        leading: the axes before the last.
    """

    kind: Literal["layer", "rms", "spelt"]
    node: fx.Node
    normalized: fx.Node | None
    leading: Layout


def norm(f: Frame, source: fx.Node, target: fx.Node) -> Norm | None:
    """Return the first norm between two nodes, or None."""
    for node in walk.between(source, target):
        if is_call(node, aten.layer_norm.default):
            return Norm("layer", node, None, leading(f, node))
        if is_call(node, aten.rms_norm.default):
            return Norm("rms", node, None, leading(f, node))
        if node.target in _ROOTS and same(sizes(node)[-1], 1):
            for user in node.users:
                divides = is_call(node, aten.sqrt.default)
                wanted = aten.div.Tensor if divides else aten.mul.Tensor
                if is_call(user, wanted) and len(sizes(user)) == len(sizes(node)):
                    return Norm("spelt", node, user, leading(f, user))
    return None


def norm_arguments(node: fx.Node, layer_norm: bool) -> tuple[Any, Any, Any]:
    """Return weight, bias and epsilon of a norm operation."""
    names = ("weight", "bias", "eps") if layer_norm else ("weight", "eps")
    values = dict(zip(names, node.args[2:], strict=False)) | dict(node.kwargs)
    eps = values.get("eps", 1e-5 if layer_norm else None)
    if eps is None:
        eps = torch.finfo(node.meta["val"].dtype).eps
    return values.get("weight"), values.get("bias"), eps


@dataclass(frozen=True)
class Hidden:
    """One hidden value of an MLP: where it is, the map it comes from and the outputs it is of it."""

    at: Placed
    projection: Projection
    rows: torch.Tensor | None


@dataclass
class Mlp:
    """The parts of an MLP: `post` goes into the last linear map `out`; `linear` only where it is gated."""

    first: fx.Node
    """What its first linear map reads: the normalised stream."""
    out: Projection
    post: Placed
    pre: Hidden | None = None
    linear: Hidden | None = None


def _hidden(f: Frame, node: fx.Node) -> Placed:
    return Placed(node, (*leading(f, node), "d_mlp"))


def _unflatten(f: Frame, node: fx.Node) -> Placed:
    """Prefer the view that takes batch and pos apart, where it is all that the node goes into."""
    users = list(node.users)
    flat = leading(f, node) == (("batch", "pos"),) and len(users) == 1 and users[0].target in VIEWS
    return _hidden(f, users[0] if flat and _is_apart(f, users[0], node) else node)


def _is_apart(f: Frame, node: fx.Node, flat: fx.Node) -> bool:
    """Whether a node is [batch, pos, x] and the other one's last dimension is that x."""
    return leading(f, node) == ("batch", "pos") and same(sizes(node)[-1], sizes(flat)[-1])


def _before(f: Frame, node: fx.Node) -> Placed:
    """Prefer the value before a view that flattens batch and pos, where that is all it goes into."""
    source = node.args[0] if node.args else None
    if node.target in VIEWS and isinstance(source, fx.Node) and list(source.users) == [node]:
        return _hidden(f, source if _is_apart(f, source, node) else node)
    return _hidden(f, node)


def _origin(f: Frame, source: fx.Node, node: fx.Node, other: fx.Node | None) -> Hidden | None:
    """Return the projection's output that an operand is computed from, if the other's is another one."""
    path = walk.chain(source, node)
    found = last_projection(path)
    if found is None:
        return None
    start, linear = found
    elsewhere = walk.ancestors(other) if other is not None else set()
    own = [n for n in path[start:] if n not in elsewhere]
    if not own:
        return None
    if not only_picks(linear.node, own[0]):
        return None
    at = _unflatten(f, own[0])
    rows = indices(f.gm, linear.node, at.node, (*leading(f, linear.node), "out"), at.layout)
    return Hidden(at, linear, rows)


def mlp(f: Frame, stream: Stream) -> Mlp | None:
    """Return the parts of a block's MLP, or None where its last operation is no linear map (experts)."""
    base = stream.mid if stream.mid is not None else stream.pre
    if stream.mlp_out is None:
        return None
    path = walk.chain(base, stream.mlp_out)
    last = last_projection(path)
    if last is None or "" in leading(f, last[1].input):
        return None
    out = last[1]
    post = _before(f, out.input)
    pre, linear = _gated(f, base, post.node)
    if pre is None:
        pre = _origin(f, base, post.node, None)
    if pre is None:
        return None
    return Mlp(pre.projection.input, out, post, pre, linear)


def _gated(f: Frame, base: fx.Node, post: fx.Node) -> tuple[Hidden | None, Hidden | None]:
    """Return (activated branch, linear branch) of ``act(a) * b``; (None, None) for anything else."""
    if not is_call(post, aten.mul.Tensor):
        return None, None
    a, b = post.args[:2]
    if not (isinstance(a, fx.Node) and isinstance(b, fx.Node) and sizes(a) == sizes(b)):
        return None, None
    found_a, found_b = _origin(f, base, a, b), _origin(f, base, b, a)
    if found_a is None or found_b is None:
        return None, None
    if only_picks(found_a.projection.node, a) and not only_picks(found_b.projection.node, b):
        return found_b, found_a
    return found_a, found_b


@dataclass(frozen=True)
class Head:
    """How logits come from the stream: ``post(input @ weight + bias)``."""

    projection: Projection
    input: Placed
    post: tuple[fx.Node, ...]


def head(f: Frame, last: fx.Node) -> Head | None:
    """Return the unembedding, if logits are one linear map and elementwise functions of it."""
    post: list[fx.Node] = []
    node = f.output
    while True:
        found = projection(node)
        if found is not None:
            break
        inputs = node.all_input_nodes
        if len(inputs) != 1 or sizes(inputs[0]) != sizes(node) or not _elementwise(node):
            return None
        post.append(node)
        node = inputs[0]
    names = leading(f, found.input)
    if "" in names or last not in walk.ancestors(found.input):
        return None
    return Head(found, Placed(found.input, (*names, "d_model")), tuple(reversed(post)))


def _elementwise(node: fx.Node) -> bool:
    return node.target is aten.add.Tensor or torch.Tag.pointwise in getattr(node.target, "tags", ())


def embedding(f: Frame, first: fx.Node) -> tuple[fx.Node, fx.Node | None]:
    """Return the token part of the first stream node and the position part, where there is one.

    The token part is what is added to the stream: after a scale, where the family has one.
    """
    node = first
    while node.target in VIEWS and isinstance(node.args[0], fx.Node) and node.args[0] in f.dynamic:
        node = node.args[0]
    if is_call(node, aten.add.Tensor) and not node.kwargs:
        a, b = node.args[:2]
        if isinstance(a, fx.Node) and isinstance(b, fx.Node):
            for token, place in ((a, b), (b, a)):
                if token in f.dynamic and place not in f.dynamic and f.follows_pos(place):
                    return token, place
    inside = walk.between(f.tokens, first)
    if not inside or all(n.target in VIEWS or _elementwise(n) for n in inside):
        return first, None
    return f.tokens, None
