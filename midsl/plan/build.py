"""From an optimised program to steps: which runs are needed, what each must leave behind, in what order.

Of every expression the largest part that can be computed lane by lane, example by example, is
computed inside the step of the last run it depends on, so that only its (small) result is kept. What
mixes lanes or examples, such as a mean over the batch, is computed afterwards over the kept values.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.crossing import has_self, streams
from midsl.ir.program import Program
from midsl.ir.states import earlier, of_states
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.passes.base import Schedule
from midsl.passes.drop_dead_lanes import gates_of
from midsl.passes.narrow_positions import base_of
from midsl.passes.share_prefix import boards
from midsl.passes.stage import computed
from midsl.plan.liveness import conditions_of, with_frees
from midsl.plan.loads import loads
from midsl.plan.naming import model_name, roll_name, run_name
from midsl.plan.steps import (
    ChooseStep,
    Plan,
    RollStep,
    RunStep,
    SinkStep,
    Step,
    WeighStep,
)
from midsl.plan.turns import Order, Turn
from midsl.plan.wide import generalise


def build(program: Program, schedule: Schedule) -> Plan:
    """Make the plan of a program."""
    builder = _Builder(program, schedule)
    return builder.plan()


LEAVES = (ir.Read, ir.Const, ir.Column, ir.Member, ir.Coord, ir.Weight, ir.Param, ir.Draw)
WRITTEN_OUT = ("attn.scores", "attn.pattern")
"""Sites for which attention is written out, where positions meet in plain sight: such a run goes whole."""


@dataclass
class _Builder:
    program: Program
    schedule: Schedule
    order: Order = field(default_factory=Order)
    outputs: dict[str, dict[str, ir.Node]] = field(default_factory=dict)
    placed: set[str] = field(default_factory=set)
    chosen: dict[str, ir.Sweep] = field(default_factory=dict)
    rolls: dict[str, tuple[int, ir.Rollout]] = field(default_factory=dict)
    """Rollouts by digest, each with the number of runs that come before it."""
    _at_once: int = 0
    """How many rows the runs of the experiment at hand may have at once."""
    _writes: bool = False
    """Whether rows are written in this program."""
    _all: set[str] = field(default_factory=set)
    """Digests of the runs that the program asks for."""
    _direct: dict[str, tuple[ir.Forward, ...]] = field(default_factory=dict)
    _fusable: dict[str, bool] = field(default_factory=dict)
    _whole: dict[str, frozenset[str]] = field(default_factory=dict)
    """The runs of which a value reads what attention is written out for, by the value."""
    _walked: set[tuple[ir.Node, ir.Forward | None]] = field(default_factory=set)

    def plan(self) -> Plan:
        """Runs come as late as they may, so that an experiment's rows are there before the next begins."""
        ends: list[tuple[int, int]] = []
        asked = [n for x in self.program.experiments for n in (*x.sinks, *(v for _, v in x.lets))]
        self._all = {n.digest for n in ir.walk(*asked) if isinstance(n, ir.Forward)}
        self._writes = any(isinstance(n, ir.Rollout) for n in ir.walk(*asked))
        for x in self.program.experiments:
            for sink in x.roots:
                for condition in conditions_of(sink):
                    self.place(condition)
            for sink in x.sinks:
                if isinstance(sink, (ir.Report, ir.Save, ir.View)):
                    self.place(sink.value)
                    if isinstance(sink, ir.Report) and sink.where is not None:
                        self.place(sink.where)
                    for _, beside in sink.beside if isinstance(sink, ir.Report) else ():
                        self.place(beside)
                    for s in sink.sweeps:
                        self.choose(s)
                elif isinstance(sink, ir.Expect):
                    self.place(sink.condition)
            for _, let in x.lets:
                self._let(let)
            ends.append((len(self.order), len(self.rolls)))
        if not self.schedule.late:
            ends = [(len(self.order), len(self.rolls))] * len(ends)
        models = [*(t.run.model for t in self.order.turns), *(r.model for _, r in self.rolls.values())]
        steps: list[Step] = loads(self.program, models)
        weighed: set[str] = set()

        def weigh(model: ir.Node) -> None:
            """The weights that runs write, before the first run that has them."""
            if isinstance(model, ir.Reweighted) and model.digest not in weighed:
                weighed.add(model.digest)
                weigh(model.model)
                steps.append(WeighStep(model, model_name(self.program, model), "its weights are written"))

        bases = Counter(b.digest for t in self.order.turns if t.first and (b := base_of(t.run)) is not None)
        pending = dict(self.chosen)
        stages: dict[str, int] = {}  # of a choice, by its sweep
        ready: set[tuple[str, int]] = set()  # runs that others may start from, by stage

        def choose(digest: str) -> None:
            steps.append(ChooseStep(pending.pop(digest), "its points are computed: a new stage"))
            stages[digest] = len(stages) + 1

        rolls = list(self.rolls.values())

        def roll(before: int, wanted: int) -> None:
            """The rollouts that come before a run, of those that are wanted by now."""
            while len(rolls) > len(self.rolls) - wanted and rolls[0][0] <= before:
                rollout = rolls.pop(0)[1]
                weigh(rollout.model)
                name = roll_name(self.program, rollout)
                steps.append(RollStep(rollout, self._at_once, name, "its rows are written: a new stage"))
                stages[rollout.digest] = len(stages) + 1

        done = 0
        for x, (end, wanted) in zip(self.program.experiments, ends, strict=True):
            self._at_once = x.at_once
            for i, turn in enumerate(self.order.turns[done:end], done):
                run = turn.run
                roll(i, wanted)
                ahead = [s for g in turn.ahead for s in ir.sweeps_of(g)]
                for s in (*ir.sweeps_of(run), *ahead):
                    if s.digest in pending:
                        choose(s.digest)
                after = [*ir.sweeps_of(run), *ahead, run.data.data]
                stage = max(stages.get(n.digest, 0) for n in after)
                gates = self._gates(run)
                if gates:  # which rows are run is known once what decides it is there
                    read = sorted({r.digest for g in gates for r in self.direct(g)})
                    stage = stages.setdefault(" ".join(["rows", str(stage), *read]), len(stages) + 1)
                weigh(run.model)
                made = self._steps_of(turn, stage)
                base = base_of(run)
                shared = base is not None and (bool(ir.sweeps_of(run)) or bases[base.digest] > 1)
                if (
                    base is not None
                    and shared
                    and any(m.rows for m in made)
                    and (base.digest, stage) not in ready
                ):
                    steps.append(self._step(base, [], [], stage, spare=True))
                    ready.add((base.digest, stage))
                steps += made
                ready |= {(run.digest, stage) for m in made if m.rows and m.serves}
            roll(end, wanted)
            done = end
            needed = {
                s.digest
                for sink in x.sinks
                if isinstance(sink, (ir.Report, ir.Save, ir.View))
                for s in sink.sweeps
            }
            needed |= {n.sweep.digest for n in ir.walk(*x.sinks) if isinstance(n, ir.Coord)}
            for digest in [d for d in pending if d in needed]:
                choose(digest)
            steps += [SinkStep(s) for s in x.sinks]
        return Plan(self.program.name, with_frees(steps) if self.schedule.late else steps)

    def _let(self, node: ir.Node) -> None:
        """A binding that is still there (pass dce is off, or a sink uses it) is computed."""
        if isinstance(node, ir.Forward):
            if node in self.order:
                return
            name, own = ("output", Axis("d_state")) if of_states(node) else ("logits", Axis("vocab"))
            site = ir.Site(node.model, name, (), type=PlainType("Site"), span=node.span)
            swept = tuple(a for s in ir.sweeps_of(node) for a in s.axes)
            owner = node.data.owner
            axes = (*swept, Axis("batch", owner), Axis("pos", owner), own)
            node = ir.Read(node, site, type=TensorType(axes=axes), span=node.span)
        self.place(node)

    def _steps_of(self, turn: Turn, stage: int) -> list[RunStep]:
        run, grads = turn.run, list(turn.grads.values())
        outputs = list(self.outputs.get(run.digest, {}).values()) if turn.first else []
        if not outputs and not grads and self.order.later(turn):
            return []
        if self.schedule.fuse:
            return [self._step(run, outputs, grads, stage)]
        alone = [self._step(run, [o], [], stage) for o in outputs]
        return alone + [self._step(run, [], [g], stage) for g in grads]

    def _step(
        self, run: ir.Forward, outputs: list[ir.Node], grads: list[ir.Grad], stage: int, spare: bool = False
    ) -> RunStep:
        known = self.schedule.stage or not computed(run)
        stacked = self.schedule.batch
        cones = stacked and known and self.schedule.cones
        rows = known and self.schedule.rows and not grads
        return RunStep(
            run,
            ir.sweeps_of(run),
            outputs,
            grads,
            stacked,
            cones,
            board=cones and self.schedule.board and boards(run),
            rows=rows,
            dead=rows and self.schedule.dead,
            tidy=self.schedule.tidy,
            chunk=self.schedule.chunk,
            at_once=self._at_once,
            gates=self._gates(run) if rows and not spare else (),
            stage=stage if known else 0,
            spare=spare,
            serves=not any(run.digest in self._written_out(o) for o in outputs),
            name=run_name(self.program, run),
        )

    def _written_out(self, value: ir.Node) -> frozenset[str]:
        """The runs that have attention written out for a value."""

        def runs(node: ir.Node) -> frozenset[str]:
            found = frozenset[str]().union(*(self._whole[c.digest] for c in node.children))
            if isinstance(node, ir.Read) and node.site.name in WRITTEN_OUT:
                return found | {node.run.digest}
            return found

        return ir.fold(value, self._whole, runs)

    # -- placing expressions

    def place(self, node: ir.Node) -> None:
        """See to it that `node` can be evaluated once all steps before it are done."""
        if node.digest in self.placed:
            return
        self.placed.add(node.digest)
        if isinstance(node, ir.Coord):
            self.choose(node.sweep)
            return
        if isinstance(node, ir.Part):
            self._roll(node)
            return
        runs = self.direct(node)
        if not runs:
            for child in node.children:
                self.place(child)
            return
        if isinstance(node, ir.Grad):
            self._place_grad(node)
        elif self.fusable(node) or (streams(node) and self.fusable(node.children[0])):
            self._place_output(node)
        else:
            for child in node.children:
                self.place(child)

    def _roll(self, part: ir.Part) -> None:
        """Rows that are written in this plan: prompts, and what edits are made of, are there before."""
        rollout = part.data
        if not isinstance(rollout, ir.Rollout) or rollout.digest in self.rolls:
            return
        self._roll(rollout.room.data.part)
        self._place_weights(rollout.model)
        for edit in rollout.edits:
            assert isinstance(edit, ir.Edit)
            self._place_edit(edit.value)
        self.rolls[rollout.digest] = (len(self.order), rollout)

    def choose(self, sweep: ir.Sweep) -> None:
        """A computed domain: its score is placed, its choice is a step."""
        if isinstance(sweep.domain, ir.Top) and sweep.digest not in self.chosen:
            self.place(sweep.domain.score)
            self.chosen[sweep.digest] = sweep

    def _place_output(self, node: ir.Node) -> None:
        for run in sorted(self.direct(node), key=lambda r: len(ir.sweeps_of(r))):
            self.ensure(run)
        for s in ir.sweeps_of(node):
            self.choose(s)
        last = self.order.last(self.direct(node))
        if self._unready(node, last):
            if isinstance(node, ir.Read):
                wide, _ = generalise(node)
                self.outputs.setdefault(last.digest, {})[wide.digest] = wide
                return
            for child in node.children:
                self.place(child)
            return
        self.outputs.setdefault(last.digest, {})[node.digest] = node
        self._place_others(node, last)

    def _unready(self, node: ir.Node, run: ir.Forward) -> bool:
        """Whether a value depends on a computed sweep whose points this run does not wait for."""
        own = {s.digest for s in ir.sweeps_of(run)}
        return any(isinstance(s.domain, ir.Top) and s.digest not in own for s in ir.sweeps_of(node))

    def _place_others(self, node: ir.Node, run: ir.Forward) -> None:
        """Parts that do not depend on `run` are kept by earlier steps."""
        for child in node.children:
            if isinstance(child, (ir.Forward, ir.Sweep, ir.Site, ir.Part)) or (child, run) in self._walked:
                continue
            self._walked.add((child, run))  # parts are shared, and come by many ways
            reached = self.direct(child)
            if run in reached:
                self._place_others(child, run)
            elif reached:
                self.place(child)

    def _place_grad(self, node: ir.Grad) -> None:
        for run in sorted(self.direct(node), key=lambda r: r == node.run):
            self.ensure(run)
        if isinstance(node, ir.Jvp):  # its turn waits for the points
            for s in ir.sweeps_of(node):
                self.choose(s)
        elif self._unready(node, node.run):
            wide, _ = generalise(node)
            assert isinstance(wide, ir.Grad)
            node = wide
        if any(r != node.run and node.run in self.upstream(r) for r in self.direct(node.scalar)):
            raise fail(
                "MI0601",
                "not implemented: a gradient through another run's edits",
                node.span,
                help="right-hand sides of edits are constants for gradients",
            )
        self._place_others(node.scalar, node.run)
        if isinstance(node, ir.Jvp):
            self.place(node.along)
        self.order.turn_for(node, self.direct(node)).grads[node.digest] = node

    def upstream(self, run: ir.Forward) -> set[ir.Forward]:
        """The runs whose values a run's edits use."""
        return {n for e in run.edits for n in ir.walk(e.value) if isinstance(n, ir.Forward)}

    def ensure(self, run: ir.Forward) -> None:
        """Order a run after everything that its edits need."""
        if run in self.order:
            return
        for step in earlier(run, self.order.__contains__):
            self.ensure(step)
        self._roll(run.data)
        self._place_weights(run.model)
        if run.data.where is not None:
            self.place(run.data.where)
        base = base_of(run) if self.schedule.rows else None
        if base is not None and base.digest in self._all:
            self.ensure(base)
        for s in ir.sweeps_of(run):
            self.choose(s)
        for edit in run.edits:
            self._place_edit(edit.value)
        self.order.add(run)

    def _place_weights(self, model: ir.Node) -> None:
        if isinstance(model, ir.Reweighted):
            self._place_weights(model.model)
            for w in model.weights:
                self.place(w.value)

    def _place_edit(self, node: ir.Node) -> None:
        """What an edit writes is worked out lane by lane when it is written: only what it is made of is kept.

        A code of all features is kept once, and not the entry that each lane takes of it times a direction.
        """
        if (node, None) in self._walked:
            return
        self._walked.add((node, None))
        if isinstance(node, ir.Coord):
            self.choose(node.sweep)
        elif not self.direct(node) or has_self(node) or self._spreads(node):
            for child in node.children:
                self._place_edit(child)
        else:
            self.place(node)

    def _spreads(self, node: ir.Node) -> bool:
        """Whether a value has more points than the runs it reads, and takes no more work than a look-up."""
        plain = isinstance(node, ir.Apply) and not node.over
        if not plain and not (isinstance(node, ir.Select) and isinstance(node.index, ir.Coord)):
            return False
        own = {s.digest for r in self.direct(node) for s in ir.sweeps_of(r)}
        return any(s.digest not in own for s in ir.sweeps_of(node))

    def _gates(self, run: ir.Forward) -> tuple[ir.Node, ...]:
        """What decides which rows of a run are run, where that takes values of other runs."""
        if not (self.schedule.rows and self.schedule.dead and ir.sweeps_of(run)):
            return ()
        every = [f for e in run.edits for term in gates_of(e) for f in term]
        return tuple(f for f in every if self.direct(f))

    # -- properties of expressions

    def direct(self, node: ir.Node) -> tuple[ir.Forward, ...]:
        """The runs that an expression reads itself (not through another run's edits)."""
        known = self._direct.get(node.digest)
        if known is None:
            found: dict[str, ir.Forward] = {}
            if isinstance(node, (ir.Read, ir.Grad)):
                found[node.run.digest] = node.run
                if isinstance(node, ir.Grad):
                    found |= {r.digest: r for x in node.values for r in self.direct(x)}
            elif not isinstance(node, (ir.Forward, ir.Sweep, ir.Site, ir.Coord, ir.Part)):
                for child in node.children:
                    found |= {r.digest: r for r in self.direct(child)}
            known = self._direct[node.digest] = tuple(found.values())
        return known

    def fusable(self, node: ir.Node) -> bool:
        """Whether a value can be computed lane by lane and example by example."""
        known = self._fusable.get(node.digest)
        if known is None:
            own = not has_self(node) and not self._waits(node)
            known = self._fusable[node.digest] = own and self._is_fusable(node)
        return known

    def _waits(self, node: ir.Node) -> bool:
        """Whether a value takes columns of rows that are written after some run that it reads."""
        if not self._writes:
            return False
        columns = [n.part for n in ir.walk(node) if isinstance(n, ir.Column)]
        later = {p for p in columns if isinstance(p, ir.Part) and isinstance(p.data, ir.Rollout)}
        return bool(later) and any(r.data not in later for r in self.direct(node))

    def _is_fusable(self, node: ir.Node) -> bool:
        if isinstance(node, LEAVES):
            return True
        if isinstance(node, ir.Grad) or not isinstance(node, (ir.Apply, ir.Reduce, ir.Select)):
            return False
        mixed: set[str] = set()
        if isinstance(node, ir.Reduce):
            mixed = {a.name for a in node.axes}
        elif isinstance(node, ir.Select):
            mixed = {node.axis.name}
        else:
            mixed = set(node.over)
        crossing = {"batch"} | {a.name for s in ir.sweeps_of(node) for a in s.axes}
        crossing |= {a.name for c in node.children for s in ir.sweeps_of(c) for a in s.axes}
        if mixed & crossing:
            return False
        return all(self.fusable(c) for c in node.children)
