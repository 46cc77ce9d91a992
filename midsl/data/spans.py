"""Stretches of a row by name: where they start and end in each row of a data set.

The `pos` axis of a value covers one stretch per row. Its name says which: "" the whole row,
"predicted" every position that has a next token, ``"2..-1"`` a range, ``"[0, 3]"`` a list of
positions, else a Span column. Oracle and executor both ask here, so that they cannot differ. A
position is always a coordinate of the row, 0 for its first token; negative ones count from its end.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from midsl.data.dataset import Ints, Part
from midsl.data.ranges import range_text as range_text

_RANGE = re.compile(r"\s*(-?\d+)?\s*\.\.\s*(-?\d+)?\s*(?:by\s+(\d+)\s*)?$")
_LIST = re.compile(r"\s*[\[(]\s*(-?\d+(?:\s*,\s*-?\d+)*)\s*,?\s*[\])]\s*$")


def span_bounds(part: Part, span: str) -> tuple[Ints, Ints]:
    """Return the first position of a stretch in each row, and the one past its last.

    Ends beyond a row are moved to its ends; an empty stretch has ``lo == hi``. A range with a step
    gives the bounds of the range.

    Shapes: two int64 [batch].

    Raises:
        ValueError: a list (it has no bounds), or a name that is no Span column of the part.
    """
    lengths = np.asarray(part.lengths, np.int64)
    zero = np.zeros_like(lengths)
    if span == "":
        return zero, lengths
    if span == "predicted":
        return zero, np.maximum(lengths - 1, 0)
    found = _RANGE.match(span)
    if found:
        ends = [None if g is None else int(g) for g in found.groups()[:2]]
        lo = zero if ends[0] is None else _in_row(ends[0], lengths)
        hi = lengths if ends[1] is None else _in_row(ends[1], lengths)
        return lo, np.maximum(lo, hi)
    column = part.columns.get(span)
    if column is None or column.kind != "span":
        raise ValueError(f"{span!r} is no stretch of these rows")
    values = np.asarray(column.values, np.int64)
    lo = np.clip(values[:, 0], 0, lengths)
    return lo, np.clip(values[:, 1], lo, lengths)


def span_positions(part: Part, span: str) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the row positions that a stretch covers, and which of them are real.

    The width is that of the widest row, and of the token table for the whole row. Where nothing is
    real the position is meaningless.

    Shapes: int64 [batch, width], bool [batch, width].

    Raises:
        ValueError: as `span_bounds`.
    """
    listed = _LIST.match(span)
    if listed:
        lengths = np.asarray(part.lengths, np.int64)[:, None]
        wanted = np.array([int(i) for i in listed.group(1).split(",")], np.int64)[None, :]
        at = np.where(wanted < 0, wanted + lengths, wanted)
        return at, (at >= 0) & (at < lengths)
    lo, hi = span_bounds(part, span)
    step = span_step(span)
    counts = -(-(hi - lo) // step)
    width = part.tokens.shape[1] if span == "" else int(counts.max(initial=0))
    i = np.arange(width, dtype=np.int64)
    return lo[:, None] + step * i[None, :], i[None, :] < counts[:, None]


def span_step(span: str) -> int:
    """Return the step of a stretch: 1 except for a range ``by`` something."""
    found = _RANGE.match(span)
    return int(found.group(3)) if found and found.group(3) else 1


def span_coordinates(part: Part, span: str) -> Ints:
    """Return what a result calls each index of a stretch.

    The row position where it is the same in every row (``"2.."`` starts at 2), else the index within
    the stretch (a Span column starts elsewhere in each row).

    Shape: int64 [width].
    """
    at, real = span_positions(part, span)
    width = at.shape[1]
    first = at[real.any(1)] if real.any() else at[:0]
    if len(first) and bool((first == first[:1]).all()):
        return np.asarray(first[0], np.int64)
    return np.arange(width, dtype=np.int64)


def _in_row(end: int, lengths: Ints) -> Ints:
    return np.clip(end if end >= 0 else lengths + end, 0, lengths)
