"""How large values will be, before they are there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from midsl.data.dataset import Part
from midsl.graph.hooks import HookModel
from midsl.ir import nodes as ir
from midsl.ir.crossing import streams
from midsl.ir.types import TensorType
from midsl.plan.bound import Bound
from midsl.plan.evaluate import Evaluator
from midsl.plan.hooked import fitting
from midsl.plan.keys import axes_of, keys_of
from midsl.plan.steps import RunStep

MOST_BYTES = 24_000_000
"""Bytes of what is looked through at once for where units are largest, told by float32: memory of up to 32 MB
is used again, and what is larger is fetched anew from the system by each operation."""


@dataclass
class Sizing:
    """Sizes of sweeps, axes and kept values."""

    bound: Bound
    evaluator: Evaluator

    def points_of(self, sweep: ir.Sweep) -> int:
        """The number of points a sweep has or will have."""
        if self.evaluator.domains.known(sweep):
            return self.evaluator.domains.size(sweep)
        assert isinstance(sweep.domain, ir.Top)
        score, first = sweep.domain.score, sweep.domain.first
        places = ranked = 1
        for a in score.tensor_type.axes:
            size = a.size if a.size is not None else self.axis_size(score, a.name)
            places, ranked = (places * size, ranked) if a.name in first else (places, ranked * size)
        return places * (ranked if sweep.domain.k is None else min(sweep.domain.k, ranked))

    def axis_size(self, node: ir.Node, name: str) -> int:
        """The size of an axis, from the sweeps and the models under a node."""
        for n in ir.walk(node):
            if isinstance(n, ir.Sweep) and self.evaluator.domains.known(n):
                names, sizes = self.evaluator.domains.grid(n)
                if name in names:
                    return sizes[names.index(name)]
            if isinstance(n, ir.Read) and n.type.axis(name) is not None:  # type: ignore[union-attr]
                engine = self.bound.engine(n.run.model)
                size = engine.info.sizes.get(name)
                if size is None and isinstance(engine, HookModel):
                    size = self._probe(engine, n).get(name)
                if size is not None:
                    return size
            if isinstance(n, ir.Param):
                own = n.tensor_type.axis(name)
                if own is not None and own.size is not None:
                    return own.size
        raise AssertionError(f"the size of `{name}` is not known")

    def kept_elements(self, node: ir.Node, part: Part) -> int:
        """The number of elements of a kept value."""
        n = 1
        swept = ir.sweeps_of(node)
        for s in swept:
            n *= self.points_of(s)
        gone = {(a.name, a.owner) for s in swept for a in s.axes}
        varies = axes_held(node)
        for a in node.tensor_type.axes:
            if (a.name, a.owner) in gone or a.name not in varies:
                continue
            if a.name == "batch":
                n *= len(part)
            elif a.name in ("pos", "key_pos") and a.owner in self.evaluator.rows.owners:
                n *= self.evaluator.rows.stretch(a.owner, a.span)[0].size("pos")
            else:
                n *= a.size if a.size is not None else self.axis_size(node, a.name)
        return n

    def looked_at(self, step: RunStep, length: int) -> int:
        """How many rows are looked through at once for where units are largest; 0: there is no need to."""
        widest = 0
        for node in step.outputs:
            if streams(node):
                swept = {a.name for s in ir.sweeps_of(node) for a in s.axes}
                (value,) = node.args
                widest = max(
                    widest,
                    math.prod(
                        a.size if a.size is not None else self.axis_size(value, a.name)
                        for a in value.tensor_type.axes
                        if a.name not in ("batch", "pos", *swept)
                    ),
                )
        return max(1, MOST_BYTES // (4 * widest * length)) if widest else 0

    def backwards(self, step: RunStep) -> int:
        """Backward passes of a run: one for each entry of a scalar and each point that is no lane."""
        total = 0
        for grad in step.grads:
            if isinstance(grad, ir.Jvp):
                continue
            points = 1
            for s in ir.sweeps_of(grad.scalar):
                points *= 1 if s in step.sweeps else self.points_of(s)
            for axis in grad.entries:
                points *= axis.size if axis.size is not None else self.axis_size(grad.scalar, axis.name)
            total += points
        return total

    def directions(self, step: RunStep) -> int:
        """How many directions are pushed through a run: of all points that are no lanes."""
        total = 0
        for node in step.grads:
            if isinstance(node, ir.Jvp):
                points = math.prod(self.points_of(s) for s in ir.sweeps_of(node) if s not in step.sweeps)
                sizes = (
                    a.size if a.size is not None else self.axis_size(node.along, a.name)
                    for a in node.directions
                )
                total += points * math.prod(sizes)
        return total

    def _probe(self, engine: HookModel, read: ir.Read) -> dict[str, int]:
        """Axis sizes that a module shows on one row: nothing else tells them on the hook engine."""
        part = self.bound.part(read.run.data)
        tokens = torch.from_numpy(part.tokens[:1])
        key = keys_of(read.site, engine.info, self.evaluator.domains)[0]
        value = engine.run(tokens, torch.ones_like(tokens), {}, [key])[key]
        axes = axes_of(engine.info, key)
        return dict(zip(axes, fitting(key, value, axes, read.span).shape, strict=True))


_HELD: dict[str, frozenset[str]] = {}


def axes_held(node: ir.Node) -> frozenset[str]:
    """The axes that a value has an entry for each index of: what is the same along an axis is held once."""
    known = _HELD.get(node.digest)
    if known is None:
        names = frozenset(node.tensor_type.names)
        if isinstance(node, ir.Const):
            known = frozenset() if not isinstance(node.value, tuple) else names
        elif isinstance(node, (ir.Apply, ir.Reduce, ir.Select)):
            parts = [c for c in node.children if isinstance(c.type, TensorType)]
            made = names.difference(*(c.tensor_type.names for c in parts))
            known = names & (made.union(*map(axes_held, parts)))
        else:
            known = names
        _HELD[node.digest] = known
    return known
