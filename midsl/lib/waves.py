"""Waves (`std.stats`): what a value has of each frequency is how it goes with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def waves(x: Floats, period: int, k: int) -> dict[str, Floats]:
    """cos and sin of 2 pi f x / period for x [n] and the frequencies f = 1 .. k; each [n, k].

    >>> waves(np.array([0.0, 1.0]), 4, 2)["cos"].round(6).tolist()
    [[1.0, 1.0], [0.0, -1.0]]
    """
    angle = 2 * np.pi * x[:, None] * np.arange(1, k + 1) / period
    return {"cos": np.cos(angle), "sin": np.sin(angle)}
