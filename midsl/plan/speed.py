"""How long a plan will take: its FLOPs over what this machine does with a product like its own.

One short product is timed, on as many threads as a run would use, packed if runs here use packed products. A
plan spends about three quarters of its time in such products. It is an estimate, and is shown as one.
"""

from __future__ import annotations

import time
from functools import cache

import torch

from midsl.backends.packed import Weights, at_hand

SHARE = 0.75
"""The part of a run's time that its products take, about."""
CALL = 30e-6
"""Seconds that calling an operation takes, whatever it does: what small models spend their time on."""
ROWS, WIDTH = 512, 768


@cache
def flops_per_second() -> float:
    """What this machine does now in a product of a middling size: the best of three, measured once."""
    x, w, b = torch.ones(ROWS, WIDTH), torch.ones(WIDTH, WIDTH), torch.ones(WIDTH)
    packed = Weights(w) if at_hand() else None
    best = float("inf")
    with torch.no_grad():
        for _ in range(4):  # the first one warms up
            began = time.perf_counter()
            if packed is not None:
                packed(x, b)
            else:
                torch.nn.functional.linear(x, w, b)
            best = min(best, time.perf_counter() - began)
    return 2 * ROWS * WIDTH * WIDTH / best


@cache
def bytes_per_second() -> float:
    """What this machine writes and reads now in a sum of two tensors of 16 MB: the best of three."""
    a, b, out = (torch.ones(1 << 22) for _ in range(3))
    best = float("inf")
    for _ in range(4):  # the first one warms up
        began = time.perf_counter()
        torch.add(a, b, out=out)
        best = min(best, time.perf_counter() - began)
    return 3 * 4 * a.numel() / best


def seconds(flops: float, calls: int = 0) -> float:
    """About how long a plan of so many FLOPs in so many calls will take here, models loaded and exported."""
    return flops / (flops_per_second() * SHARE) + calls * CALL


def shown(value: float) -> str:
    """A time for people.

    >>> shown(0.0123), shown(7.31), shown(95), shown(7300)
    ('12 ms', '7.3 s', '95 s', '2.0 h')
    """
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 600:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 3600:.1f} h"
