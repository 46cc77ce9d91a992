"""Where entries stand among all others (`std.search.bisection`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def order(x: Floats) -> Floats:
    """The place of each entry among all of x [m, n], the largest first, from 0; [m, n].

    Of equal ones the one that comes first, row by row, is first.

    >>> order(np.array([[0.5, 2.0], [3.0, 0.5]])).tolist()
    [[2.0, 1.0], [0.0, 3.0]]
    """
    down = np.argsort(-x, axis=None, kind="stable")
    found = np.empty(x.size)
    found[down] = np.arange(x.size)
    return found.reshape(x.shape)
