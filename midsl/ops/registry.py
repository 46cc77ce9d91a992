"""Operations by name: what an `Apply` node says is looked up here, by the oracle and the executor alike.

A family file registers plain functions of named tensors. Padding is dealt with once, here: along the
axes an operation runs `over`, masked entries are replaced by the value that changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from midsl.ops.catalog import CATALOG
from midsl.ops.named import NT, align

OpFn = Callable[..., NT]
F = TypeVar("F", bound=OpFn)

REGISTRY: dict[str, OpFn] = {}


def load_families() -> None:
    """Import the family files, which register their operations; they import this file in turn."""
    from midsl.ops import axis, contexts, elementwise, extern, graph, linalg, prob  # noqa: F401


class UnknownOp(KeyError):
    """An operation that no family registered: a bug of the compiler, as `check` knows the names."""

    def __str__(self) -> str:
        return f"internal error: no operation named {self.args[0]!r}"


def op(name: str) -> Callable[[F], F]:
    """Register a function of named tensors, ``(*args: NT, **attrs) -> NT``, under a name."""

    def register(function: F) -> F:
        if name in REGISTRY:
            raise ValueError(f"operation {name!r} is registered twice")
        REGISTRY[name] = function
        return function

    return register


def apply_op(name: str, args: Sequence[NT], attrs: Mapping[str, Any], mask: NT | None = None) -> NT:
    """Apply an operation.

    `mask` (Bool) is true where an element is real: along the axes named by `over` the rest cannot
    change the result. It is refused for operations that run over no axis.

    Raises:
        UnknownOp: if nothing is registered under the name.
        ValueError: wrong number of operands, sizes that disagree, a mask that means nothing here.
    """
    load_families()
    if name not in REGISTRY:
        raise UnknownOp(name)
    info = CATALOG[name]
    if info.arity is not None and len(args) != info.arity:
        raise ValueError(f"{name} takes {info.arity} operands, not {len(args)}")
    if mask is not None and info.takes_mask:
        return REGISTRY[name](*args, mask=mask, **attrs)
    if mask is not None:
        if info.pad is None:
            raise ValueError(f"{name} runs over no axis, so no mask applies")
        args = [_fill(x, mask, info.pad) for x in args]
    return REGISTRY[name](*args, **attrs)


def _fill(x: NT, mask: NT, value: float) -> NT:
    (data, keep), axes = align(x, mask)
    if not data.is_floating_point() and value != 0:
        data = data.double()
    fill = torch.full((), value, dtype=data.dtype, device=data.device)
    return NT(torch.where(keep, data, fill), axes)
