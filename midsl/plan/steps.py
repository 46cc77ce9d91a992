"""The steps of a plan: small records with a reason each. `explain` and `execute` walk the same list."""

from __future__ import annotations

from dataclasses import dataclass, field

from midsl.ir import nodes as ir


@dataclass
class LoadStep:
    """A model comes into memory."""

    model: ir.Node
    name: str
    reason: str = ""


@dataclass
class TrainStep:
    """A model is trained, or taken from the cache."""

    model: ir.Train
    name: str
    reason: str = ""


@dataclass
class WeighStep:
    """A model gets the weights that a run writes, once what they are made of is there."""

    model: ir.Reweighted
    name: str
    reason: str = ""


@dataclass
class FitStep:
    """A decomposition is fitted, or taken from the cache."""

    fit: ir.Fit
    name: str
    reason: str = ""


@dataclass
class RunStep:
    """A model runs over a data part with edits, for all its points; what is asked of it is kept.

    Attributes:
        run: the run.
        outputs: values to keep, each a function of this run's sites (and of values kept before).
        grads: gradients to take in this run.
        sweeps: the sweep variables that the run itself depends on: their points are its lanes.
        stacked: lanes share a run (else each point runs alone).
        cones: what no edit can change is computed once for all lanes.
        board: lanes join at the first layer that they edit.
        rows: only rows that edits change and reads see are run, where the graph allows.
        dead: rows of which the tokens show that no edit changes them are left out.
        tidy: what its graph spells out is put together.
        chunk: it may be cut into pieces.
    at_once: how many rows it may have at once, where the spec says so.
        gates: what decides which of its rows are run, where that takes values of runs before it.
        stage: how many choices of points, and of rows, come before it that it depends on.
        serves: others may start from it.
        spare: it runs for those that start from it alone, if any do.
    """

    run: ir.Forward
    sweeps: tuple[ir.Sweep, ...]
    outputs: list[ir.Node] = field(default_factory=list)
    grads: list[ir.Grad] = field(default_factory=list)
    stacked: bool = True
    cones: bool = False
    board: bool = False
    rows: bool = False
    dead: bool = False
    tidy: bool = False
    chunk: bool = True
    at_once: int = 0
    gates: tuple[ir.Node, ...] = ()
    stage: int = 0
    spare: bool = False
    serves: bool = True
    name: str = ""
    reason: str = ""

    @property
    def ahead(self) -> list[ir.Jvp]:
        """The derivatives along directions, of which a step has nothing else."""
        return [g for g in self.grads if isinstance(g, ir.Jvp)]

    @property
    def open(self) -> list[ir.Sweep]:
        """Its sweeps that may have any number of points before a condition has chosen them."""
        return [s for s in self.sweeps if isinstance(s.domain, ir.Top) and s.domain.k is None]


@dataclass
class RollStep:
    """A model writes rows on, with edits in force: runs on those rows are a new stage."""

    rollout: ir.Rollout
    at_once: int = 0
    name: str = ""
    reason: str = ""


@dataclass
class ChooseStep:
    """The points of a computed sweep are chosen: a new stage begins."""

    sweep: ir.Sweep
    reason: str = ""


@dataclass
class SinkStep:
    """A report, a plot or an expect is made from kept values."""

    sink: ir.Node
    reason: str = ""


@dataclass
class FreeStep:
    """Kept values that nothing after this needs are let go."""

    nodes: list[ir.Node]
    reason: str = "nothing after this needs them"


Step = LoadStep | TrainStep | WeighStep | FitStep | RunStep | RollStep | ChooseStep | SinkStep | FreeStep


@dataclass
class Plan:
    """Steps in order."""

    name: str
    steps: list[Step]

    @property
    def runs(self) -> list[RunStep]:
        return [s for s in self.steps if isinstance(s, RunStep)]

    @property
    def rolls(self) -> list[RollStep]:
        return [s for s in self.steps if isinstance(s, RollStep)]
