"""Action sets: records that make no sense are told of, and enumeration is a plain loop over all points."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from midsl.diagnostics.model import MiError
from midsl.lib.actions import reachable, reachable_jointly

NAMES = ["a", "b", "c"]
BITS = [{"feature": f, "low": 0, "high": 1} for f in NAMES]
X = np.zeros((1, 3))


@pytest.mark.parametrize(
    ("actions", "rules", "said"),
    [
        ([{"feature": "d", "steps": [1]}], [], "no feature 'd'"),
        ([{"feature": "a"}], [], "where can 'a' go"),
        ([{"feature": "a", "step": [1]}], [], "no field 'step'"),
        ([{"feature": "a", "steps": [1], "way": "left"}], [], "no way 'left'"),
        ([*BITS, BITS[0]], [], "two actions"),
        ([{"feature": "a", "steps": [1], "drives": [{"feature": "b"}]}, BITS[1]], [], "action of its own"),
        (BITS, [{"one_of": ["a", "b"]}], "no rule"),
        (BITS, [{"implies": ["a", "b", "c"]}], "no rule"),
        (["a"], [], "a record"),
    ],
)
def test_records_that_make_no_sense_are_told_of(actions: Any, rules: Any, said: str) -> None:
    with pytest.raises(MiError) as err:
        reachable(X, NAMES, actions, rules, 8)
    (found,) = err.value.diagnostics
    assert found.code == "MI0707" and said in found.message and found.help


def test_what_has_no_room_is_no_silent_cap() -> None:
    with pytest.raises(MiError, match="7 points can be reached"):
        reachable_jointly(X, NAMES, BITS, [], 6)


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({"one_hot": NAMES}, lambda a, b, c: a + b + c == 1),
        ({"thermometer": NAMES}, lambda a, b, c: a >= b >= c),
        ({"implies": ["a", "c"]}, lambda a, b, c: c or not a),
    ],
)
def test_enumeration_is_a_loop_over_all_points(rule: Any, fits: Any) -> None:
    """Of each change of one feature: the point itself if it fits, else all that fit and have that change."""
    points = [p for p in product((0.0, 1.0), repeat=3) if fits(*p)]
    x = np.array(points)
    found = reachable(x, NAMES, BITS, [rule], 8)
    jointly = reachable_jointly(x, NAMES, BITS, [rule], 8)
    tied = {NAMES.index(n) for n in next(iter(rule.values()))}
    for row, at in enumerate(points):
        assert {tuple(p) for p in jointly["points"][row][jointly["there"][row]]} == {
            p for p in points if p != at
        }
        for j in range(3):
            alone = tuple(1.0 - v if i == j else v for i, v in enumerate(at))
            free = [
                p for p in points if p[j] != at[j] and all(p[i] == at[i] for i in range(3) if i not in tied)
            ]
            wanted = {alone} if fits(*alone) else set(free)
            assert {tuple(p) for p in found["points"][row, j][found["there"][row, j]]} == wanted
