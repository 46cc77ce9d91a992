"""Small runs to put into stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from midsl.store.record import RunRecord
from midsl.store.rows import Key, ResultTable

Ran = Callable[..., str]


def record(spec: str = "quickstart", **more: Any) -> RunRecord:
    return RunRecord(
        spec_path=f"examples/{spec}.mi",
        spec_name=spec,
        spec_source="edition 2026\n",
        spec_hash=f"h-{spec}",
        **more,
    )


def table(
    experiment: str = "patching",
    report: str = "effect",
    keys: Mapping[str, Sequence[Key]] | None = None,
    value: list[float] | None = None,
    **more: Any,
) -> ResultTable:
    keys = {"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1]} if keys is None else keys
    rows = max((len(values) for values in keys.values()), default=1)
    values = np.arange(rows, dtype=float) if value is None else np.array(value, dtype=float)
    return ResultTable(experiment, report, keys, values, np.full(rows, 7), np.full(rows, np.nan), **more)
