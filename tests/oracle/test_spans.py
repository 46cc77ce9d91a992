"""Stretches of rows: bounds, positions, what results call them."""

import numpy as np
import pytest

from midsl.data.dataset import Column, Part
from midsl.data.spans import range_text, span_bounds, span_coordinates, span_positions

PART = Part(
    np.zeros((3, 6), np.int64),
    np.array([5, 1, 3]),
    {
        "subject": Column("span", np.array([[1, 3], [0, 1], [2, 9]])),
        "end": Column("pos", np.array([4, 0, 2])),
    },
)


@pytest.mark.parametrize(
    ("span", "lo", "hi"),
    [
        ("", [0, 0, 0], [5, 1, 3]),
        ("predicted", [0, 0, 0], [4, 0, 2]),
        ("1..", [1, 1, 1], [5, 1, 3]),
        ("..-1", [0, 0, 0], [4, 0, 2]),
        ("-2..", [3, 0, 1], [5, 1, 3]),
        ("2..4", [2, 1, 2], [4, 1, 3]),
        ("3..-2", [3, 1, 3], [3, 1, 3]),
        ("subject", [1, 0, 2], [3, 1, 3]),
    ],
)
def test_bounds(span: str, lo: list[int], hi: list[int]) -> None:
    found = span_bounds(PART, span)
    assert found[0].tolist() == lo
    assert found[1].tolist() == hi
    at, real = span_positions(PART, span)
    for i in range(3):
        assert at[i][real[i]].tolist() == list(range(lo[i], hi[i]))


def test_whole_rows_are_as_wide_as_the_table() -> None:
    assert span_positions(PART, "")[0].shape == (3, 6)
    assert span_positions(PART, "predicted")[0].shape == (3, 4)


def test_steps_and_lists() -> None:
    at, real = span_positions(PART, "1.. by 2")
    assert [at[i][real[i]].tolist() for i in range(3)] == [[1, 3], [], [1]]
    at, real = span_positions(PART, "[0, 3, -1]")
    assert [at[i][real[i]].tolist() for i in range(3)] == [[0, 3, 4], [0, 0], [0, 2]]
    assert span_positions(PART, "(2,)")[1][:, 0].tolist() == [True, False, True]


def test_names_of_ranges_lead_back_to_them() -> None:
    for lo, hi, step in [(None, None, 1), (None, -1, 1), (2, None, 1), (-3, -1, 1), (0, 5, 2), (1, 4, 1)]:
        at, real = span_positions(PART, range_text(lo, hi, step))
        for i, n in enumerate(PART.lengths):
            assert at[i][real[i]].tolist() == list(range(n))[lo:hi:step]


def test_coordinates() -> None:
    assert span_coordinates(PART, "2..").tolist() == [2, 3, 4]
    assert span_coordinates(PART, "1.. by 2").tolist() == [1, 3]
    assert span_coordinates(PART, "").tolist() == [0, 1, 2, 3, 4, 5]
    assert span_coordinates(PART, "subject").tolist() == [0, 1]  # starts elsewhere in each row


def test_unknown() -> None:
    for name in ("end", "nothing"):
        with pytest.raises(ValueError, match="no stretch"):
            span_bounds(PART, name)
