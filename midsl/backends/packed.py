"""Products with fixed weights, on weights packed once: oneDNN's own layout, where PyTorch has it.

PyTorch multiplies float32 matrices on a CPU with MKL, which on some processors reaches half of what they can
do. The packed product is the one that `torch.compile` would call, without compiling anything. Its
operations are not public, so they are tried once, on a small product, and left alone if they are not there
or answer wrongly. Packed weights are a copy: they are made at first use and live as long as the model does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx

aten = torch.ops.aten

FEW_ROWS = 2
"""Products of fewer rows than this stay as they are: there is nothing to win."""


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


def _product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
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
    """One weight, [out, in], packed for the way forward, and for the way back once that is asked for."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.version = weight._version
        self.packed = _pack(weight)
        self._back: Tensor | None = None

    def of(self, weight: Tensor) -> bool:
        """Whether this is that weight as it is now (a training writes weights in place)."""
        return self.weight.data_ptr() == weight.data_ptr() and self.version == weight._version

    @property
    def packed_back(self) -> Tensor:
        if self._back is None:
            self._back = _pack(self.weight.T)
        return self._back

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [.., in] -> [.., out]."""
        if x.requires_grad and torch.is_grad_enabled():
            found: Tensor = _Linear.apply(x, self, bias)  # type: ignore[no-untyped-call]
            return found
        return _product(x, self.packed, bias)


_PACKED: MutableMapping[torch.nn.Module, dict[str, Weights]] = WeakKeyDictionary()

Call = Callable[..., Tensor]


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
        known = _PACKED.setdefault(module, {})
        found[node] = _call(node.target, known, str(weight.target), attrs[weight], place)
    return found


class _Place:
    """Where a product has its parts: x, weight and bias by argument; is the weight [in, out] (`across`)?"""

    def __init__(self, x: int, weight: int, bias: int | None, across: bool) -> None:
        self.x, self.weight, self.bias, self.across = x, weight, bias, across


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


def _call(plain: Any, known: dict[str, Weights], name: str, weight: Tensor, place: _Place) -> Call:
    def product(*args: Any) -> Tensor:
        x = args[place.x]
        if x.numel() < FEW_ROWS * x.shape[-1] or x.dtype != torch.float32 or weight.requires_grad:
            found: Tensor = plain(*args)
            return found
        turned = weight.T if place.across else weight
        key = f"{name}.T" if place.across else name
        if key not in known or not known[key].of(turned):
            known[key] = Weights(turned)
        bias = args[place.bias] if place.bias is not None and len(args) > place.bias else None
        return known[key](x, bias)

    return product
