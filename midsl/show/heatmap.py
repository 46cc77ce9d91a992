"""A report as a grid of coloured cells in a terminal; as numbers or digits where there is no colour.

The scale is symmetric around 0 and the same for all grids of one report, so that a colour means one
value. A grid that does not fit the width is first drawn without its numbers, then in bands one
below the other, then with several points to a cell (the largest by size of each); the legend says
which of these it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.style import Style

from midsl.diagnostics.model import fail
from midsl.show.plain import Text
from midsl.show.table import number
from midsl.store.rows import Key, ResultTable

NEGATIVE, ZERO, POSITIVE = (33, 102, 172), (247, 247, 247), (178, 24, 43)
MAX_GRIDS, MAX_LINES = 6, 60


@dataclass(frozen=True, eq=False)
class Grid:
    """Values on two axes, float64 [y, x]; `title` fixes the report's other keys."""

    title: str
    x_labels: list[str]
    y_labels: list[str]
    values: NDArray[np.float64]


def pick_axes(table: ResultTable, x: str | None = None, y: str | None = None) -> tuple[str, str | None]:
    """Return the two keys a heatmap of a report goes along: those asked for, else the first two.

    Raises:
        MI0205: the report has no such key, or none at all.
    """
    keys = list(table.keys)
    for axis in (x, y):
        if axis is not None and axis not in keys:
            has = ", ".join(keys) or "none"
            raise fail("MI0205", f"`{table.title}` has no key `{axis}`", help=f"its keys are: {has}")
    if not keys:
        raise fail(
            "MI0205",
            f"`{table.title}` is a single value: it has no axis to draw",
            help="ask for it with `midsl sql`, or show a report with key columns",
        )
    left = [k for k in keys if k not in (x, y)]
    if y is None and len(keys) > 1:
        y = left.pop(0)
    return x if x is not None else left.pop(0), y


def grids(table: ResultTable, x: str, y: str | None) -> list[Grid]:
    """Split a report into one grid per combination of the keys that are neither x nor y."""
    others = [k for k in table.keys if k not in (x, y)]
    xs, x_at = _positions(table.keys[x])
    ys, y_at = _positions(table.keys[y]) if y is not None else ([""], [0] * len(table))
    facets: dict[tuple[Key, ...], NDArray[np.float64]] = {}
    for i, value in enumerate(table.value):
        facet = tuple(table.keys[k][i] for k in others)
        if facet not in facets:
            facets[facet] = np.full((len(ys), len(xs)), np.nan)
        facets[facet][y_at[i], x_at[i]] = value
    return [
        Grid(", ".join(f"{k} = {v}" for k, v in zip(others, facet, strict=True)), xs, ys, values)
        for facet, values in facets.items()
    ]


def _positions(keys: Sequence[Key]) -> tuple[list[str], list[int]]:
    """Labels along an axis, numbers ascending and anything else as it comes; and each row's index."""
    labels = list(dict.fromkeys(keys))
    if all(isinstance(k, (int, float)) for k in labels):
        labels.sort()
    index = {label: i for i, label in enumerate(labels)}
    return [f"{k:g}" if isinstance(k, float) else str(k) for k in labels], [index[k] for k in keys]


def print_heatmap(
    table: ResultTable, console: Console, x: str | None = None, y: str | None = None, see_all: str = ""
) -> None:
    """Print a report as one grid per combination of its keys other than x and y.

    Args:
        see_all: what shows the grids that are left out (a command), if there are too many.

    Raises:
        MI0205: the report has no such key, or none at all.
    """
    x, y = pick_axes(table, x, y)
    finite = np.abs(table.value[np.isfinite(table.value)])
    top = float(finite.max()) if finite.size else 0.0
    all_grids = grids(table, x, y)
    notes: list[str] = []
    for grid in all_grids[:MAX_GRIDS]:
        if grid.title:
            console.print(Text(grid.title, style="italic"))
        notes = _print_grid(grid, x, y or "", top, console)
    _print_legend(table, top, notes, console)
    if len(all_grids) > MAX_GRIDS:
        rest = f"... {len(all_grids) - MAX_GRIDS} more of {len(all_grids)} grids"
        console.print(Text(rest + (f"; all rows: {see_all}" if see_all else ""), style="dim"), soft_wrap=True)


def has_colour(console: Console) -> bool:
    """Whether colours reach the eye: a terminal that has them, and NO_COLOR not set."""
    return console.color_system is not None and not console.no_color


def _print_grid(grid: Grid, x: str, y: str, top: float, console: Console) -> list[str]:
    """Print one grid; return what the legend has to say about its cells."""
    colour = has_colour(console)
    width = console.width - max(len(y), *(len(label) for label in grid.y_labels)) - 2
    texts, scale = _numbers(grid.values, top)
    cell = max(max((len(t) for t in texts.flat), default=1), *(len(label) for label in grid.x_labels)) + 1
    if cell * len(grid.x_labels) <= width and len(grid.y_labels) <= MAX_LINES:
        _print_band(grid, texts, cell, x, y, top, console)
        return [scale] if scale else []
    rows = min(len(grid.y_labels), MAX_LINES - 2)
    bands = max(1, MAX_LINES // (rows + 2))
    step = max(1, width // 2)
    per_cell = (math.ceil(len(grid.y_labels) / rows), math.ceil(len(grid.x_labels) / (step * bands)))
    notes = [] if colour else ["digits are tenths of the largest, · is under one tenth, blank has no value"]
    if per_cell != (1, 1):
        grid = _binned(grid, *per_cell)
        notes.append(f"a cell is the largest by size of {per_cell[1]} {x} x {per_cell[0]} {y or 'row'}")
    for start in range(0, len(grid.x_labels), step):
        part = slice(start, start + step)
        band = Grid("", grid.x_labels[part], grid.y_labels, grid.values[:, part])
        _print_band(band, _digits(band.values, top, colour), 2, x, y, top, console)
    return notes


def _binned(grid: Grid, by_y: int, by_x: int) -> Grid:
    """Take `by_y` x `by_x` points together: the one that is largest by size, sign kept."""
    rows, columns = math.ceil(len(grid.y_labels) / by_y), math.ceil(len(grid.x_labels) / by_x)
    out = np.full((rows, columns), np.nan)
    for r in range(rows):
        for c in range(columns):
            block = grid.values[r * by_y : (r + 1) * by_y, c * by_x : (c + 1) * by_x].ravel()
            block = block[~np.isnan(block)]
            if block.size:
                out[r, c] = block[np.argmax(np.abs(block))]
    return Grid(grid.title, grid.x_labels[::by_x], grid.y_labels[::by_y], out)


def _numbers(values: NDArray[np.float64], top: float) -> tuple[NDArray[np.str_], str]:
    """Texts of the cells, [y, x], and what they are to be multiplied by, if anything."""
    exponent = 0 if top == 0 or 0.01 <= top < 1000 else math.floor(math.log10(top))
    shown = top * 10.0**-exponent
    decimals = 2 if shown < 10 else 1 if shown < 100 else 0
    factor = 10.0**-exponent
    texts = np.vectorize(lambda v: "" if np.isnan(v) else f"{v * factor:.{decimals}f}", otypes=[object])
    zero = f"{0:.{decimals}f}"
    out = np.asarray(texts(values), dtype=object)
    out[out == f"-{zero}"] = zero
    return out.astype(str), f"numbers are times 1e{exponent}" if exponent else ""


def _digits(values: NDArray[np.float64], top: float, colour: bool) -> NDArray[np.str_]:
    """Two characters a cell, [y, x]: sign and tenths of the largest; nothing where colour says it."""

    def one(v: float) -> str:
        if colour or np.isnan(v):
            return ""
        tenth = min(9, int(10 * min(abs(v), top) / top)) if top else 0
        return "·" if tenth == 0 else f"{'-' if v < 0 else ''}{tenth}"

    return np.asarray(np.vectorize(one, otypes=[object])(values), dtype=object).astype(str)


def _print_band(
    grid: Grid, texts: NDArray[np.str_], cell: int, x: str, y: str, top: float, console: Console
) -> None:
    margin = max(len(y), *(len(label) for label in grid.y_labels)) + 1
    console.print(Text(" " * margin + x, style="dim"))
    console.print(Text(f"{y:>{margin - 1}} " + _header(grid.x_labels, cell), style="dim"), no_wrap=True)
    dot = "·" if console.encoding.startswith("utf") else "."
    for r, label in enumerate(grid.y_labels):
        line = Text(f"{label:>{margin - 1}} ", style="dim")
        for c in range(len(grid.x_labels)):
            style = _style(grid.values[r, c], top) if has_colour(console) else Style()
            line.append(f"{texts[r, c]:>{cell}}".replace("·", dot), style=style)
        console.print(line, no_wrap=True)


def _header(labels: list[str], cell: int) -> str:
    """Labels over their cells, right-aligned; those without room are left out."""
    line = ""
    for c, label in enumerate(labels):
        start = (c + 1) * cell - len(label)
        if start > len(line) or (start == len(line) and not line):
            line = line.ljust(start) + label
    return line


def _style(value: float, top: float) -> Style:
    """The cell's colours: background by value, text black or white by the background's brightness."""
    if np.isnan(value):
        return Style()
    share = max(-1.0, min(1.0, value / top)) if top else 0.0
    end = POSITIVE if share > 0 else NEGATIVE
    r, g, b = (round(z + abs(share) * (e - z)) for z, e in zip(ZERO, end, strict=True))
    dark = 0.299 * r + 0.587 * g + 0.114 * b < 140
    return Style(color="rgb(255,255,255)" if dark else "rgb(0,0,0)", bgcolor=f"rgb({r},{g},{b})")


def _print_legend(table: ResultTable, top: float, notes: list[str], console: Console) -> None:
    unit = f" {table.unit}" if table.unit else ""
    line = Text("")
    if has_colour(console):
        line.append(f"{number(-top)} ", style="dim")
        for i in range(-5, 6):
            line.append("  ", style=_style(i / 5 * top, top))
        line.append(f" {number(top)}{unit}", style="dim")
    else:
        line.append(f"largest |value|: {number(top)}{unit}", style="dim")
    for note in notes:
        shown = note if console.encoding.startswith("utf") else note.replace("·", ".")
        line.append(f"; {shown}", style="dim")
    console.print(line, soft_wrap=True)
