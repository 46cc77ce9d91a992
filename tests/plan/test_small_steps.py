"""The comparison itself: it takes what is right and nothing else, however a function bends."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from tests.plan.small_steps import STEPS, assert_slope

SMOOTH: dict[str, tuple[Callable[[float], float], float]] = {
    "straight": (lambda x: 3 * x + 100, 3.0),
    "steep": (lambda x: math.exp(30 * x), 30.0),
    "bent": (lambda x: math.sin(300 * x) + 1, 300.0),
    "a kink further off": (lambda x: x + 50 * max(0.0, x - 3e-5), 1.0),
    "flat": (lambda x: 7.0 + 1e-14 * x, 0.0),
}


def changes(f: Callable[[float], float]) -> dict[float, float]:
    return {h: (f(h) - f(-h)) / (2 * h) for h in STEPS}


@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_right_passes_and_what_is_wrong_fails(name: str) -> None:
    f, slope = SMOOTH[name]
    assert_slope(slope, changes(f), name)
    for wrong in (1 + 1e-4, 1 - 1e-4, -1.0):
        with pytest.raises(AssertionError, match="steps say"):
            assert_slope(slope * wrong if slope else 1e-4, changes(f), name)


def test_nothing_passes_where_steps_do_not_agree() -> None:
    with pytest.raises(AssertionError, match="do not agree"):
        assert_slope(0.0, changes(lambda x: math.sqrt(abs(x)) * (1 if x > 0 else -1)), "a cusp")
