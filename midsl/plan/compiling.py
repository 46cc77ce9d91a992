"""Which segments are worth compiling: a rule over what a plan will do, and what compiling costs here.

An operation on rows takes as long as its memory does. A compiled segment reads its inputs and writes its
outputs once; run node by node, everything in between is written and read as well. The difference, over all
rows of all runs that have the segment, is what compiling saves; it costs some seconds, fewer where this
machine has compiled the same segment before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from midsl.backends.compiled import Segment, compiled_before, one_set
from midsl.plan.rowed import Rowed
from midsl.plan.speed import bytes_per_second

FIRST, NEXT, AGAIN = 12.0, 3.0, 0.7
"""Seconds that a process takes for its first segment, each further one, and one that it has on disk."""
SLOWEST = 1e9
"""Bytes a second that any machine does: what saves too few for that is not weighed any further."""


@dataclass
class Class:
    """Segments that are one function, and what they do in a plan.

    Attributes:
        segment: one of them.
        members: how many there are in the graphs of the plan's runs.
        rows: rows that go through them, all in all.
        saved: bytes that need not be written and read.
    """

    segment: Segment
    members: int = 0
    rows: int = 0
    saved: int = 0
    before: bool = False

    @property
    def seconds(self) -> float:
        """Seconds that compiling them is thought to save."""
        return self.saved / bytes_per_second()

    @property
    def cost(self) -> float:
        """Seconds that compiling takes, if another one is compiled already."""
        return AGAIN if self.before else NEXT


def classes_of(runs: Iterable[Rowed]) -> dict[str, Class]:
    """The segments of runs by rows, by what function they are."""
    found: dict[str, Class] = {}
    for run in runs:
        active = run.plan.active
        for segment in run.runner.segments(run.keep):
            mask = one_set(segment.nodes, active)
            if mask is None:
                continue
            known = found.setdefault(segment.key, Class(segment, before=compiled_before(segment.key)))
            rows = int(mask.sum())
            known.members += 1
            known.rows += rows
            known.saved += rows * _saved(run, segment)
    return found


def _saved(run: Rowed, segment: Segment) -> int:
    """Bytes for one row that are written and read again between the nodes of a segment."""
    inside, kept = set(segment.nodes), set(segment.outputs)
    total = 0
    for node in segment.nodes:
        size = run.runner.bytes(node)
        readers = sum(u in inside for u in node.users)
        total += size * readers + (0 if node in kept else size)
    return total


def worth(classes: dict[str, Class]) -> set[str]:
    """The keys that pay for themselves, the first one's greater cost included."""
    paying = {k: c for k, c in classes.items() if c.saved > SLOWEST * c.cost and c.seconds > c.cost}
    if not paying:
        return set()
    start = 0.0 if any(c.before for c in paying.values()) else FIRST - NEXT
    gain = sum(c.seconds - c.cost for c in paying.values())
    return set(paying) if gain > start else set()
