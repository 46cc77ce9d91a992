"""The fewest FLOPs that each workload can be answered with, exactly and for any data: what plans are held to.

D width, L layers, T tokens, n pairs, H heads. A block costs 24 D^2 a token. The last layer needs keys and
values of the rows that changed, and then one query row: `tail`. A patched row of the stream needs no q, k, v
of its own in the layer where it is patched. Attention itself comes on top: at most T / 6D of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The size of a workload."""

    layers: int = 12
    heads: int = 12
    width: int = 768
    n: int = 8
    length: int = 16

    @property
    def block(self) -> int:
        """FLOPs of one block for one token, attention left out."""
        return 24 * self.width**2

    @property
    def base(self) -> int:
        """FLOPs of one run over all rows."""
        return self.n * self.length * self.block * self.layers

    def tail(self, dirty: int) -> int:
        """FLOPs of the last layer of one row of the data of which `dirty` positions changed."""
        return (4 * dirty + 20) * self.width**2


def w1(s: Shape) -> int:
    """The stream patched at each layer and position."""
    total = 0
    for layer in range(s.layers):
        for dirty in range(1, s.length + 1):
            if layer == s.layers - 1:
                total += 18 * s.width**2
            else:
                total += 18 * s.width**2 * dirty + s.block * dirty * (s.layers - 2 - layer) + s.tail(dirty)
    return s.n * total + 2 * s.base


def w2(s: Shape) -> int:
    """Each head patched at all positions."""
    total = 16 * s.width**2  # the last layer
    for layer in range(s.layers - 1):
        total += 16 * s.width**2 * s.length
        total += s.block * s.length * (s.layers - 2 - layer) + s.tail(s.length)
    return s.n * s.heads * total + 2 * s.base


def w2last(s: Shape) -> int:
    """Each head patched at the last position: one row of each later layer."""
    total = sum(16 * s.width**2 + s.block * (s.layers - 1 - layer) for layer in range(s.layers))
    return s.n * s.heads * total + 2 * s.base


def w3(s: Shape) -> int:
    """Two forwards, and one backward pass to activations."""
    return 3 * s.base


def w4(s: Shape, deepest: int = 8) -> int:
    """A run that stops after the deepest block that is read."""
    return s.n * s.length * s.block * (deepest + 1)


def w5(s: Shape, rows: list[int], at: int = 6) -> int:
    """Features of a dictionary at the stream before block `at` set to zero, and one unedited run.

    `rows`: for each feature and row of the data, the positions from the first where the feature is there.
    """
    later = s.layers - 1 - at
    return sum(s.block * r * later + s.tail(r) for r in rows if r) + s.base


def w6(s: Shape, strengths: int = 20) -> int:
    """A direction added at each layer: all positions change."""
    per = sum(s.block * s.length * (s.layers - 1 - layer) + s.tail(s.length) for layer in range(s.layers))
    return s.n * strengths * per + 2 * s.base


LEAST = {"w1": w1, "w2": w2, "w2last": w2last, "w3": w3, "w4": w4, "w6": w6}
