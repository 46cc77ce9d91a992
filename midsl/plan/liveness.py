"""When kept values may go: after the last step that needs them.

A value is needed by a later run through its edits, its outputs and its scalars, by a choice of points through
the score, and by a sink through what it shows. Other runs' edits are no part of what reads those runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from midsl.ir import nodes as ir
from midsl.plan.steps import ChooseStep, FreeStep, RollStep, RunStep, SinkStep, Step, WeighStep
from midsl.plan.wide import generalise


def with_frees(steps: list[Step]) -> list[Step]:
    """The steps, with a `FreeStep` wherever kept values have been used for the last time."""
    made: dict[str, tuple[int, ir.Node]] = {}
    last: dict[str, int] = {}
    seen: set[str] = set()
    for i in reversed(range(len(steps))):  # whoever comes first from the end is the last to need a value
        for digest in needed(steps[i], seen):
            last.setdefault(digest, i)
    for i, step in enumerate(steps):
        if isinstance(step, RunStep):
            made.update({node.digest: (i, node) for node in (*step.outputs, *step.grads)})
    gone: dict[int, list[ir.Node]] = {}
    for digest, (i, node) in made.items():
        gone.setdefault(max(i, last.get(digest, i)), []).append(node)
    found: list[Step] = []
    for i, step in enumerate(steps):
        found.append(step)
        if i in gone and i + 1 < len(steps):
            found.append(FreeStep(gone[i]))
    return found


def needed(step: Step, seen: set[str]) -> list[str]:
    """Digests of what a step reads, stored or not, without those that are `seen` by now."""
    if isinstance(step, RunStep):
        values = [e.value for e in step.run.edits] + step.outputs + [v for g in step.grads for v in g.values]
    elif isinstance(step, RollStep):
        values = [e.value for e in step.rollout.edits if isinstance(e, ir.Edit)]
    elif isinstance(step, WeighStep):
        values = [w.value for w in step.model.weights]
    elif isinstance(step, ChooseStep):
        values = [step.sweep.domain.score] if isinstance(step.sweep.domain, ir.Top) else []
    else:
        values = [step.sink] if isinstance(step, SinkStep) else []
    also = [c for v in values for c in conditions_of(v)]
    if isinstance(step, RunStep) and step.run.data.where is not None:
        also.append(step.run.data.where)
    return [d for v in (*values, *also) for d in _read(v, seen)]


_CONDITIONS: dict[str, tuple[ir.Node, ...]] = {}


def conditions_of(node: ir.Node) -> tuple[ir.Node, ...]:
    """What says which rows count, of all the data under a node."""

    def gather(n: ir.Node) -> tuple[ir.Node, ...]:
        own = (n.where,) if isinstance(n, ir.Part) and n.where is not None else ()
        below = [c for child in n.children for c in _CONDITIONS[child.digest]]
        return tuple(dict.fromkeys([*below, *own]))

    return ir.fold(node, _CONDITIONS, gather)


def _read(root: ir.Node, seen: set[str]) -> Iterator[str]:
    stack = [root]
    while stack:
        node = stack.pop()
        if node.digest in seen or isinstance(node, (ir.Forward, ir.Sweep, ir.Site, ir.Part)):
            continue
        seen.add(node.digest)
        yield node.digest
        if isinstance(node, (ir.Read, ir.Grad)):  # a read at chosen points is taken of the whole family
            yield generalise(node)[0].digest
        stack.extend(node.children)
