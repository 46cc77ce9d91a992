"""What `midsl test` prints: a line for each test; for one that fails, what it claimed and what was seen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from midsl.show.plain import Text
from midsl.store.rows import CheckRow


def print_test(title: str, checks: Sequence[CheckRow], differs: Sequence[str], console: Console) -> None:
    """Print one test; `differs` names what is not as the oracle has it."""
    good, bad = ("✓", "✗") if console.encoding.startswith("utf") else ("ok", "FAILED")
    failed = [c for c in checks if not c.passed]
    passed = not failed and not differs
    line = Text(f"  {good if passed else bad} ", style="green" if passed else "bold red")
    console.print(line.append(title, style="default"), soft_wrap=True)
    for c in failed:
        seen = f"  ({c.observed})" if c.observed else ""
        said = f": {c.message}" if c.message else ""
        console.print(Text(f"      line {c.line}{said}\n      expect {c.text}{seen}"), soft_wrap=True)
    for name in differs:
        console.print(Text(f"      the plan and the oracle differ in {name}"), soft_wrap=True)
