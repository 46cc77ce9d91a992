"""Counts of the benches' own specs against the fewest FLOPs there can be: a bench without a clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.plan.driver import Execution, compile_spec
from midsl.plan.explain import explain
from tests.bench.minimal import LEAST, Shape

BENCH = Path(__file__).parents[1] / "bench"
SMALL = Shape(width=96, n=2)
"""Twelve layers of twelve heads, but narrow: the products' share is what is counted."""


def params(s: Shape, workload: str) -> dict[str, str]:
    given = {"layers": s.layers, "heads": s.heads, "width": s.width, "n": s.n}
    return {k: str(v) for k, v in given.items()} | ({} if workload == "w4" else {"length": str(s.length)})


@pytest.mark.parametrize("workload", LEAST)
def test_a_plan_is_within_five_percent_of_the_least(workload: str) -> None:
    """Attention, which the least leaves out, adds up to T / 6D."""
    shape = Shape(width=96, n=2, length=128) if workload == "w4" else SMALL
    compiled = compile_spec(BENCH / f"{workload}.mi", params(shape, workload))
    said = explain(compiled)
    attention = 1 + shape.length / (6 * shape.width)
    least = LEAST[workload](shape)
    assert 0.8 * least < said.optimised.flops <= 1.05 * attention * least
    execution = Execution(compiled)
    execution.run()
    assert execution.totals == execution.predicted
    assert execution.totals.flops == said.optimised.flops
