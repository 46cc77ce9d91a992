"""Optimisers by name; all of them are torch's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def optimiser_of(weights: Sequence[Tensor], options: Mapping[str, float | str]) -> torch.optim.Optimizer:
    """Return the optimiser that ``adam(...)``, ``adamw(...)`` or ``sgd(...)`` of a spec asks for."""
    lr, wd = float(options["lr"]), float(options["wd"])
    if options["optim"] == "sgd":
        return torch.optim.SGD(weights, lr=lr, momentum=float(options["momentum"]), weight_decay=wd)
    betas = (float(options["beta1"]), float(options["beta2"]))
    kind = torch.optim.AdamW if options["optim"] == "adamw" else torch.optim.Adam
    return kind(weights, lr=lr, betas=betas, weight_decay=wd)
