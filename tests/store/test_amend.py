"""A run may learn what it trained between its beginning and its first rows, and not after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midsl.diagnostics.model import MiError
from midsl.store.db import Store
from midsl.store.record import ModelRecord, RunRecord
from midsl.store.rows import CheckRow


def record(weights: str) -> RunRecord:
    model = ModelRecord(name="m", ref="train", weights_sha256=weights)
    return RunRecord(spec_path="a.mi", spec_name="a", spec_source="", spec_hash="h", models=[model])


def test_the_record_is_replaced_and_the_run_stays_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path)
    writer = store.begin(record(""))
    writer.amend(record("abc"))
    manifest = json.loads((writer.folder / "manifest.json").read_text())
    assert manifest["record"]["models"][0]["weights_sha256"] == "abc"
    assert manifest["record"]["run_uuid"] == writer.run_uuid
    writer.stage("e", checks=[CheckRow("e", "1 > 0", "", True, "", 1)])
    with pytest.raises(MiError, match="rows already"):
        writer.amend(record("later"))
    writer.finish("done", 0)
    store.import_runs()
    assert store.query("SELECT weights_sha256 FROM models").rows == [("abc",)]
