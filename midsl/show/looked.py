"""A value that somebody asked for: its type, cost and a corner of its numbers; or rows, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from midsl.show.plain import Text
from midsl.show.table import print_table

MOST = 8


def print_value(
    kind: str,
    sizes: Mapping[str, int],
    labels: Mapping[str, Sequence[object]],
    numbers: Any,
    cost: str,
    console: Console,
) -> None:
    """Print a value: its type, each axis with its length, what it took, and a corner of at most 8 x 8.

    Args:
        sizes: of all axes, in order. numbers: numpy, [axes..].
    """
    console.print(Text(kind, style="bold"), soft_wrap=True)
    if sizes:
        console.print(Text(", ".join(f"{a} {n}" for a, n in sizes.items())), soft_wrap=True)
    console.print(Text(cost, style="dim"), soft_wrap=True)
    names = list(sizes)
    if not all(sizes.values()):
        console.print(Text("there is nothing along an axis of length 0"))
        return
    fixed = []
    while numbers.ndim > 2:
        name = names.pop(0)
        fixed.append(f"{name} {_label(labels, name, 0)}")
        numbers = numbers[0]
    if fixed:
        console.print(Text(f"at {', '.join(fixed)}"), soft_wrap=True)
    if numbers.ndim == 0:
        console.print(Text(f"{numbers.item():.6g}"))
        return
    shown = numbers[:MOST] if numbers.ndim == 1 else numbers[:MOST, :MOST]
    if numbers.ndim == 1:
        rows = [[str(_label(labels, names[0], i)), v] for i, v in enumerate(shown.tolist())]
        print_table([names[0], "value"], rows, console, None)
    else:
        columns = [str(_label(labels, names[1], i)) for i in range(shown.shape[1])]
        rows = [[str(_label(labels, names[0], i)), *row] for i, row in enumerate(shown.tolist())]
        print_table([f"{names[0]} \\ {names[1]}", *columns], rows, console, None)
    if shown.size < numbers.size:
        console.print(Text(f"the first {shown.size} of {numbers.size} there", style="dim"))


def print_rows(
    side: str,
    tokens: Sequence[Sequence[str]],
    named: Sequence[Mapping[str, str]],
    console: Console,
    limit: int = 5,
) -> None:
    """Print rows of data: each position with its token, and the names that columns give to positions.

    Args:
        tokens: of each row, as text. named: of each row, what columns say of it, by column.
    """
    for i, (row, says) in enumerate(zip(tokens[:limit], named, strict=False)):
        title = f"{side} {i}" if side else f"row {i}"
        console.print(Text(title, style="bold"))
        console.print(Text(" ".join(f"{at}:{token!r}" for at, token in enumerate(row))), soft_wrap=True)
        console.print(Text("  ".join(f"{k} {v}" for k, v in says.items()), style="dim"), soft_wrap=True)
    if len(tokens) > limit:
        console.print(Text(f"... {len(tokens) - limit} more of {len(tokens)} rows", style="dim"))


def _label(labels: Mapping[str, Sequence[object]], name: str, i: int) -> object:
    found = labels.get(name)
    return found[i] if found else i
