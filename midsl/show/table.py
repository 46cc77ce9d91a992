"""Tables in a terminal: compact, numbers lined up on the point, never cut without saying so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from midsl.show.plain import Text

NULL = "-"


def number(value: float, digits: int = 4) -> str:
    """Return a float with about `digits` significant digits.

    >>> number(0.123456), number(-1234567.0), number(2.0)
    ('0.1235', '-1.235e+06', '2')
    """
    return f"{value:.{digits}g}"


def is_number(value: object) -> bool:
    """Whether a value is shown as a number (truth values are not)."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))


def column_text(values: Sequence[Any]) -> list[str]:
    """Return the texts of one column.

    Floats of one column share their number of decimals, chosen so that the largest has four
    significant digits; one that would then read as zero without being zero keeps its own digits.

    >>> column_text([0.5, -0.123456, None, 0.0000123])
    ['0.5000', '-0.1235', '-', '1.23e-05']
    >>> column_text([1, 20, None])
    ['1', '20', '-']
    """
    floats = [float(v) for v in values if isinstance(v, (float, np.floating)) and math.isfinite(v)]
    top = max((abs(v) for v in floats), default=0.0)
    decimals = min(6, max(0, 3 - math.floor(math.log10(top)))) if top > 0 else 1
    plain = 1e-3 <= top < 1e6 or top == 0

    def one(value: Any) -> str:
        if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
            return NULL
        if not isinstance(value, (float, np.floating)) or not math.isfinite(value):
            return str(value)
        fixed = f"{value:.{decimals}f}"
        if not plain or (value != 0 and float(fixed) == 0):
            return number(float(value), 4 if not plain else 3)
        return fixed

    return [one(v) for v in values]


def make_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Return rows as a rich table, one line per row; numbers stand right, everything else left."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    texts = []
    for i, name in enumerate(columns):
        values = [row[i] for row in rows]
        numeric = bool(values) and all(v is None or is_number(v) for v in values)
        table.add_column(Text(name), justify="right" if numeric else "left", no_wrap=True)
        texts.append([t.replace("\n", "\\n") for t in column_text(values)])
    for line in zip(*texts, strict=True):
        table.add_row(*(Text(t) for t in line))
    return table


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    console: Console,
    limit: int | None = 40,
    see_all: str = "",
) -> None:
    """Print rows as a table, at most `limit` of them, with a line that says how many more there are.

    Args:
        limit: None prints every row.
        see_all: what shows the rest (a command), named in that line.
    """
    shown = rows if limit is None else rows[:limit]
    table = make_table(columns, shown)
    if console.is_terminal:
        console.print(table)
    else:  # into a file or a pipe no column is cut for the sake of a width that nobody looks at
        wide = Measurement.get(console, console.options.update(width=100_000), table).maximum
        before, console.width = console.width, max(wide, console.width)
        console.print(table)
        console.width = before
    if len(shown) < len(rows):
        rest = f"... {len(rows) - len(shown)} more of {len(rows)} rows"
        rest += f"; all of them: {see_all}" if see_all else ""
        console.print(Text(rest, style="dim"), soft_wrap=True)
