"""Codes that are mostly 0, written and differentiated at what is not: a fit's way forward and back.

The product with the encoder is whole. Behind it a code has few entries for each example, and what is written
for them, and all gradients, are sums of a few rows: `embedding_bag`, which adds in one order always, so that
the same fit gives the same bits again. Examples go some at a time, so that what is as wide as the code stays
in the cache. A code that is too full for this (at the start of a fit) is multiplied out.

Shapes: x [n, d], enc [feature, d], b_enc [feature], dec [feature, e]; float32 on the CPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

SHARE = 1 / 16
"""The share of entries of a code up to which taking rows is cheaper than multiplying."""
ROOM = 1 << 22
"""Entries of a code that are held at a time: 16 MiB, whose memory is reused."""


class Entries(NamedTuple):
    """Entries of a code, example after example.

    Attributes:
        at: the feature of each. value: of each. starts: where each example's begin.
        example: which example each is of.
    """

    at: Tensor
    value: Tensor
    starts: Tensor
    example: Tensor


def rows_sum(weights: Tensor, code: Entries, value: Tensor) -> Tensor:
    """For each example the sum of rows of `weights` at its features, times `value`: [n, d]."""
    return embedding_bag(code.at, weights, code.starts, per_sample_weights=value, mode="sum")


def rows_dot(x: Tensor, weights: Tensor, code: Entries) -> Tensor:
    """For each entry the product of its example's x and its feature's row of `weights`: [entries]."""
    with torch.enable_grad():  # the gradient of `rows_sum` for its values, which has no name of its own
        value = code.value.detach().requires_grad_(True)
        (found,) = torch.autograd.grad(rows_sum(weights.detach(), code, value), value, x)
    return found


def spread(x: Tensor, code: Entries, value: Tensor, features: int) -> Tensor:
    """For each feature the sum of x of the examples that it is on in, times `value`: [feature, d]."""
    order = torch.argsort(code.at, stable=True)
    starts = torch.zeros(features, dtype=torch.int64)
    torch.cumsum(torch.bincount(code.at, minlength=features)[:-1], 0, out=starts[1:])
    return embedding_bag(code.example[order], x, starts, per_sample_weights=value[order], mode="sum")


def totals(code: Entries, value: Tensor, features: int) -> Tensor:
    """The sum of the entries of each feature: [feature]."""
    return torch.zeros(features, dtype=value.dtype).index_add_(0, code.at, value)


def parts(n: int, features: int) -> list[slice]:
    """Examples, some at a time."""
    each = max(1, ROOM // features)
    return [slice(i, min(i + each, n)) for i in range(0, n, each)]


def read_by(x: Tensor, enc: Tensor, b_enc: Tensor | None) -> Tensor:
    """x enc + b_enc: [n, feature]."""
    return x @ enc.T if b_enc is None else torch.addmm(b_enc, x, enc.T)


# ---------------------------------------------------------------- the k largest


class TopWritten(torch.autograd.Function):
    """What is written for the k largest entries of relu(x enc + b_enc), of equals the first: [n, e]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, enc: Tensor, b_enc: Tensor | None, dec: Tensor, k: int) -> Tensor:
        found = [_top(read_by(x[some], enc, b_enc), k) for some in parts(len(x), len(enc))]
        at = torch.cat([f[1] for f in found]).reshape(-1)
        value = torch.cat([f[0] for f in found]).reshape(-1).relu_()
        starts = torch.arange(0, len(at), k)
        ctx.code = Entries(at, value, starts, torch.arange(len(x)).repeat_interleave(k))
        ctx.save_for_backward(x, enc, dec)
        return rows_sum(dec, ctx.code, value)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = (s.contiguous() for s in slopes)
        x, enc, dec = ctx.saved_tensors
        code: Entries = ctx.code
        n = len(enc)
        back = rows_dot(slope, dec, code) * (code.value > 0)
        return (
            rows_sum(enc, code, back) if ctx.needs_input_grad[0] else None,
            spread(x, code, back, n),
            totals(code, back, n) if ctx.needs_input_grad[2] else None,
            spread(slope, code, code.value, n),
            None,
        )


def _top(read: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and where they are; of equals the first, unless they are 0 or less."""
    value, at = read.topk(k, dim=-1)
    least = value[:, -1:]
    if int(torch.count_nonzero(read == least)) > len(read):
        equal = ((read == least).sum(1) > 1) & (least[:, 0] > 0)
        at[equal] = torch.sort(read[equal], dim=-1, descending=True, stable=True).indices[:, :k]
        value = read.gather(1, at)
    return value, at


# ---------------------------------------------------------------- above a threshold


class JumpWritten(torch.autograd.Function):
    """What is written for the entries of x enc + b_enc that are above a threshold [feature]; how many.

    Gradients for the threshold are those of a ramp `width` wide (``step`` of `midsl.ops`); what is read gets
    none of them. Returns [n, e] and [n].
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, enc: Tensor, b_enc: Tensor | None, threshold: Tensor, dec: Tensor, width: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, enc, threshold, dec)
        ctx.width, ctx.parts = width, []
        written, counts = [], []
        low = threshold - width / 2
        for some in parts(len(x), len(enc)):
            read = read_by(x[some], enc, b_enc)
            near = read > low  # on, or within the ramp
            each = near.sum(1)
            if int(each.sum()) > SHARE * near.numel():
                on = read > threshold
                code = torch.where(on, read, 0.0).relu_()
                ctx.parts.append((some, read, code))
                written.append(code @ dec)
                counts.append(on.sum(1).to(read.dtype))
                continue
            place = near.view(-1).nonzero().view(-1)
            value, example = read.view(-1)[place], torch.arange(len(read)).repeat_interleave(each)
            at = place - example * len(enc)
            above = value > threshold[at]
            starts = torch.cumsum(each, 0) - each
            entries = Entries(at, value.relu() * above, starts, example)
            ctx.parts.append((some, entries, value))
            written.append(rows_sum(dec, entries, entries.value))
            counts.append(torch.zeros(len(read)).index_add_(0, example, above.to(value.dtype)))
        return torch.cat(written), torch.cat(counts)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        slope, of_count = (s.contiguous() for s in slopes)
        x, enc, threshold, dec = ctx.saved_tensors
        width = ctx.width
        n = len(enc)
        to_enc, to_dec = torch.zeros_like(enc), torch.zeros_like(dec)
        to_bias, to_threshold = torch.zeros(n), torch.zeros(n)
        to_x: list[Tensor] = []
        for some, one, other in ctx.parts:
            g, c = slope[some], of_count[some]
            if isinstance(one, Entries):
                back = rows_dot(g, dec, one)
                near = threshold[one.at]
                ramp = (other - near).abs() < width / 2
                to_threshold += totals(one, (back * near + c[one.example]) * ramp, n)
                back = back * (one.value > 0)
                to_dec += spread(g, one, one.value, n)
                to_enc += spread(x[some], one, back, n)
                to_bias += totals(one, back, n)
                if ctx.needs_input_grad[0]:
                    to_x.append(rows_sum(enc, one, back))
                continue
            back = g @ dec.T
            ramp = ((one - threshold).abs_() < width / 2).to(back.dtype)
            to_threshold += c @ ramp + ramp.mul_(back).sum(0) * threshold
            back.mul_(other > 0)
            to_dec.addmm_(other.T, g)
            to_enc.addmm_(back.T, x[some])
            to_bias += back.sum(0)
            if ctx.needs_input_grad[0]:
                to_x.append(back @ enc)
        return (
            torch.cat(to_x) if to_x else None,
            to_enc,
            to_bias if ctx.needs_input_grad[2] else None,
            to_threshold.div_(-width),
            to_dec,
            None,
        )
