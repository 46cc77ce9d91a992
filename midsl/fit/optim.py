"""Optimisers by name, and one step of one; all of them are torch's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from midsl.diagnostics.model import fail
from midsl.source import Span


def optimiser_of(weights: Sequence[Tensor], options: Mapping[str, float | str]) -> torch.optim.Optimizer:
    """Return the optimiser that ``adam(...)``, ``adamw(...)`` or ``sgd(...)`` of a spec asks for."""
    lr, wd = float(options["lr"]), float(options["wd"])
    if options["optim"] == "sgd":
        return torch.optim.SGD(weights, lr=lr, momentum=float(options["momentum"]), weight_decay=wd)
    betas = (float(options["beta1"]), float(options["beta2"]))
    kind = torch.optim.AdamW if options["optim"] == "adamw" else torch.optim.Adam
    return kind(weights, lr=lr, betas=betas, weight_decay=wd)


def descend(
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    options: Mapping[str, float | str],
    step: int,
    span: Span,
    what: str,
) -> float:
    """Take one step down a loss, at the learning rate that `warmup` gives it, and return the loss.

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
    warmup = float(options["warmup"])
    for group in optimiser.param_groups:
        group["lr"] = float(options["lr"]) * min(1.0, (step + 1) / warmup if warmup else 1.0)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return value
