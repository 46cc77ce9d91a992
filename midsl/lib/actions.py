"""What people can change of their features, and where it leads: points by enumeration (`std.actions`).

An action is a record: the `feature` that changes, and how: to any whole number from `low` to `high`, or by
one of `steps` within these bounds; `way` is "up", "down" or "both"; `drives` are features that change with
it, each `by` so much for each unit. What no action names cannot be changed.

A rule ties features together: `thermometer: [..]` (each only if the one before it is), `one_hot: [..]` (just
one of them), `implies: [a, b]` (b where a is). Points that break a rule cannot be reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import MiError, fail
from midsl.diagnostics.suggest import did_you_mean

Floats = NDArray[np.float64]
Point = tuple[float, ...]
FIELDS = {"feature", "low", "high", "steps", "way", "drives"}
RULES = ("thermometer", "one_hot", "implies")
WAYS = ("up", "down", "both")


@dataclass(frozen=True)
class Action:
    """How one feature, a column, may be changed; `drives` are (column, change for each unit)."""

    feature: int
    low: float
    high: float
    steps: tuple[float, ...]
    way: str
    drives: tuple[tuple[int, float], ...]

    def to(self, value: float) -> list[float]:
        """The other values that the feature may take from `value`, in order."""
        if self.steps:
            found = [value + s for s in self.steps if s and self.low <= value + s <= self.high]
        else:
            found = [v for v in np.arange(self.low, self.high + 1.0) if v != value]
        return sorted({v for v in found if self.way == "both" or (v > value) == (self.way == "up")})


@dataclass(frozen=True)
class Rule:
    """What has to hold of some columns."""

    kind: str
    of: tuple[int, ...]

    def holds(self, x: Sequence[float]) -> bool:
        on = [x[i] > 0 for i in self.of]
        return sum(on) == 1 if self.kind == "one_hot" else self._in_order(on)

    def _in_order(self, on: list[bool]) -> bool:
        pairs = pairwise(on)
        return all(a or not b for a, b in pairs) if self.kind == "thermometer" else on[1] or not on[0]


@dataclass(frozen=True)
class ActionSet:
    """What can be changed of rows with columns `names`, and what ties these together."""

    actions: dict[int, Action]
    rules: tuple[Rule, ...]

    def tied(self, feature: int) -> tuple[list[int], list[Rule]]:
        """The features that rules tie to one, through others too, and these rules."""
        group, rules = {feature}, list[Rule]()
        while more := [r for r in self.rules if r not in rules and group & set(r.of)]:
            rules += more
            group |= {i for r in more for i in r.of}
        return sorted(group), rules

    def after(self, x: Point, changed: Mapping[int, float]) -> Point:
        """A point with some of its values changed, and what they drive."""
        y = list(x)
        for i, v in changed.items():
            y[i] += v - x[i]
            for j, by in self.actions[i].drives:
                y[j] += by * (v - x[i])
        return tuple(y)

    def reached(self, x: Point, feature: int) -> list[Point]:
        """The points that a change of one feature leads to: alone where the rules let it, else with others.

        For a value that breaks no rule that point alone counts; for any other all ways to make up for it
        with the features that rules tie to it do.
        """
        action = self.actions.get(feature)
        if action is None:
            return []
        group, rules = self.tied(feature)
        others = [i for i in group if i != feature and i in self.actions]
        found: dict[Point, None] = {}
        for value in action.to(x[feature]):
            alone = self.after(x, {feature: value})
            if all(r.holds(alone) for r in rules):
                found[alone] = None
                continue
            for values in product(*((x[i], *self.actions[i].to(x[i])) for i in others)):
                whole = {i: v for i, v in zip(others, values, strict=True) if v != x[i]}
                point = self.after(x, {feature: value} | whole)
                if all(r.holds(point) for r in rules):
                    found[point] = None
        return list(found)

    def reached_jointly(self, x: Point) -> list[Point]:
        """The points that changes of any of the features lead to; x itself is none of them."""
        own = list(self.actions)
        found: dict[Point, None] = {}
        for values in product(*((x[i], *self.actions[i].to(x[i])) for i in own)):
            changed = {i: v for i, v in zip(own, values, strict=True) if v != x[i]}
            point = self.after(x, changed)
            if changed and all(r.holds(point) for r in self.rules):
                found[point] = None
        return list(found)


def reachable(
    x: Floats, names: Sequence[str], actions: Sequence[Any], rules: Sequence[Any], most: int
) -> dict[str, NDArray[Any]]:
    """The points that a change of each feature leads to, each feature by itself.

    Args:
        x: [row, feature].
        names: of the columns, in order.
        actions, rules: records, as the module says.
        most: how many points to have room for.

    Returns:
        points [row, changed, point, feature], filled up with the row itself, and there [row, changed, point]:
        which are points.

    Raises:
        MiError: MI0707 for records that say something else, or if there are more points than `most`.
    """
    known = action_set(names, actions, rules, x.shape[1])
    n, d = x.shape
    points = np.broadcast_to(x[:, None, None], (n, d, most, d)).copy()
    there = np.zeros((n, d, most), bool)
    for j in known.actions:
        at = sorted({*known.tied(j)[0]} | {i for i, _ in known.actions[j].drives})
        kept: dict[Point, Floats] = {}
        for row in range(n):
            key = tuple(x[row, at].tolist())
            if key not in kept:  # where a change leads depends on the features that are tied to it alone
                found = known.reached(tuple(x[row].tolist()), j)
                kept[key] = np.array(found, np.float64).reshape(-1, d) - x[row]
            moved = x[row] + _few(kept[key], most)
            points[row, j, : len(moved)], there[row, j, : len(moved)] = moved, True
    return {"points": points, "there": there}


def reachable_jointly(
    x: Floats, names: Sequence[str], actions: Sequence[Any], rules: Sequence[Any], most: int
) -> dict[str, NDArray[Any]]:
    """The points that changes of any features together lead to; arguments and errors as in `reachable`.

    Returns:
        points [row, point, feature] and there [row, point].
    """
    known = action_set(names, actions, rules, x.shape[1])
    points = np.repeat(x[:, None], most, 1)
    there = np.zeros(points.shape[:2], bool)
    for row in range(len(x)):
        found = _few(np.array(known.reached_jointly(tuple(x[row].tolist()))).reshape(-1, x.shape[1]), most)
        points[row, : len(found)], there[row, : len(found)] = found, True
    return {"points": points, "there": there}


def drawn(there: NDArray[np.bool_], n: int, seed: int) -> Floats:
    """How often each point [row, changed, point] is drawn, of `n` draws with replacement; 0 where none is."""
    count = there.sum(-1, keepdims=True)
    some = np.zeros(there.shape)
    some[..., 0] = 1.0
    chance = np.where(count > 0, there / np.maximum(count, 1), some)
    return np.where(there, np.random.default_rng(seed).multinomial(n, chance), 0).astype(np.float64)


def _few(found: Floats, most: int) -> Floats:
    if len(found) > most:
        why = f"{len(found)} points can be reached, and there is room for {most}"
        raise fail("MI0707", why, help=f"say `most: {len(found)}`", exit_code=4)
    return found


def action_set(names: Sequence[str], actions: Sequence[Any], rules: Sequence[Any], columns: int) -> ActionSet:
    """Read the records of a spec.

    Raises:
        MiError: MI0707 for a field, a feature or a value that cannot be.
    """
    if len(names) != columns or len(set(names)) < len(names):
        raise _wrong(f"{len(names)} names for {columns} columns", "give each column a name of its own")
    place = {n: i for i, n in enumerate(names)}
    read = [_action(a, place) for a in actions]
    own = {a.feature: a for a in read}
    if len(own) < len(read):
        raise _wrong("a feature has two actions", "say all of it in one record")
    driven = next((a for a in read for j, _ in a.drives if j in own), None)
    if driven is not None:
        raise _wrong(
            f"what {names[driven.feature]!r} drives has an action of its own", "tie them by a rule instead"
        )
    return ActionSet(own, tuple(_rule(r, place) for r in rules))


def _action(a: Any, place: Mapping[str, int]) -> Action:
    if not isinstance(a, Mapping) or "feature" not in a:
        raise _wrong(
            f"an action is a record with a `feature`, not {a!r}", 'such as { feature: "loans", steps: [-1] }'
        )
    odd = next((k for k in a if k not in FIELDS), None)
    if odd is not None:
        raise _wrong(
            f"an action has no field {odd!r}",
            did_you_mean(odd, FIELDS) or f"one of {', '.join(sorted(FIELDS))}",
        )
    bounds, steps, way = (
        (a.get("low", -np.inf), a.get("high", np.inf)),
        tuple(a.get("steps", ())),
        a.get("way", "both"),
    )
    if way not in WAYS:
        raise _wrong(f"no way {way!r}", f"one of {', '.join(WAYS)}")
    if bounds[0] > bounds[1] or (not steps and not np.isfinite(bounds).all()):
        raise _wrong(f"where can {a['feature']!r} go?", "say `steps`, or `low` and `high`")
    drives = tuple((_place(d.get("feature"), place), float(d.get("by", 1.0))) for d in a.get("drives", ()))
    return Action(_place(a["feature"], place), bounds[0], bounds[1], steps, way, drives)


def _rule(r: Any, place: Mapping[str, int]) -> Rule:
    kind = next(iter(r)) if isinstance(r, Mapping) and len(r) == 1 else ""
    of = tuple(_place(f, place) for f in r[kind]) if kind in RULES else ()
    if len(of) < 2 or (kind == "implies" and len(of) > 2):
        raise _wrong(
            f"this is no rule: {r!r}", 'such as { one_hot: ["rents", "owns"] }, { implies: ["a", "b"] }'
        )
    return Rule(kind, of)


def _place(name: Any, place: Mapping[str, int]) -> int:
    if name not in place:
        raise _wrong(f"no feature {name!r}", did_you_mean(str(name), place) or f"one of {', '.join(place)}")
    return place[name]


def _wrong(why: str, help: str) -> MiError:
    return fail("MI0707", why, help=help, exit_code=4)


def credit_table(n: int, seed: int) -> dict[str, Floats]:
    """Applicants for a loan, made up: who is older, earns more and has few loans pays more often.

    Returns:
        x [row, feature]: age, past_defaults, loans, guarantor, years, income; y [row]: 1 who paid.
    """
    rng = np.random.default_rng(seed)
    age = rng.integers(20, 70, n)
    defaults = rng.poisson(0.8, n)
    loans = rng.integers(0, 5, n)
    guarantor = (rng.random(n) < 0.2).astype(np.int64)
    years = np.minimum(rng.poisson(4.0, n), age - 18)
    income = rng.integers(1, 11, n)
    pays = 0.03 * (age - 45) - 0.9 * defaults - 0.5 * (loans - 2) + 0.7 * guarantor
    pays = pays + 0.15 * (years - 4) + 0.25 * (income - 5.5) + 0.4
    y = rng.random(n) < 1.0 / (1.0 + np.exp(-pays))
    return {"x": np.stack([age, defaults, loans, guarantor, years, income], 1) * 1.0, "y": y * 1.0}
