"""Which runs of a plan go by rows, and from which base run: decided from the last to the first.

A run tells its base which rows to keep, so every run must be looked at before the first one starts. What
cannot go by rows has a reason in `why`, which `explain` shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from midsl.backends.compiled import Compiler
from midsl.diagnostics.model import MiError
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.passes.narrow_positions import base_of
from midsl.plan.bound import Bound
from midsl.plan.domains import Table
from midsl.plan.evaluate import Evaluator
from midsl.plan.keys import Key, keys_of
from midsl.plan.lower import lower
from midsl.plan.rowed import Rowed
from midsl.plan.steps import Plan, RunStep

SHARE = 0.3
"""The share of the memory at hand that a base run may keep for those that start from it."""


@dataclass
class RowSteps:
    """The runs of a plan that go by rows, by step.

    Attributes:
        project: whether a run leaves out the unembedding, given what is read of it.
    """

    plan: Plan
    bound: Bound
    evaluator: Evaluator
    available: int
    reads: dict[int, list[ir.Read]]
    projects: dict[int, bool]
    compiler: Compiler | None = None
    generous: int = 0
    """Bytes of rows that a run without lanes may keep beyond what others of this plan take."""
    made: dict[int, Rowed] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)
    _bases: dict[int, RunStep] = field(default_factory=dict)
    _sources: dict[int, RunStep] = field(default_factory=dict)
    _captures: dict[int, list[Key]] = field(default_factory=dict)

    def decide(self, stage: int) -> None:
        """Fill `made` and `why` for the runs of a stage, whose points are known by now."""
        steps = [
            s
            for s in self.plan.runs
            if s.rows and s.stage == stage and isinstance(self._engine(s), ModelGraph)
        ]
        first: dict[str, RunStep] = {}
        for step in steps:
            info = self._engine(step).info
            self._captures[id(step)] = [
                k for r in self.reads[id(step)] for k in keys_of(r.site, info, self.evaluator.domains)
            ]
            start = base_of(step.run)
            if start is not None and start.digest in first:
                self._bases[id(step)] = first[start.digest]
            for edit in step.run.edits:
                value = edit.value
                if isinstance(value, ir.Read) and value.run.digest in first:
                    self._sources.setdefault(id(step), first[value.run.digest])
            if step.serves:
                first.setdefault(step.run.digest, step)
        for step in reversed(steps):
            if id(step) in self._bases:  # a run is cut to what is read: it must reach what others take
                base = self._bases[id(step)]
                self._captures[id(base)] += self._captures[id(step)]
                self.projects[id(base)] &= self.projects[id(step)]
        serving = {id(b) for b in self._bases.values()}
        for step in reversed(steps):
            base_step = self._bases.get(id(step))
            if id(step) not in serving and base_step is not None:
                self._start(step, base_step)
        for step in reversed(steps):
            self._alone(step)
        for rowed in self.made.values() if self.generous else ():
            if rowed.wanted and rowed.base is None:
                rowed.keep_all(self.generous)

    def _alone(self, step: RunStep) -> None:
        """Let a run that starts from no other go by rows from its tokens on, if it has one lane."""
        if id(step) in self._bases or step.sweeps or id(step) in self.why:
            return
        rowed = self._make(step, None)
        if rowed is not None and (rowed.veto or (step.spare and not rowed.wanted)):
            self.why.setdefault(id(step), rowed.veto)
            del self.made[id(step)]

    def _engine(self, step: RunStep) -> ModelGraph:
        return self.bound.engine(step.run.model)  # type: ignore[return-value]

    def _start(self, step: RunStep, base_step: RunStep) -> None:
        """Let a run start from another, unless something is in the way."""
        base = self._make(base_step, None)
        rowed = self._make(step, base) if base is not None else None
        why = self.why.get(id(base_step), "") if base is None else ""
        if base is not None and rowed is not None:
            why = rowed.veto
            rowed.source = self._source(step, base) if not why else None
            if not why:
                before = dict(base.wanted)
                why = rowed.ask_base()
                if base.kept_bytes() > SHARE * self.available:
                    base.wanted = before
                    why = "what it would take of its unedited run does not fit in memory"
            if not why and rowed.source is not None:
                rowed.ask_source()
                rowed.source.users += 1
            base.users += not why
        if why:
            self.made.pop(id(step), None)
            self.why[id(step)] = why

    def _source(self, step: RunStep, base: Rowed) -> Rowed | None:
        """The run that edits take whole rows of, if it goes by rows from its tokens on."""
        other = self._sources.get(id(step))
        if other is None or other.sweeps or id(other) in self._bases or other.run.model != step.run.model:
            return None
        made = self._make(other, None)
        if made is None or made.veto or made is base:
            return None
        room = SHARE * self.available
        every = sum(made.runner.bytes_kept(n) for n in made.named.values()) * made.real.numel()
        return made if every < room else None

    def _make(self, step: RunStep, base: Rowed | None) -> Rowed | None:
        """The run by rows; None, with a reason, if its sites exclude each other."""
        known = self.made.get(id(step))
        if known is not None or id(step) in self.why:
            return known
        mg = self._engine(step)
        try:
            lowered = lower(
                mg,
                step.run,
                self._captures[id(step)],
                (),
                self.evaluator,
                self.projects[id(step)],
                tidy=step.tidy,
            )
        except MiError as err:
            self.why[id(step)] = err.diagnostics[0].message
            return None
        part = self.bound.part(step.run.data)
        length = part.tokens.shape[1]
        real = torch.arange(length)[None, None, :] < torch.from_numpy(part.lengths)[None, :, None]
        table = Table.product(step.sweeps, self.evaluator.domains)
        made = Rowed(mg, lowered, part, table, real, self.reads[id(step)], base, step.dead, self.compiler)
        self.made[id(step)] = made
        return made
