"""Progress of long work: a bar on stderr where that is a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int, str], None]


@contextmanager
def progress(what: str, total: int, tokens: int = 0) -> Iterator[Advance]:
    """Yield a function ``advance(n, note)``; with `tokens` for each of `total`, their speed is shown."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class _Speed(ProgressColumn):
        """Tokens per second, from the speed of what is counted."""

        def __init__(self, each: int) -> None:
            super().__init__()
            self.each = each

        def render(self, task: Task) -> Text:
            return Text(speed(task.speed, self.each))

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        *([_Speed(tokens)] if tokens else []),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(n: int, note: str) -> None:
            bar.update(task, advance=n, note=note)

        yield advance


def speed(each_second: float | None, tokens: int) -> str:
    """Tokens per second, of things that have so many each.

    >>> speed(10.0, 25), speed(None, 25)
    ('250 tokens/s', '')
    """
    return "" if each_second is None else f"{each_second * tokens:,.0f} tokens/s"


def _silent(n: int, note: str) -> None:
    """Progress that nobody watches."""
