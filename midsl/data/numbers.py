"""Columns of numbers from files, for what needs no model (`read_table` of `std.tables`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from midsl.data.records import read_records
from midsl.diagnostics.model import fail

Floats = NDArray[np.float64]
WORDS = {"true": 1.0, "false": 0.0}


def read_table(path: str, columns: Sequence[str], n: int) -> Floats:
    """These columns of a .csv (with a header), .jsonl or .parquet file [row, feature]; true is 1, false 0.

    n: how many rows from the first on; 0 takes all.

    Raises:
        MiError: MI0707 for a column that is not there, or a cell that is no number.
    """
    found = []
    for at, row in enumerate(read_records(path, n)):
        missing = next((c for c in columns if c not in row), None)
        if missing is not None:
            raise fail("MI0707", f"no column {missing!r}", help=f"it has {', '.join(row)}", exit_code=4)
        found.append([_number(row[c], c, at) for c in columns])
    return np.array(found, np.float64)


def _number(cell: object, column: str, row: int) -> float:
    word = str(cell).strip().lower()
    try:
        return WORDS[word] if word in WORDS else float(word)
    except ValueError:
        why = f"row {row} of {column!r} is no number: {cell!r}"
        raise fail(
            "MI0707", why, help="leave the row out of the file, or choose other columns", exit_code=4
        ) from None
