"""A store, and a way to put runs into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from midsl.store.db import Store
from midsl.store.rows import ResultTable
from tests.store.samples import Ran, record, table


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", patience=5)


@pytest.fixture
def ran(store: Store) -> Ran:
    """Write a whole run with the given tables and return its uuid; it is not imported."""

    def go(*tables: ResultTable, spec: str = "quickstart", status: Any = "done", **more: Any) -> str:
        writer = store.begin(record(spec, **more))
        writer.stage("all", list(tables) or [table()])
        writer.finish(status, 0)
        return writer.run_uuid

    return go
