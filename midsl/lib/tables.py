"""Tables of numbers that no model runs on: written out, and what is fitted to them (`std.tables`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail

Floats = NDArray[np.float64]
MOST_STEPS = 100


def table_of(rows: Sequence[Sequence[float]]) -> Floats:
    """Rows that are written out, as a table [row, feature].

    Raises:
        MiError: MI0707 if there are none, or they are not equally long.
    """
    if not rows or len({len(r) for r in rows}) > 1:
        raise fail("MI0707", "a table has rows, all of one length", exit_code=4)
    return np.array(rows, np.float64)


def logistic(x: Floats, y: Floats, l2: float, standardise: bool) -> dict[str, Floats | float]:
    """Logistic regression of y [row], 0 or 1, on x [row, feature]: the minimum of the mean log loss.

    l2: price of half the squared weights, the bias has none. A price above 0 makes the minimum one point,
        also where a line parts the classes.
    standardise: the weights priced are those of features with a deviation of 1, not those of x.

    Returns:
        w [feature], b, in the units of x; a column that is constant has weight 0.

    Raises:
        MiError: MI0707 if y is not 0 and 1, or Newton's method does not come to an end.
    """
    if not np.isin(y, (0.0, 1.0)).all() or l2 <= 0:
        raise fail("MI0707", "`logistic` needs labels of 0 and 1, and an `l2` above 0", exit_code=4)
    centre, size = x.mean(0), x.std(0)
    live = size > 0
    size = size if standardise else np.where(live, 1.0, 0.0)
    z = np.where(live, (x - centre) / np.where(live, size, 1.0), 0.0)
    z = np.concatenate([z, np.ones((len(z), 1))], 1)
    price = np.append(np.full(x.shape[1], l2), 0.0)
    w = np.zeros(z.shape[1])
    for _ in range(MOST_STEPS):
        p = 1.0 / (1.0 + np.exp(-z @ w))
        slope = z.T @ (p - y) / len(y) + price * w
        if np.abs(slope).max() < 1e-12:
            break
        bend = (z * (p * (1 - p))[:, None]).T @ z / len(y) + np.diag(price)
        w = w - np.linalg.solve(bend, slope)
    else:
        raise fail("MI0707", f"`logistic` has not come to an end in {MOST_STEPS} steps", exit_code=4)
    weights = np.where(live, w[:-1] / np.where(live, size, 1.0), 0.0)
    return {"w": weights, "b": float(w[-1] - weights @ centre)}
