"""The passes in order, and which of them may be switched off."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from midsl.ir.program import Program
from midsl.ir.verify import verify
from midsl.passes.base import Outcome, PassFn, Schedule
from midsl.passes.batch_sweeps import batch_sweeps
from midsl.passes.chunk import chunk
from midsl.passes.compile_segments import compile_segments
from midsl.passes.cse import cse
from midsl.passes.cut_cones import cut_cones
from midsl.passes.dce import dce
from midsl.passes.drop_dead_lanes import drop_dead_lanes
from midsl.passes.expand_sites import expand_sites
from midsl.passes.fold_constants import fold_constants
from midsl.passes.fuse_captures import fuse_captures
from midsl.passes.narrow_positions import narrow_positions
from midsl.passes.push_selects import push_selects
from midsl.passes.read_self import read_self
from midsl.passes.reuse import reuse
from midsl.passes.schedule import schedule
from midsl.passes.share_prefix import share_prefix
from midsl.passes.simplify import simplify
from midsl.passes.stage import stage
from midsl.sema.facts import Facts

PASSES: tuple[tuple[str, PassFn], ...] = (
    ("expand_sites", expand_sites),
    ("fold_constants", fold_constants),
    ("simplify", simplify),
    ("read_self", read_self),
    ("cse", cse),
    ("dce", dce),
    ("push_selects", push_selects),
    ("fuse_captures", fuse_captures),
    ("batch_sweeps", batch_sweeps),
    ("stage", stage),
    ("cut_cones", cut_cones),
    ("share_prefix", share_prefix),
    ("narrow_positions", narrow_positions),
    ("drop_dead_lanes", drop_dead_lanes),
    ("chunk", chunk),
    ("schedule", schedule),
    ("compile_segments", compile_segments),
    ("reuse", reuse),
)
REQUIRED = ("expand_sites",)
OPTIONAL = tuple(n for n, _ in PASSES if n not in REQUIRED)


@dataclass(frozen=True)
class Optimised:
    """A program after its passes, with what each pass did and the schedule that follows.

    `after` holds the program as each pass left it, by the pass's name.
    """

    program: Program
    outcomes: tuple[Outcome, ...]
    schedule: Schedule
    after: tuple[tuple[str, Program], ...] = ()


def optimise(program: Program, facts: Facts, off: Collection[str] = ()) -> Optimised:
    """Run the passes that are not in `off`; the IR is verified after each."""
    outcomes = []
    after: list[tuple[str, Program]] = []
    for name, run in PASSES:
        if name in off and name not in REQUIRED:
            continue
        outcome = Outcome(name)
        program = run(program, facts, outcome)
        verify(program)
        outcomes.append(outcome)
        after.append((name, program))
    how = Schedule(
        fuse="fuse_captures" not in off,
        batch="batch_sweeps" not in off,
        cones="cut_cones" not in off,
        board="share_prefix" not in off and "cut_cones" not in off,
        rows=not {"batch_sweeps", "cut_cones", "share_prefix", "narrow_positions"} & set(off),
        dead="drop_dead_lanes" not in off,
        tidy="simplify" not in off,
        stage="stage" not in off,
        chunk="chunk" not in off,
        late="schedule" not in off,
        compile="compile_segments" not in off,
        reuse="reuse" not in off,
    )
    return Optimised(program, tuple(outcomes), how, tuple(after))
