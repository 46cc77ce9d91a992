"""Gradients against finite differences of whole runs, and how many passes back they take."""

from __future__ import annotations

import pytest

from midsl.ir.backward import FLAT
from midsl.ops.catalog import CATALOG
from midsl.plan.driver import Execution
from tests.plan.corpus import exact_session, planned, truth


@pytest.mark.parametrize(("change", "slope"), [("code", "slope"), ("squared", "through")])
def test_gradients_are_what_a_small_step_changes(change: str, slope: str) -> None:
    """Of a code (its error stays), and through edits that use `self`."""
    found = truth("entries").reports
    step, tangent = found[f"differences.{change}"][()], found[f"differences.{slope}"][()]
    assert abs(tangent) > 1e-3
    assert step == pytest.approx(tangent, rel=1e-5)


def test_edits_are_constants_unless_gradients_go_through_them() -> None:
    found = truth("entries").reports
    assert all(v == 0 for v in found["through.stop"].values()), "resid_mid is written: nothing reaches embed"
    assert any(v != 0 for v in found["through.go"].values())


def test_entries_of_a_scalar_share_one_forward() -> None:
    """Three logits, two doses: one stacked run and three passes back, as counted beforehand."""
    compiled = planned("entries")
    execution, session = Execution(compiled), exact_session(compiled)
    execution.run(session=session)
    assert execution.totals == execution.predicted
    steps = [s for s in compiled.plan.runs if any(g.entries for g in s.grads)]
    assert sorted(session.sizing.backwards(s) for s in steps) == [3, 3]


def test_operations_with_values_in_steps_are_those_that_no_gradient_goes_through() -> None:
    stepped = {n for n, info in CATALOG.items() if info.result in ("bool", "int")}
    assert stepped | {"sign", "stop_gradient"} == FLAT


def test_a_gradient_as_a_constant_is_the_number_that_it_is() -> None:
    """Of the layer before, by the Jacobian of that layer: nothing goes back through the constant."""
    found = truth("constant_gradients").reports
    one, other = found["recursion.by_gradient"], found["recursion.by_jacobian"]
    assert max(map(abs, one.values())) > 1e-3
    assert list(one.values()) == pytest.approx(list(other.values()), rel=1e-9)
