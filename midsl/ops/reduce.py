"""Reductions over named axes that know which elements count.

Masked elements are replaced before the arithmetic, never multiplied away after it: 0 x inf is NaN,
and a NaN in a value or a gradient would leak out of padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from midsl.ops.elementwise import as_float
from midsl.ops.named import NT, joint_sizes

REDUCTIONS = ("mean", "sum", "max", "min", "count", "any", "all", "std", "var")


def reduce(op: str, x: NT, over: Sequence[str], mask: NT | None = None) -> NT:
    """Reduce over named axes; `mask` (Bool, any axes) says which elements count.

    The result has the axes of `x` and of `mask` that are not in `over`. Where nothing counts, mean,
    max, min, std and var are NaN, sum and count 0, `all` true and `any` false. std and var divide by
    n - 1, so that one element alone has none (NaN). `count` counts true values; `all`, `any` and
    `count` need Bool. Means of whole numbers are float64.

    Raises:
        ValueError: unknown `op`, an axis that is not there, a `mask` or an argument of the wrong kind.
    """
    if op not in REDUCTIONS:
        raise ValueError(f"no reduction named {op!r}")
    sizes = joint_sizes(x, *([mask] if mask is not None else []))
    for a in over:
        if a not in sizes:
            raise ValueError(f"no axis {a!r} among {tuple(sizes)}")
    if mask is not None and mask.data.dtype != torch.bool:
        raise ValueError(f"a mask is Bool, not {mask.data.dtype}")
    if op in ("count", "any", "all") and x.data.dtype != torch.bool:
        raise ValueError(f"{op} needs truth values, not {x.data.dtype}")
    data = x.expand(sizes).data
    keep = mask.expand(sizes).data if mask is not None else None
    dims = [tuple(sizes).index(a) for a in over]
    if not dims:  # torch takes "no dimension" for "all of them"
        data, dims = data.unsqueeze(-1), [data.dim()]
        keep = keep.unsqueeze(-1) if keep is not None else None
    return NT(_reduce(op, data, dims, keep), tuple(a for a in sizes if a not in over))


def _reduce(op: str, x: Tensor, dims: list[int], keep: Tensor | None) -> Tensor:
    if op == "any":
        return (x if keep is None else x & keep).any(dim=dims)
    if op == "all":
        return (x if keep is None else x | ~keep).all(dim=dims)
    if op == "count":
        return (x if keep is None else x & keep).sum(dim=dims)
    if op in ("max", "min"):
        return _extreme(op, x, dims, keep)
    if op != "sum":
        x = as_float(x)
    x = _only(x, keep, 0)
    total = x.sum(dim=dims, keepdim=True)
    if op == "sum":
        return _squeeze(total, dims)
    n = _count(x, dims, keep).to(x.dtype)
    mean = total / n
    if op == "mean":
        return _squeeze(mean, dims)
    square = _only((x - mean) ** 2, keep, 0).sum(dim=dims, keepdim=True)
    var = square / torch.where(n > 1, n - 1, torch.full_like(n, torch.nan))
    if op == "var":
        return _squeeze(var, dims)
    # sqrt has no slope at 0: a constant has standard deviation 0, and gradient 0
    flat = var == 0
    return _squeeze(torch.where(flat, 0.0, torch.where(flat, 1.0, var).sqrt()), dims)


def _count(x: Tensor, dims: list[int], keep: Tensor | None) -> Tensor:
    whole = torch.ones((), dtype=torch.bool, device=x.device).expand(x.shape)
    return (whole if keep is None else keep).sum(dim=dims, keepdim=True)


def _only(x: Tensor, keep: Tensor | None, fill: float) -> Tensor:
    return x if keep is None else torch.where(keep, x, torch.full((), fill, dtype=x.dtype, device=x.device))


def _squeeze(x: Tensor, dims: list[int]) -> Tensor:
    return x.squeeze(tuple(dims))


def _extreme(op: str, x: Tensor, dims: list[int], keep: Tensor | None) -> Tensor:
    x = x.long() if x.dtype == torch.bool else x
    n = _squeeze(_count(x, dims, keep), dims)
    if x.is_floating_point():
        low, high = -torch.inf, torch.inf
    else:
        low, high = torch.iinfo(x.dtype).min, torch.iinfo(x.dtype).max
    if 0 in (x.shape[d] for d in dims):
        return torch.full(n.shape, torch.nan, dtype=as_float(x).dtype, device=x.device)
    filled = _only(x, keep, low if op == "max" else high)
    best = filled.amax(dim=dims) if op == "max" else filled.amin(dim=dims)
    if bool((n > 0).all()):
        return best
    return torch.where(n > 0, as_float(best), torch.nan)
