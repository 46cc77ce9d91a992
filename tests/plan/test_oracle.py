"""Every plan of every spec of the corpus gives what the oracle gives, whatever passes and chunks."""

from __future__ import annotations

import math

import pytest

from midsl.plan.driver import Execution
from midsl.plan.verify import TOLERANCE, verify
from tests.plan.corpus import (
    CHUNKS,
    SPECS,
    SUBSETS,
    Cells,
    cells,
    chunked,
    exact_session,
    planned,
    some_subsets,
    tables,
    truth,
)

COMBINATIONS = [(s, c) for s in SUBSETS for c in CHUNKS]


def results(name: str, off: tuple[str, ...], chunk: int | None) -> tuple[dict[str, Cells], tuple[bool, ...]]:
    """What a plan gives in float64."""
    compiled = planned(name, off)
    execution = Execution(compiled)
    with chunked(chunk):
        execution.run(session=exact_session(compiled))
    checks = tuple(c.passed for s in execution.stages for c in s.checks)
    return {k: cells(t) for k, t in tables(execution).items()}, checks


def agree(name: str, subset: str, chunk: int | None) -> None:
    """Fail with the first cell in which the plan and the oracle differ."""
    want = truth(name)
    got, checks = results(name, SUBSETS[subset], chunk)
    where = f"{name}, {subset}, {chunk or 'all'} rows at once"
    assert set(got) == set(want.reports), where
    for report, expected in want.reports.items():
        assert set(got[report]) == set(expected), f"{where}: rows of {report}"
        sizes = [abs(v) for v in expected.values() if math.isfinite(v)]
        scale = max([1.0, *sizes])
        for key, value in expected.items():
            mine, n, _ = got[report][key]
            same = math.isnan(mine) if math.isnan(value) else abs(mine - value) <= TOLERANCE * scale
            assert same, f"{where}: {report}{key} is {mine}, the oracle says {value}"
            assert math.isnan(mine) or n > 0, f"{where}: {report}{key} has a value and n = 0"
    assert checks == want.expects, where


def agree_on_counts(name: str, subset: str, chunk: int | None) -> None:
    """n and se are no part of the oracle, but no plan may change them either."""
    plain, _ = results(name, (), None)
    other, _ = results(name, SUBSETS[subset], chunk)
    for report, rows in plain.items():
        for key, (_, n, se) in rows.items():
            _, n2, se2 = other[report][key]
            assert n == n2, f"{name}, {subset}, {chunk}: n of {report}{key}"
            assert math.isclose(se, se2, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(se) and math.isnan(se2))


@pytest.mark.parametrize("name", SPECS)
def test_every_pass_subset_agrees(name: str) -> None:
    """All pairs of (spec, chunk) and of (passes, chunk), each subset of passes on a fourth of the specs.

    All pairs of (spec, passes), and all triples, are `slow`.
    """
    start = SPECS.index(name)
    for i, subset in enumerate(some_subsets(name)):
        agree(name, subset, CHUNKS[(start + i) % len(CHUNKS)])


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_full_matrix(name: str) -> None:
    for subset, chunk in COMBINATIONS:
        agree(name, subset, chunk)


@pytest.mark.parametrize("name", ["positions", "resid_positions", "reductions"])
def test_n_and_se_do_not_depend_on_the_plan(name: str) -> None:
    agree_on_counts(name, "none", None)
    agree_on_counts(name, "all passes", 1)


@pytest.mark.parametrize("name", ["head_patching", "attribution"])
def test_verify_itself_agrees(name: str) -> None:
    found = verify(planned(name), points=None)
    assert found.verdicts
    assert found.agrees, found.verdicts
    assert not found.sampled
    assert all(v.own_error < 1e-3 for v in found.verdicts), "float32 is close too"


def test_verify_samples_large_sweeps() -> None:
    found = verify(planned("head_patching"), points=2)
    assert found.agrees
    assert found.sampled == {"h": (2, 4)}


def test_verify_sees_a_wrong_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that edits the wrong lanes must not pass."""
    from midsl.plan.edits import EditOp

    right = EditOp._lanes
    monkeypatch.setattr(EditOp, "_lanes", lambda self, site: right(self, site).flip(0)[:0].new_tensor([0]))
    monkeypatch.setattr("midsl.plan.execute.Executor._check_fired", lambda *a: None)
    assert not verify(planned("head_patching"), points=None).agrees
