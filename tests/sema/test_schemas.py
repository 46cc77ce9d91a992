"""The key columns that `check` knows are the columns that land; on the whole runnable corpus."""

from __future__ import annotations

import pytest

from midsl.ir import nodes as ir
from midsl.ir.program import key_columns, left_axes
from midsl.plan.driver import Execution
from midsl.sema.check import check_source, read_source
from midsl.sema.filefacts import FileFacts
from midsl.sema.summary import summarise
from tests.plan.corpus import FOLDER, SPECS, load, tables


@pytest.mark.parametrize("name", SPECS)
def test_checked_columns_are_the_columns_that_land(name: str) -> None:
    """Checked twice, from the text alone and with the data bound: one schema, and the tables have it."""
    alone = check_source(read_source(FOLDER / f"{name}.mi"), FileFacts())
    assert not alone.bag.errors
    promised = {f"{x['experiment']}.{x['report']}": x for x in summarise(alone) if "report" in x}
    saved = {f"{x['experiment']}.{x['saved']}": x["axes"] for x in summarise(alone) if "saved" in x}
    compiled = load(name)
    execution = Execution(compiled)
    execution.run()
    landed = tables(execution)
    assert list(promised) == list(landed), "every report, in the order written"
    assert saved == {x.title: list(x.axes) for s in execution.stages for x in s.saves}
    reports = {f"{s.experiment}.{s.name}": s for s in compiled.program.sinks if isinstance(s, ir.Report)}
    for report, table in landed.items():
        assert promised[report]["columns"] == list(table.keys), report
        assert (promised[report]["unit"] or "") == table.unit, report
        assert key_columns(reports[report]) == tuple(table.keys), report
        lengths = {len(c) for c in table.keys.values()} | {len(table.value), len(table.n), len(table.se)}
        assert len(lengths) == 1, f"{report}: columns of different lengths"
        assert len({tuple(c) for c in zip(*table.keys.values(), strict=True)}) == (
            len(table.value) if table.keys else 0
        ), f"{report}: a key stands twice"


def test_sweeps_come_first_then_the_axes_that_are_left() -> None:
    (report,) = [
        s for s in load("resid_positions").program.sinks if isinstance(s, ir.Report) and s.name == "rows"
    ]
    assert key_columns(report) == ("at_layer", "at_pos", "example")
    assert [a.name for a in left_axes(report)] == ["batch"]
