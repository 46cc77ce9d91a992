"""Shared by the tests on real data: where it is, and a spec's reports as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from midsl.cli import main
from midsl.plan.driver import Execution, Stage, compile_spec
from midsl.store.rows import ResultTable

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
EXAMPLES = ROOT / "examples"


def needs(folder: str) -> pytest.MarkDecorator:
    """Skip where this folder of real data is not there."""
    return pytest.mark.skipif(not (DATA / folder).exists(), reason=f"{folder} is not on this machine")


def midsl(*args: object) -> Result:
    """Run the command line in this process."""
    argv = [str(a) for a in args]
    return CliRunner().invoke(main, argv, prog_name="midsl", catch_exceptions=False)


def options(**params: object) -> list[str]:
    """Parameters of a spec as command-line options."""
    return [word for name, value in params.items() for word in ("-p", f"{name}={value}")]


def stages(spec: Path, **params: object) -> dict[str, Stage]:
    """Run a spec without a store: what each experiment gave."""
    execution = Execution(compile_spec(spec, {name: str(value) for name, value in params.items()}))
    execution.run()
    return {stage.experiment: stage for stage in execution.stages}


def tables(stage: Stage) -> dict[str, ResultTable]:
    """The reports of an experiment by name."""
    return {table.report: table for table in stage.tables}


def array(table: ResultTable) -> np.ndarray[Any, Any]:
    """A report as an array with one axis for each key column, in their order; all cells must be there."""
    keys = [_places(column) for column in table.keys.values()]
    shape = tuple(max(places) + 1 for places in keys)
    assert len(table) == int(np.prod(shape)), f"{table.title} has {len(table)} rows for a grid of {shape}"
    out = np.full(shape, np.nan)
    if not keys:
        return table.value.reshape(())
    out[tuple(np.array(places) for places in keys)] = table.value
    return out


def _places(column: Iterable[object]) -> list[int]:
    values = list(column)
    assert all(isinstance(v, int) for v in values), "only whole numbers are places"
    return [int(v) for v in values if isinstance(v, int)]


__all__ = ["DATA", "EXAMPLES", "ROOT", "array", "midsl", "needs", "options", "stages", "tables"]
