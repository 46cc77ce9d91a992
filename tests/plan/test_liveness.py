"""Kept values go after their last use, and only then; without `schedule` everything stays."""

from __future__ import annotations

import pytest

from midsl.plan.driver import Execution
from midsl.plan.steps import FreeStep, RunStep, SinkStep
from tests.plan.corpus import SPECS, planned


@pytest.mark.parametrize("name", SPECS)
def test_what_a_plan_lets_go_was_kept_and_is_kept_again_by_no_one(name: str) -> None:
    made: set[str] = set()
    gone: set[str] = set()
    for step in planned(name).plan.steps:
        if isinstance(step, RunStep):
            made |= {n.digest for n in (*step.outputs, *step.grads)}
        elif isinstance(step, FreeStep):
            digests = {n.digest for n in step.nodes}
            assert digests <= made and not digests & gone, "once each, and after it was made"
            gone |= digests


def test_a_value_goes_after_the_experiment_that_is_the_last_to_need_it() -> None:
    compiled = planned("nested_runs")
    assert any(isinstance(s, FreeStep) for s in compiled.plan.steps)
    session = compiled.session()
    Execution(compiled).run(session=session)
    kept = compiled.session()
    Execution(compiled, keep=True).run(session=kept)
    assert len(session.evaluator.store) < len(kept.evaluator.store)


def test_without_the_pass_all_runs_come_first_and_nothing_goes() -> None:
    steps = planned("nested_runs", ("schedule",)).plan.steps
    assert not any(isinstance(s, FreeStep) for s in steps)
    kinds = [type(s) for s in steps if isinstance(s, (RunStep, SinkStep))]
    assert kinds == sorted(kinds, key=lambda k: k is SinkStep)
