"""Products with fixed weights, on weights packed once: oneDNN's own layout, where PyTorch has it.

PyTorch multiplies float32 matrices on a CPU with MKL, which on some processors reaches half of what they can
do. The packed product is the one that `torch.compile` would call, without compiling anything. Its
operations are not public, so they are tried once, on a small product, and left alone if they are not there
or answer wrongly. Packed weights are a copy that lives as long as the model does, made where the plan has
enough rows to pay for it: the plan decides, not the run, so that the same plan gives the same bits again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx

aten = torch.ops.aten

PAYS_FROM = 256
"""Rows that a weight has to meet for packing to pay: about what it costs."""


@cache
def at_hand() -> bool:
    """Whether packed products are there and right on this machine.

    >>> isinstance(at_hand(), bool)
    True
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    x, w, b = torch.ones(4, 16), torch.eye(16)[:8].contiguous(), torch.arange(8.0)
    try:
        found = _product(x, _pack(w), b)
    except (AttributeError, RuntimeError, TypeError):  # another version of PyTorch, or built without it
        return False
    return found.shape == (4, 8) and bool(torch.allclose(found, x @ w.T + b))


def _pack(weight: Tensor) -> Tensor:
    """A weight [out, in] in oneDNN's layout."""
    with torch.no_grad():  # None: for any number of rows
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    return packed


NOTHING = ("none", "")
"""What oneDNN calls no activation."""


def _product(x: Tensor, packed: Tensor, bias: Tensor | None, then: tuple[str, str] = NOTHING) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, then[0], [], then[1])
    return found


class _Linear(torch.autograd.Function):
    """x @ weight.T + bias; gradients go to `x` only, since weights of a run by nodes are fixed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Weights, bias: Tensor | None) -> Tensor:
        ctx.weights = weights
        return _product(x, weights.packed, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        return _product(grad.contiguous(), ctx.weights.packed_back, None), None, None


class Weights:
    """One weight, [out, in], packed when it is first used: for the way forward and the way back."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.version = weight._version
        self._forward: Tensor | None = None
        self._back: Tensor | None = None

    def of(self, weight: Tensor) -> bool:
        """Whether this is that weight as it is now (a training writes weights in place)."""
        return self.weight.data_ptr() == weight.data_ptr() and self.version == weight._version

    @property
    def packed(self) -> Tensor:
        if self._forward is None:
            self._forward = _pack(self.weight)
        return self._forward

    @property
    def packed_back(self) -> Tensor:
        if self._back is None:
            self._back = _pack(self.weight.T)
        return self._back

    def __call__(self, x: Tensor, bias: Tensor | None, then: tuple[str, str] = NOTHING) -> Tensor:
        """x [.., in] -> [.., out], `then` through an activation; without gradients."""
        return _product(x, self.packed, bias, then)

    def differentiable(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The product alone, with gradients to `x`."""
        found: Tensor = _Linear.apply(x, self, bias)  # type: ignore[no-untyped-call]
        return found


class Packing:
    """The packed weights of one model, by name, and whether they are to be used."""

    def __init__(self) -> None:
        self.weights: dict[str, Weights] = {}
        self.on = False

    @staticmethod
    def of(module: torch.nn.Module) -> Packing:
        """What is packed of one exported model."""
        return _PACKED.setdefault(module, Packing())

    def get(self, name: str, weight: Tensor) -> Weights:
        """A weight [out, in] as it is now."""
        known = self.weights.get(name)
        if known is None or not known.of(weight):
            known = self.weights[name] = Weights(weight)
        return known


_PACKED: MutableMapping[torch.nn.Module, Packing] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Place:
    """Where a product has its parts, by argument; is the weight [in, out] (`across`)?"""

    x: int
    weight: int
    bias: int | None
    across: bool


@dataclass(frozen=True)
class Call:
    """What to call in place of a product, with the arguments of its node.

    Attributes:
        plain: the product itself, for what packing does not serve.
        packing: the packed weights of the model.
        place: where the product has its parts.
    """

    plain: Any
    packing: Packing
    name: str
    weight: Tensor
    place: _Place

    def __call__(self, *args: Any, then: Then | None = None) -> Tensor:
        x = args[self.place.x]
        bias_at = self.place.bias
        bias = args[bias_at] if bias_at is not None and len(args) > bias_at else None
        if not self.packing.on or self.weight.requires_grad or x.dtype != torch.float32:
            found: Tensor = self.plain(*args)
        elif x.requires_grad and torch.is_grad_enabled():
            found = self._weights().differentiable(x, bias)
        else:
            return self._weights()(x, bias, NOTHING if then is None else then.spelled)
        return found if then is None else then(found)

    def _weights(self) -> Weights:
        return self.packing.get(self.name, self.weight.T if self.place.across else self.weight)


@dataclass(frozen=True)
class Then:
    """An activation that a product may apply to its result while that is at hand.

    Attributes:
        chain: the nodes from behind the product up to the activation: views, then itself.
        spelled: what oneDNN calls it, a name and an algorithm.
    """

    chain: tuple[fx.Node, ...]
    spelled: tuple[str, str]

    @property
    def node(self) -> fx.Node:
        return self.chain[-1]

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = self.node.target(x, **self.node.kwargs)  # type: ignore[operator]
        return found


def _spelled(node: fx.Node) -> tuple[str, str] | None:
    if len(node.args) != 1:
        return None
    if node.target is aten.gelu.default:
        return "gelu", str(node.kwargs.get("approximate", "none"))
    plain: dict[Any, tuple[str, str]] = {aten.relu.default: ("relu", ""), aten.silu.default: ("swish", "")}
    return plain.get(node.target)


def followers(calls: Mapping[fx.Node, Call], views: Collection[Any]) -> dict[fx.Node, Then]:
    """For each product, the activation that follows it, if nothing else uses what is between."""
    found: dict[fx.Node, Then] = {}
    for product in calls:
        chain: list[fx.Node] = []
        node = product
        while len(node.users) == 1:
            (node,) = node.users
            chain.append(node)
            spelled = _spelled(node)
            if spelled is not None:
                found[product] = Then(tuple(chain), spelled)
            if node.target not in views:
                break
    return found


def fused(
    follows: Mapping[fx.Node, Then], keep: Collection[fx.Node], together: Callable[[Sequence[fx.Node]], bool]
) -> dict[fx.Node, Then]:
    """The products that apply their activation themselves: all run `together`, nothing between is kept."""
    kept = set(keep)
    return {
        product: then
        for product, then in follows.items()
        if not kept & {product, *then.chain[:-1]} and together((product, *then.chain))
    }


def packed_calls(
    nodes: list[fx.Node], module: torch.nn.Module, attrs: Mapping[fx.Node, Any]
) -> dict[fx.Node, Call]:
    """What to call in place of a node's own product, for products whose weight is an attribute.

    The calls take the node's arguments. A weight that takes part in a training is left alone, and so is
    everything that is not float32 on a CPU.
    """
    if not at_hand():
        return {}
    found: dict[fx.Node, Call] = {}
    for node in nodes:
        place = _PLACES.get(node.target)
        if place is None:
            continue
        weight = node.args[place.weight]
        if not isinstance(weight, fx.Node) or weight not in attrs or not _fits(node, attrs, place):
            continue
        name = f"{weight.target}.T" if place.across else str(weight.target)
        found[node] = Call(node.target, Packing.of(module), name, attrs[weight], place)
    return found


_PLACES: dict[Any, _Place] = {
    aten.linear.default: _Place(0, 1, 2, across=False),
    aten.addmm.default: _Place(1, 2, 0, across=True),
    aten.mm.default: _Place(0, 1, None, across=True),
}


def _fits(node: fx.Node, attrs: Mapping[fx.Node, Any], place: _Place) -> bool:
    weight = attrs[node.args[place.weight]]  # type: ignore[index]
    fixed = [weight]
    if place.bias is not None and len(node.args) > place.bias and node.args[place.bias] is not None:
        bias = attrs.get(node.args[place.bias])  # type: ignore[arg-type]
        if not isinstance(bias, Tensor) or bias.dim() != 1:
            return False
        fixed.append(bias)
    plain = all(
        isinstance(t, Tensor) and t.dtype == torch.float32 and t.device.type == "cpu" and not t.requires_grad
        for t in fixed
    )
    return plain and weight.dim() == 2 and not node.kwargs and min(weight.shape) > 1
