"""What a norm multiplies by and adds, after it has divided: a vector each, however a family writes it.

A family may keep its weight as it is, as one more than it (Gemma), in another dtype, or not at all. So the
operations behind the normalised value are followed, and what they multiply by and add is evaluated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from midsl.graph import walk
from midsl.graph.axes import VIEWS, sizes
from midsl.graph.mlp import Norm, norm_arguments
from midsl.graph.stream import Frame

aten = torch.ops.aten
_CASTS = {aten.to.dtype, aten.type_as.default, aten._to_copy.default}


def affine(gm: fx.GraphModule, frame: Frame, found: Norm) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a norm, float [d_model] each: ones and zeros where it has none."""
    ids = torch.zeros(1, 1, dtype=torch.int64, device=next(gm.parameters()).device)

    def value(node: Any) -> Tensor:
        done = walk.evaluate(gm, node, {frame.ids: ids, frame.mask: torch.ones_like(ids)})
        assert isinstance(done, Tensor)
        return done

    width = int(sizes(found.normalized or found.node)[-1])
    some = next(gm.parameters())
    weight, bias = some.new_ones(width), some.new_zeros(width)
    with torch.no_grad():
        if found.normalized is None:
            own, added, _ = norm_arguments(found.node, found.kind == "layer")
            weight = value(own) if own is not None else weight
            return weight, value(added) if added is not None else bias
        node = found.normalized
        while True:
            step = _next(node, frame)
            if step is None:
                return weight, bias
            user, other = step
            if other is not None and user.target is aten.mul.Tensor:
                weight, bias = weight * value(other), bias * value(other)
            elif other is not None:
                bias = bias + value(other)
            node = user


def _next(node: fx.Node, frame: Frame) -> tuple[fx.Node, fx.Node | None] | None:
    """The one operation that follows, with the constant that it takes; None where the norm ends."""
    if len(node.users) != 1:
        return None
    (user,) = node.users
    if user.target in _CASTS | VIEWS:
        return user, None
    if user.target not in (aten.mul.Tensor, aten.add.Tensor):
        return None
    (other,) = [a for a in user.args[:2] if a is not node] or [None]
    if not isinstance(other, fx.Node) or other in frame.dynamic or frame.ids in walk.ancestors(other):
        return None
    return user, other
