"""Seeded draws whose stream is the same on every machine and in every version of numpy.

Only the raw words of the generator are fixed for ever, not what numpy makes of them; so the little that
data sets need is made from the words here. A change would silently change every seeded data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
    """A stream of draws: equal seeds and streams give equal draws.

    >>> a, b = Draws(0, "names"), Draws(0, "names")
    >>> a.sample(range(100), 5) == b.sample(range(100), 5)
    True
    """

    def __init__(self, seed: int, stream: str) -> None:
        key = int.from_bytes(stream.encode().ljust(8, b"\0")[:8], "little")
        self._words = np.random.Philox(key=[seed % 2**64, key])

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1 (the bias is under n / 2**64)."""
        return int(self._words.random_raw()) % n

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """`k` of the items, in random order, each position of `items` at most once."""
        moved: dict[int, int] = {}
        out = []
        for i in range(k):
            j = i + self.below(len(items) - i)
            out.append(items[moved.get(j, j)])
            moved[j] = moved.get(i, i)
        return out

    def shuffle(self, n: int) -> list[int]:
        """The integers below n in random order."""
        return self.sample(range(n), n)
