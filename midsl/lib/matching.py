"""One to one: who goes with whom so that all together it is best (`std.matching`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail

Floats = NDArray[np.float64]


def assignment(score: Floats) -> Floats:
    """The pairs of rows and columns of score [m, n] of largest sum, as 1 where a pair is, else 0: [m, n].

    Each row has a column of its own where there are as many columns as rows or more, else each column has a
    row. Shortest augmenting paths, with prices that keep all costs above 0: O(m^2 n).

    Raises:
        MiError: MI0707 if a score is no finite number.
    """
    if not np.isfinite(score).all():
        raise fail("MI0707", "`assignment` of scores that are no numbers", exit_code=4)
    if score.shape[0] > score.shape[1]:
        return np.asarray(assignment(score.T).T)
    cost = score.max(initial=0.0) - score
    m, n = cost.shape
    price_row, price_column = np.zeros(m), np.zeros(n)
    row_of = np.full(n, -1)
    for start in range(m):
        least, before = np.full(n, np.inf), np.full(n, -1)
        done = np.zeros(n, bool)
        at, row, reach = -1, start, 0.0
        while row >= 0:  # until a column that nobody has
            way = reach + cost[row] - price_row[row] - price_column
            shorter = ~done & (way < least)
            least[shorter], before[shorter] = way[shorter], at
            at = int(np.where(done, np.inf, least).argmin())
            reach, done[at] = least[at], True
            row = int(row_of[at])
        price_row[start] += reach
        taken = done & (row_of >= 0)
        price_row[row_of[taken]] += reach - least[taken]
        price_column[done] -= reach - least[done]
        while at >= 0:
            back = int(before[at])
            row_of[at] = start if back < 0 else row_of[back]
            at = back
    pairs = np.zeros((m, n))
    columns = np.flatnonzero(row_of >= 0)
    pairs[row_of[columns], columns] = 1.0
    return pairs
