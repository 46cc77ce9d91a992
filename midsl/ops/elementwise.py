"""Operations on each element: arithmetic, comparison, logic and the pointwise functions.

Whole numbers stay whole under + - * % and become float64 where a result may not be whole, so that
the oracle never meets a float32 by accident.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import gelu

from midsl.ops.named import NT, align
from midsl.ops.registry import op

DEFAULT_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Of `approx` without `tol`, relative to the larger operand and at least absolute, by precision."""


def as_float(x: Tensor) -> Tensor:
    """Return floating-point numbers as they are, and anything else as float64."""
    return x if x.is_floating_point() else x.double()


def _number(x: Tensor) -> Tensor:
    return x.long() if x.dtype == torch.bool else x


def _unary(name: str, f: Callable[[Tensor], Tensor], prepare: Callable[[Tensor], Tensor] = as_float) -> None:
    op(name)(lambda x: NT(f(prepare(x.data)), x.axes))


def _binary(
    name: str, f: Callable[[Tensor, Tensor], Tensor], prepare: Callable[[Tensor], Tensor] = _number
) -> None:
    def run(a: NT, b: NT) -> NT:
        (x, y), axes = align(a, b)
        return NT(f(prepare(x), prepare(y)), axes)

    op(name)(run)


def _pow(x: Tensor, y: Tensor) -> Tensor:
    whole = not (x.is_floating_point() or y.is_floating_point())
    return torch.pow(x.double() if whole and bool((y < 0).any()) else x, y)


def _boolean(x: Tensor) -> Tensor:
    if x.dtype != torch.bool:
        raise ValueError(f"a truth value is needed, not {x.dtype}")
    return x


_unary("neg", torch.neg, _number)
_unary("abs", torch.abs, _number)
_unary("sign", torch.sign, _number)
_unary("square", lambda x: x * x, _number)
_unary("relu", torch.relu, _number)
_unary("exp", torch.exp)
_unary("log", torch.log)
_unary("sqrt", torch.sqrt)
_unary("gelu", gelu)
_unary("gelu_tanh", lambda x: gelu(x, approximate="tanh"))
_unary("silu", torch.nn.functional.silu)
_unary("sigmoid", torch.sigmoid)
_unary("tanh", torch.tanh)
_unary("isfinite", torch.isfinite)
_unary("not", torch.logical_not, _boolean)

_binary("add", torch.add)
_binary("sub", torch.sub)
_binary("mul", torch.mul)
_binary("div", torch.div, as_float)
_binary("mod", torch.remainder)
_binary("pow", _pow)
_binary("minimum", torch.minimum)
_binary("maximum", torch.maximum)
_binary("lt", torch.lt)
_binary("le", torch.le)
_binary("gt", torch.gt)
_binary("ge", torch.ge)
_binary("eq", torch.eq)
_binary("ne", torch.ne)
_binary("and", torch.logical_and, _boolean)
_binary("or", torch.logical_or, _boolean)


@op("approx")
def approx(a: NT, b: NT, tol: float | None = None) -> NT:
    """Say whether two values agree: within `tol` where given, else within what their precision allows.

    NaN agrees with nothing; infinities agree with themselves.
    """
    (x, y), axes = align(a, b)
    x, y = as_float(x), as_float(y)
    if tol is None:
        # the coarser precision counts, but a scalar literal (rank 0) has none of its own
        known = [t.dtype for t in (x, y) if t.dim()] or [x.dtype, y.dtype]
        bound = max(DEFAULT_TOLERANCE[d] for d in known) * torch.maximum(x.abs(), y.abs()).clamp(min=1.0)
    else:
        bound = torch.full((), tol, dtype=torch.float64, device=x.device)
    return NT(((x - y).abs() <= bound) & x.isfinite() | (x == y), axes)


@op("clamp")
def clamp(x: NT, min: float | None = None, max: float | None = None) -> NT:
    """Limit values to ``[min, max]``; either end may be open.

    Raises:
        ValueError: if both ends are open.
    """
    if min is None and max is None:
        raise ValueError("clamp needs min, max or both")
    return NT(torch.clamp(_number(x.data), min=min, max=max), x.axes)


@op("where")
def where(cond: NT, a: NT, b: NT) -> NT:
    """Take `a` where `cond` is true, else `b`."""
    (c, x, y), axes = align(cond, a, b)
    return NT(torch.where(_boolean(c), x, y), axes)


@op("stop_gradient")
def stop_gradient(x: NT) -> NT:
    """The values as they are, constants for gradients."""
    return NT(x.data.detach(), x.axes)


@op("step")
def step(x: NT, width: float) -> NT:
    """1 where a value is above 0, else 0. Its gradient is that of a ramp `width` wide around 0.

    The straight-through estimator of a threshold: the slope is 1 / width where |x| < width / 2.
    """
    data = as_float(x.data)
    ramp = torch.where(data.abs() < width / 2, data, torch.zeros_like(data)) / width
    return NT(
        (data > 0).to(data.dtype) + (ramp - ramp.detach()), x.axes
    )  # the ramp has a slope, and no value
