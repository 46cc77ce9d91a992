"""What a warm session keeps of runs: values by what they are made of, within a bound.

A step of which every value is at hand is not run again. A run also leaves what was read of it, from which
other expressions of the same reads are worked out, and the rows that others start from. A value is known by
its node, and by the content of the models and data under it: what changes on disk is made again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from midsl.ir import nodes as ir
from midsl.plan.domains import Table
from midsl.plan.evaluate import Env, NotKept, Stored, pointwise
from midsl.plan.memory import available_bytes
from midsl.plan.rowed import Rowed
from midsl.plan.session import Session
from midsl.plan.steps import RunStep

SHARE = 0.2
"""The share of the memory at hand that may be kept."""
Known = Callable[[ir.Node], str]
"""A key for a node: its digest, and the content of what is under it."""


@dataclass(frozen=True)
class Base:
    """Rows of a run that others start from, by name: which of them are there, and the values."""

    wanted: dict[str, Tensor]
    kept: dict[str, Tensor]

    def covers(self, wanted: dict[str, Tensor]) -> bool:
        """Whether all rows that are wanted are there."""
        return all(
            n in self.wanted and not bool((rows & ~self.wanted[n]).any()) for n, rows in wanted.items()
        )


@dataclass
class Remembered:
    """Values of earlier plans; those that were used longest ago go first.

    Attributes:
        room: bytes that may be kept. steps: how many steps were not run since their values were at hand.
    """

    room: int = field(default_factory=lambda: int(available_bytes() * SHARE))
    steps: int = 0
    _values: OrderedDict[str, Stored | Base] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def recall(self, session: Session, step: RunStep, known: Known) -> bool:
        """Put what a step would leave where it would leave it; False if it must run."""
        rowed = _rowed(session, step)
        if rowed is not None and rowed.wanted and self._starting(session, rowed, known):
            base = self._get(f"base {known(step.run)}")
            if not (isinstance(base, Base) and base.covers(rowed.wanted)):
                return False
        else:
            base = None
        found = self._values_of(session, step, known)
        if found is None:
            return False
        session.evaluator.store.update(found)
        if rowed is not None:
            rowed.kept.update(base.kept if isinstance(base, Base) else {})
            session.done_with(rowed)
        if not step.spare:
            session.ran.add(step.run.digest)
        self.steps += 1
        return True

    def keep(self, session: Session, step: RunStep, read: dict[str, Stored], known: Known) -> None:
        """Take down what a step has left, and what was read for it."""
        store = session.evaluator.store
        nodes = {n.digest: n for n in (*step.outputs, *step.grads, *session.reads(step))}
        for digest, value in {**{d: store[d] for d in nodes if d in store}, **read}.items():
            self._put(known(nodes[digest]), value)
        rowed = _rowed(session, step)
        if rowed is not None and rowed.kept:
            self._put(f"base {known(step.run)}", Base(dict(rowed.wanted), dict(rowed.kept)))

    def reads(self, session: Session, step: RunStep) -> list[ir.Read]:
        """The reads of a step that are kept beside what it leaves, where they are not too large."""
        if step.grads:
            return []
        part = session.bound.part(step.run.data)
        own = [r for r in session.reads(step) if set(ir.sweeps_of(r)) <= set(step.sweeps)]
        return [r for r in own if session.sizing.kept_elements(r, part) * 4 < self.room / 4]

    def forget(self) -> None:
        """Let go of everything."""
        self._values.clear()
        self._bytes = 0

    # -- what is there

    def _has(self, session: Session, step: RunStep, known: Known) -> bool:
        return self._values_of(session, step, known, look=True) is not None

    def _values_of(
        self, session: Session, step: RunStep, known: Known, look: bool = False
    ) -> dict[str, Stored] | None:
        """What a step would leave; with `look`, only whether it is there."""
        found: dict[str, Stored] = {}
        made: list[ir.Node] = []
        for node in (*step.outputs, *step.grads):
            value = self._get(known(node))
            if isinstance(value, Stored):
                found[node.digest] = value
            else:
                made.append(node)
        if not made:
            return found
        reads = {r.digest: self._get(known(r)) for r in session.reads(step)}
        if step.grads or not all(isinstance(v, Stored) for v in reads.values()):
            return None
        if look:
            return found
        store = session.evaluator.store
        before = dict(store)
        store.update({d: v for d, v in reads.items() if isinstance(v, Stored)})
        try:
            for node in made:
                found[node.digest] = _worked_out(session, step, node)
        except NotKept:  # it takes values of other runs that the plan works out inside of this one
            return None
        finally:
            store.clear()
            store.update(before)
        return found

    def _starting(self, session: Session, base: Rowed, known: Known) -> bool:
        """Whether some run that starts from this one must run."""
        for step in session.plan.runs:
            rowed = _rowed(session, step)
            if (
                rowed is not None
                and base in (rowed.base, rowed.source)
                and not self._has(session, step, known)
            ):
                return True
        return False

    def _get(self, key: str) -> Stored | Base | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def _put(self, key: str, value: Stored | Base) -> None:
        old = self._values.pop(key, None)
        self._bytes += _size(value) - (_size(old) if old is not None else 0)
        self._values[key] = value
        while self._bytes > self.room and self._values:
            _, gone = self._values.popitem(last=False)
            self._bytes -= _size(gone)


def _worked_out(session: Session, step: RunStep, node: ir.Node) -> Stored:
    """A value as the step would leave it, from reads that are in the store."""
    sweeps = (*step.sweeps, *(s for s in ir.sweeps_of(node) if s not in step.sweeps))
    if not sweeps:
        return Stored((), session.evaluator.grid(node))
    env = Env(Table.product(sweeps, session.evaluator.domains))
    return Stored(sweeps, pointwise(session.evaluator.eval(node, env, {}), env))


def _rowed(session: Session, step: RunStep) -> Rowed | None:
    return session.by_rows(step.stage).made.get(id(step)) if session.known(step) else None


def _size(value: Stored | Base) -> int:
    tensors = [value.value.data] if isinstance(value, Stored) else list(value.kept.values())
    return sum(t.numel() * t.element_size() for t in tensors)
