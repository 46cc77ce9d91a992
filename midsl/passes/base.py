"""What a pass is: a function from program to program that says what it did.

A pass never changes what a program means (the oracle decides), only how it will be computed. It
counts its hits, and says which rewrites it held back and why (vetoes). Facts that a pass may use
(sizes, data lengths) come through `Facts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from midsl.ir.program import Program
from midsl.sema.facts import Facts


@dataclass
class Outcome:
    """What one pass did: hits, a line that says so, and its vetoes with reasons."""

    name: str
    hits: int = 0
    said: str = ""
    vetoes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Schedule:
    """How runs are grouped and stacked, as the passes that bear these names decide."""

    fuse: bool = False
    batch: bool = False
    cones: bool = False
    board: bool = False
    rows: bool = False
    dead: bool = False
    tidy: bool = False
    stage: bool = False
    chunk: bool = False
    late: bool = False
    compile: bool = False
    reuse: bool = False


PassFn = Callable[[Program, Facts, Outcome], Program]
"""Rewrites the program, and fills in the outcome."""
