"""Optimisers by name, and one step of one; all of them are torch's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from midsl.diagnostics.model import fail
from midsl.source import Span

FUSED_FROM = 1 << 16
"""Entries of all weights together from which one pass over them is worth its own rounding."""


def optimiser_of(
    weights: Sequence[Tensor], options: Mapping[str, float | str], fused: bool = False
) -> torch.optim.Optimizer:
    """Return the optimiser that ``adam(...)``, ``adamw(...)`` or ``sgd(...)`` of a spec asks for.

    `fused`: large weights may be gone over once for each step, and not once for each term of its formula.
    """
    lr, wd = float(options["lr"]), float(options["wd"])
    if options["optim"] == "sgd":
        return torch.optim.SGD(weights, lr=lr, momentum=float(options["momentum"]), weight_decay=wd)
    betas = (float(options["beta1"]), float(options["beta2"]))
    kind = torch.optim.AdamW if options["optim"] == "adamw" else torch.optim.Adam
    fused = fused and sum(w.numel() for w in weights) >= FUSED_FROM
    return kind(weights, lr=lr, betas=betas, weight_decay=wd, fused=fused or None)


def descend(
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    options: Mapping[str, float | str],
    step: int,
    span: Span,
    what: str,
) -> float:
    """Take one step down a loss, at the learning rate that `rate_at` gives it, and return the loss.

    Gradients that are longer together than `clip` are cut to that length first.

    Raises:
        MiError: MI0703 (exit code 4) if the loss is no finite number.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise fail(
            "MI0703",
            f"the loss is {value} at step {step}",
            span,
            label=f"this {what}",
            help="lower the learning rate",
            exit_code=4,
        )
    for group in optimiser.param_groups:
        group["lr"] = rate_at(step, options)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if longest := float(options.get("clip", 0.0)):
        weights = [w for group in optimiser.param_groups for w in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, longest)
    optimiser.step()
    return value


def rate_at(step: int, options: Mapping[str, float | str]) -> float:
    """The rate of a step: it rises over the first `warmup`, and falls to a tenth over the share `cooldown`.

    >>> [round(rate_at(s, {"lr": 1.0, "warmup": 2, "cooldown": 0.5, "steps": 8}), 9) for s in (0, 1, 3, 5, 7)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    lr, warmup, steps = float(options["lr"]), float(options["warmup"]), float(options["steps"])
    falls = float(options.get("cooldown", 0.0)) * steps
    up = min(1.0, (step + 1) / warmup) if warmup else 1.0
    down = min(1.0, max(0.0, step + 1 - (steps - falls)) / falls) if falls else 0.0
    return lr * up * (1.0 - 0.9 * down)
