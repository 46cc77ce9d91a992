"""What `midsl diff` prints: what changed from one run to another."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from midsl.show.plain import Text
from midsl.show.table import number, print_table
from midsl.store.compare import Comparison, TableChange

LONG = 60


def print_comparison(c: Comparison, console: Console) -> None:
    """Print two runs side by side; what is the same in both is not printed."""
    console.print(Text(f"a: {c.a}\nb: {c.b}"), soft_wrap=True)
    if c.spec:
        console.print(Text("\nspec", style="bold"))
        for line in c.spec:
            style = {"-": "red", "+": "green"}.get(line[:1], "dim")
            console.print(Text(line, style=style), soft_wrap=True)
    for title, changes in (("changed", c.changes), ("expects", c.checks)):
        if changes:
            console.print(Text(f"\n{title}", style="bold"))
            print_table(
                ["what", "a", "b"], [(x.what, _short(x.a), _short(x.b)) for x in changes], console, None
            )
    for table in c.tables:
        _print_table(table, console)
    for name, titles in (("a", c.only_a), ("b", c.only_b)):
        for title in titles:
            console.print(Text(f"\n{title}: only in {name}"), soft_wrap=True)
    if c.same_results:
        console.print(Text("\nall results are the same", style="green"))


def _print_table(t: TableChange, console: Console) -> None:
    console.print()
    if t.apart:
        console.print(Text(f"{t.title}: {t.apart}"), soft_wrap=True)
        return
    words = [f"{t.both} rows in both"]
    words += [f"{count} only in {name}" for name, count in (("a", t.only_a), ("b", t.only_b)) if count]
    words.append(f"{t.differ} differ" if t.differ else "all values equal")
    if t.largest is not None:
        words.append(f"by at most {number(t.largest)}")
    console.print(Text(f"{t.title}: {', '.join(words)}", style="bold"), soft_wrap=True)
    if t.rows:
        print_table(t.columns, t.rows, console, None)


def _short(value: Any) -> str | None:
    text = None if value is None else str(value)
    return text if text is None or len(text) <= LONG else text[: LONG - 3] + "..."
