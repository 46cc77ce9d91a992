"""Ten million rows into a store and questions to it: ``python -m tests.bench.store [ROWS]``.

Writing is from Python lists of keys to the run's Parquet parts; importing is from there to the database. Wall
and CPU seconds of each, and the best of five of each question, opening the database included.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from midsl.store.db import Store
from midsl.store.record import RunRecord
from midsl.store.rows import ResultTable

SIZES = {"layer": 12, "head": 12, "pos": 40, "example": 1737}
QUESTIONS = (
    "SELECT * FROM e.r ORDER BY value DESC LIMIT 5",
    "SELECT * FROM e.r WHERE layer = 5 AND head = 3 AND pos = 7 ORDER BY abs(value) DESC LIMIT 10",
    "SELECT layer, head, avg(value) AS mean FROM e.r GROUP BY ALL ORDER BY mean DESC",
    "SELECT pos, max(value) FROM e.r GROUP BY pos ORDER BY pos",
    "SELECT count(*) FROM e.r WHERE value > 2",
    "SELECT max(value) FROM latest_results",
    "SELECT run_id, status FROM runs",
)


def table(rows: int) -> ResultTable:
    """Rows along four axes, the last one fastest."""
    index, keys = np.arange(rows), {}
    for axis, size in reversed(SIZES.items()):
        keys[axis] = (index % size).tolist()
        index //= size
    value = np.random.default_rng(0).normal(size=rows)
    ordered = {axis: keys[axis] for axis in SIZES}
    return ResultTable("e", "r", ordered, value, np.ones(rows, dtype=np.int64), np.full(rows, np.nan))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(rows: int, root: Path) -> dict[str, object]:
    """Fill a store and ask it."""
    store, big = Store(root), table(rows)

    def write() -> None:
        writer = store.begin(RunRecord(spec_path="s.mi", spec_name="s", spec_source="", spec_hash="s"))
        writer.stage("e", [big])
        writer.finish("done", 0)

    written, imported = timed(write), timed(store.import_runs)
    both = [a + b for a, b in zip(written, imported, strict=True)]
    asked = {}
    for sql in QUESTIONS:
        runs = [timed(lambda sql=sql: store.query(sql)) for _ in range(5)]  # type: ignore[misc]
        asked[sql] = [round(min(column), 3) for column in zip(*runs, strict=True)]
    return {
        "rows": rows,
        "write": written,
        "import": imported,
        "million rows a second": {"wall": rows / both[0] / 1e6, "cpu": rows / both[1] / 1e6},
        "questions, wall and cpu": asked,
        "bytes": store.path.stat().st_size,
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
        print(json.dumps(measure(count, Path(folder) / "store"), indent=1))
