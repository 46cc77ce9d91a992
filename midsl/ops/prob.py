"""Distances between distributions given by their logits, in nats.

All work on log-probabilities. An entry of -inf (padding, an excluded class) has probability 0 and
must contribute exactly 0 to value and gradient, so such entries are replaced before arithmetic that
would turn them into NaN.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from midsl.ops.axis import Over, drop_axis, to_last
from midsl.ops.elementwise import as_float
from midsl.ops.named import NT, as_axes, joint_sizes
from midsl.ops.registry import op


def _log_probs(a: NT, b: NT, over: Over) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    for n in as_axes(over):
        a.dim(n), b.dim(n)
    sizes = joint_sizes(a, b)
    x, rest = to_last(a.expand(sizes), over)
    y, _ = to_last(b.expand(sizes), over)
    return torch.log_softmax(as_float(x), -1), torch.log_softmax(as_float(y), -1), rest


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Sum of p (log p - log q) over the last dimension, 0 where p is 0."""
    absent = log_p == -math.inf
    p = torch.where(absent, 0.0, log_p).exp()
    gap = torch.where(absent, 0.0, log_p) - torch.where(absent, 0.0, log_q)
    return torch.where(absent, 0.0, p * gap).sum(-1)


@op("kl")
def kl(p_logits: NT, q_logits: NT, over: Over) -> NT:
    """Kullback-Leibler divergence KL(p || q) in nats of two softmax distributions."""
    p, q, rest = _log_probs(p_logits, q_logits, over)
    return NT(_divergence(p, q), rest)


@op("js")
def js(p_logits: NT, q_logits: NT, over: Over) -> NT:
    """Jensen-Shannon divergence in nats: at most log 2."""
    p, q, rest = _log_probs(p_logits, q_logits, over)
    absent = (p == -math.inf) & (q == -math.inf)
    mixed = torch.logaddexp(torch.where(absent, 0.0, p), torch.where(absent, 0.0, q)) - math.log(2)
    middle = torch.where(absent, -math.inf, mixed)
    return NT((_divergence(p, middle) + _divergence(q, middle)) / 2, rest)


@op("entropy")
def entropy(logits: NT, over: Over) -> NT:
    """Entropy in nats of a softmax distribution."""

    def of(t: Tensor) -> Tensor:
        log_p = torch.log_softmax(as_float(t), -1)
        return -_divergence(log_p, torch.zeros_like(log_p))

    return drop_axis(logits, over, of)
