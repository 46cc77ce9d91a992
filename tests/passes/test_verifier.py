"""The verifier refuses programs that no pass may make: each test builds one by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from midsl.ir import nodes as ir
from midsl.ir.program import Experiment, Program
from midsl.ir.types import BOOL, SCALAR, Axis, PlainType, TensorType
from midsl.ir.verify import VerifyError, verify

SINK = PlainType("Sink")
LAYER = Axis("layer", "m", 2, (0, 1))
BATCH = Axis("batch", "d")
MODEL = ir.Model("a:b", type=PlainType("Model"))
PART = ir.Part(ir.Data("c:d", type=PlainType("Data")), "clean")
RUN = ir.Forward(MODEL, PART, type=PlainType("Run"))
SITE = ir.Site(MODEL, "embed", type=PlainType("Site"))
READ = ir.Read(RUN, SITE, type=TensorType(axes=(BATCH,)))
POINTS = ir.Points(((0,), (1,)), type=PlainType("Domain"))
SWEEP = ir.Sweep("l", ("layer",), (LAYER,), POINTS, type=PlainType("Sweep"))
COORD = ir.Coord(SWEEP, 0, type=TensorType("int", (LAYER,)))


def program(*sinks: ir.Node, lets: Sequence[tuple[str, ir.Node]] = ()) -> Program:
    return Program("p", (Experiment("e", tuple(lets), sinks),))


def report(value: ir.Node, *sweeps: ir.Sweep) -> ir.Report:
    return ir.Report("e", "r", value, sweeps, type=SINK)


def test_well_formed_programs_pass() -> None:
    mean = ir.Reduce("mean", READ, (BATCH,), type=SCALAR)
    verify(program(report(mean), report(COORD, SWEEP), lets=[("x", READ)]))


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        (report(ir.Reduce("mean", READ, (LAYER,), type=SCALAR)), "which its argument has not"),
        (report(COORD), "names other sweeps"),
        (report(ir.Reduce("mean", READ, (BATCH,), type=SCALAR), SWEEP), "names other sweeps"),
        (report(replace(READ, type=TensorType(axes=(BATCH, Axis("batch", "e"))))), "two axes of one name"),
        (report(ir.Apply("neg", (READ,), type=PlainType("Run"))), "has type Run"),
        (
            ir.Expect("e", replace(COORD, type=TensorType("bool", (LAYER,))), "", "x", type=SINK),
            "still has axes",
        ),
    ],
    ids=["axis of a reduction", "sweep missing", "sweep too many", "twin axes", "no tensor", "expect"],
)
def test_ill_formed_programs_do_not(sink: ir.Node, said: str) -> None:
    with pytest.raises((VerifyError, AssertionError), match=said):
        verify(program(sink))


def test_a_pass_that_breaks_a_program_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from midsl.passes import pipeline
    from midsl.sema.facts import Facts

    def broken(p: Program, facts: Facts, outcome: Any) -> Program:
        return program(report(COORD))

    monkeypatch.setattr(pipeline, "PASSES", (("cse", broken),))
    with pytest.raises(VerifyError):
        pipeline.optimise(program(report(COORD, SWEEP)), Facts())


def test_an_expect_is_a_truth_value() -> None:
    verify(program(ir.Expect("e", ir.Const(True, type=BOOL), "", "true", type=SINK)))


def test_equal_literals_have_the_type_of_their_value() -> None:
    """Passes share equal nodes, so a literal's type may not depend on where it stands."""
    assert ir.Const(1).type == ir.Const(1, type=TensorType("int")).type
    assert ir.Const(True).type == BOOL
    assert ir.Const(0.5).type == SCALAR
