"""A verification in the store: a run with checks and no results, so that a page can say what was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from midsl.diagnostics.model import Bag
from midsl.plan.driver import Compiled
from midsl.plan.explain import explain
from midsl.plan.record import record_of
from midsl.plan.verify import TOLERANCE, Verdict, Verification
from midsl.store.db import Store
from midsl.store.rows import CheckRow


def store_verification(
    compiled: Compiled, done: Verification, folder: Path, params: Mapping[str, str], argv: Sequence[str]
) -> str:
    """Keep each verdict as a row of `checks`; returns the run's id."""
    store = Store(folder.resolve())
    writer = store.begin(record_of(compiled, params, list(argv), explain(compiled, {})))
    for experiment in dict.fromkeys(v.experiment for v in done.verdicts):
        checks = [_check(v, done) for v in done.verdicts if v.experiment == experiment]
        writer.stage(experiment or "verify", checks=checks)
    writer.finish("verified" if done.agrees else "differs", 0 if done.agrees else 1)
    store.import_runs(Bag())
    return writer.run_uuid


def _check(v: Verdict, done: Verification) -> CheckRow:
    seen = f"{v.rows} rows, largest error {v.error:.1e} in float64, {v.own_error:.1e} in its own precision"
    some = "; ".join(f"{a} of {b} points of `{n}`" for n, (a, b) in done.sampled.items())
    why = f"the plan and the oracle agree within {TOLERANCE:.0e}" + (f" (checked: {some})" if some else "")
    return CheckRow(v.experiment, v.name, why, v.agrees, seen, v.line, "verify")
