"""Memory that runs out while running: pieces are halved, nothing is lost, and it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from midsl.backends.rows import RowRun
from midsl.diagnostics.model import Bag, MiError
from midsl.plan.driver import Execution
from midsl.plan.lower import Lowered
from midsl.plan.memory import Budget
from midsl.plan.rowed import Rowed
from tests.plan.corpus import cells, planned, tables
from tests.plan.test_counts import small

SPECS = ("head_patching", "positions", "resid_by_position", "nested_runs")


def tight(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """No more than `most` lanes x rows at once, as if memory ran out halfway through a run."""
    failed: list[int] = []

    def check(size: int) -> None:
        if size > most:
            failed.append(size)
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")

    whole, by_rows = Lowered.run, RowRun._compute

    def run(self: Lowered, prefix: Any, chunk: Any, counts: Any) -> Any:
        found = whole(self, prefix, chunk, counts)  # its edits have fired by now
        check(chunk.table.size * (chunk.rows.stop - chunk.rows.start))
        return found

    def compute(self: RowRun, node: Any) -> Any:
        found = by_rows(self, node)
        mask = self.active[node]
        check(mask.shape[0] * mask.shape[1])
        return found

    monkeypatch.setattr(Lowered, "run", run)
    monkeypatch.setattr(RowRun, "_compute", compute)
    return failed


@pytest.mark.parametrize("off", [(), ("narrow_positions",)], ids=["rows", "whole"])
@pytest.mark.parametrize("name", SPECS)
def test_pieces_are_halved(name: str, off: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Execution(planned(name, off))
    plain.run()
    compiled = planned(name, off)
    compiled.bag.items.clear()
    failed = tight(monkeypatch, 2)
    other = Execution(compiled)
    other.run()
    assert failed, "the test made memory run out"
    for report, table in tables(plain).items():
        found = cells(tables(other)[report])
        for key, (value, n, _) in cells(table).items():
            assert found[key][:2] == pytest.approx((value, n), abs=1e-5, nan_ok=True)
    told = [d for d in compiled.bag if d.code == "MI0705"]
    assert told and all(d.severity == "warning" for d in told)
    assert len({(d.message, d.span) for d in told}) == len(told), "once for each run"


def test_rows_that_need_each_other_stay_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only lanes are halved where an edit goes across the batch, in the pieces still to come as well."""
    body = """  sweep k in [0.0, 1.0, 2.0]
  let flat = run m on d.clean do { m.blocks[0].resid_post := k * mean(self, over: batch) }
  report x = mean(flat[m.blocks[1].resid_post], over: [batch, pos, d_model])"""
    compiled = small(tmp_path, body)
    rows = len(compiled.binder.part(compiled.plan.runs[-1].run.data))
    monkeypatch.setattr(Budget, "rows", lambda self, *rest: 2 * rows)  # two lanes at once, then the third
    plain = Execution(compiled)
    plain.run()
    failed = tight(monkeypatch, rows)
    other = Execution(compiled)
    other.run()
    assert failed
    for a, b in zip(tables(plain)["e.x"].value, tables(other)["e.x"].value, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_a_single_row_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tight(monkeypatch, 0)
    with pytest.raises(MiError, match="MI0702") as caught:
        Execution(planned("head_patching")).run()
    assert caught.value.exit_code == 4


def test_other_errors_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: RowRun, node: Any) -> Any:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(RowRun, "_compute", broken)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Execution(planned("head_patching")).run()


def test_without_chunks_a_run_is_one_piece() -> None:
    compiled = planned("head_patching", ("chunk",))
    session = compiled.session()
    for step in compiled.plan.runs:
        if not session.idle(step):
            assert len({(p.rows.start, p.rows.stop) for p in session.prepare(step).pieces}) == 1
    assert isinstance(session.prepare(compiled.plan.runs[-1]).lowered, (Rowed, Lowered))
    assert isinstance(compiled.bag, Bag)
