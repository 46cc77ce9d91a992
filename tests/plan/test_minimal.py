"""Counts of the benches' own specs against the fewest FLOPs there can be: a bench without a clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.plan.driver import Execution, compile_spec
from midsl.plan.explain import explain
from tests.bench.minimal import LEAST, Shape, w5

BENCH = Path(__file__).parents[1] / "bench"
SMALL = Shape(width=96, n=2)
"""Twelve layers of twelve heads, but narrow: the products' share is what is counted."""


def params(s: Shape, workload: str) -> dict[str, str]:
    given = {"layers": s.layers, "heads": s.heads, "width": s.width, "n": s.n}
    return {k: str(v) for k, v in given.items()} | ({} if workload == "w4" else {"length": str(s.length)})


def test_features_that_are_silent_cost_nothing() -> None:
    """w5: what is run depends on the data, and is known once the code is there."""
    given = params(SMALL, "w5") | {"swept": "400"}
    compiled = compile_spec(BENCH / "w5.mi", given)
    execution = Execution(compiled)
    execution.run()
    tables = {t.report: t for s in execution.stages for t in s.tables}
    rows = [int(r) for r in tables["rows"].value]
    assert 0.1 < sum(r > 0 for r in rows) / len(rows) < 0.9, "some are silent, some are not"
    attention = 1 + SMALL.length / (6 * SMALL.width)
    # the rows are chosen by a run of their own, and another one is what the edited runs start from
    least = w5(SMALL, rows) + SMALL.base
    assert execution.totals == execution.predicted
    assert 0.8 * least < execution.totals.flops <= 1.05 * attention * least
    said = explain(compiled)
    assert said.least.flops <= execution.totals.flops <= said.optimised.flops


QUICK = ("w1", "w2last")


@pytest.mark.parametrize(
    "workload", [w if w in QUICK else pytest.param(w, marks=pytest.mark.slow) for w in LEAST]
)
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
