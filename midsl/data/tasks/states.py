"""States: rows of numbers, for models that go from one state to the next. A row has one token, which means
nothing, so that rows of states are rows as all others are: split, chosen, counted and hashed alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from midsl.data.build import dataset_fingerprint, make_splits, need
from midsl.data.dataset import Column, Dataset, Part
from midsl.data.draw import Draws

Floats = NDArray[np.float64]


def states(
    state: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]] = (),
    label: Sequence[str] = (),
    number: Sequence[float] = (),
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Make a data set of states that are written down.

    Args:
        state: rows of equally many numbers.
        after: for each row the state that comes next; [] for none.
        label, number: for each row; [] for none.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        One side, with a column for each of these that is given.

    Raises:
        MiError: MI0511 if the lists are of unequal length, or hold anything but numbers.
    """
    columns = {"state": Column("state", _matrix("state", state))}
    if after:
        columns["after"] = Column("state", _matrix("after", after))
        wide = columns["after"].values.shape[1], columns["state"].values.shape[1]  # type: ignore[union-attr]
        need(
            wide[0] == wide[1],
            f"`after` has {wide[0]} numbers a row, `state` {wide[1]}",
            "one state, one shape",
        )
    if label:
        columns["label"] = Column("label", [str(x) for x in label])
    if number:
        columns["number"] = Column("number", np.array([float(x) for x in number]))
    for name, column in columns.items():
        n, rows = len(column.values), len(state)
        need(n == rows, f"`{name}` has {n} rows, `state` {rows}", "give one for each row")
    return _dataset(columns, split, seed)


def linear_states(
    matrix: Sequence[Sequence[float]],
    n: int = 64,
    noise: float = 0.0,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Draw states from the standard normal distribution, and say what a linear system makes of each.

    Args:
        matrix: square; `after` is the matrix times `state`.
        noise: the deviation of what is added to `after`.
        split: name to fraction of the rows; `seed` deals them, and draws.

    Returns:
        One side, columns `state` and `after`.

    Raises:
        MiError: MI0511 for no row, a matrix that is not square, or a deviation below 0.
    """
    a = _matrix("matrix", matrix)
    need(a.shape[0] == a.shape[1], f"the matrix is {a.shape[0]} by {a.shape[1]}", "take a square one")
    need(n > 0, f"n is {n}", "draw at least one row")
    need(noise >= 0, f"noise is {noise}", "0 for none")
    draws = Draws(seed, "linear_states")
    state = _normal(draws, n, len(a))
    after = state @ a.T + noise * _normal(draws, n, len(a))
    return _dataset({"state": Column("state", state), "after": Column("state", after)}, split, seed)


def _normal(draws: Draws, n: int, width: int) -> Floats:
    """Normal numbers [n, width], by Box and Muller from pairs of uniform ones."""
    pairs = np.array([[draws.below(1 << 53) / (1 << 53) for _ in range(2)] for _ in range(n * width)])
    made = np.sqrt(-2 * np.log(1 - pairs[:, 0])) * np.cos(2 * math.pi * pairs[:, 1])
    return np.asarray(made.reshape(n, width), np.float64)


def _matrix(name: str, rows: Sequence[Sequence[float]]) -> Floats:
    """Rows of numbers as they are written [rows, columns] (MI0511)."""
    need(len(rows) > 0, f"`{name}` has no row", "give at least one")
    alike = all(isinstance(r, (list, tuple)) and len(r) == len(rows[0]) > 0 for r in rows)
    need(alike, f"`{name}` is no list of rows of equally many numbers", "such as `[[1.0, 0.0], [0.0, 1.0]]`")
    numbers = all(type(x) in (int, float) and math.isfinite(x) for r in rows for x in r)
    need(numbers, f"`{name}` has something that is no number", "states are made of numbers alone")
    return np.array(rows, np.float64)


def _dataset(columns: dict[str, Column], split: Mapping[str, float] | None, seed: int) -> Dataset:
    rows = len(columns["state"].values)
    one = np.zeros(rows, np.int64)
    ends = {"start": Column("pos", one), "end": Column("pos", one)}
    part = Part(np.zeros((rows, 1), np.int64), np.ones(rows, np.int64), {**ends, **columns})
    sides = {"": part}
    splits = make_splits(rows, split or {}, seed, taken={*part.columns, ""})
    return Dataset(sides, splits, rows, (), "synthetic", dataset_fingerprint(sides, splits))
