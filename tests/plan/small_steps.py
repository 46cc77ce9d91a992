"""What a small step changes, so well that a derivative that is wrong by 1e-4 of itself cannot pass.

A central difference is wrong by its step squared, where the function bends, and by rounding over the step;
at a kink it is wrong whatever the step. So each is taken at a step and at half of it: what both agree on to a
millionth is a slope, from which the leading error is then taken away (Richardson). Of several such pairs the
one that agrees best counts, and where none agrees there is nothing to compare with: a failure, and no pass.
"""

from __future__ import annotations

from collections.abc import Mapping

PAIRS = (1e-3, 1e-4, 1e-5, 1e-6)
"""The larger step of each pair, as a part of the size of what is at a place."""
STEPS = tuple(s for h in PAIRS for s in (h, h / 2))
AGREES = 1e-6
"""What a difference at a step and one at half of it may be apart, by size."""
TOLERANCE = 1e-5
NOTHING = 1e-8
"""What counts as no change at all."""


def slope_of(changes: Mapping[float, float]) -> tuple[float, float]:
    """A slope and how far off it may be, of central differences by step, at each step of `STEPS`."""
    whole, half = min(((changes[h], changes[h / 2]) for h in PAIRS), key=lambda p: abs(p[0] - p[1]))
    return half + (half - whole) / 3, abs(half - whole)


def assert_slope(derivative: float, changes: Mapping[float, float], what: str) -> None:
    """Fail unless a derivative is what steps say, or where they say nothing."""
    slope, off = slope_of(changes)
    size = abs(slope)
    assert off <= AGREES * size + NOTHING, f"{what}: steps do not agree on a slope: {dict(changes)}"
    assert abs(derivative - slope) <= TOLERANCE * size + NOTHING, f"{what}: {derivative}, steps say {slope}"
