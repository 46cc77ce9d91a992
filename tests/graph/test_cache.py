"""Descriptions survive on disk, and damaged ones count as absent."""

import subprocess
import sys
from pathlib import Path

import pytest

from midsl.graph.cache import info_path, load_info, save_info
from midsl.graph.info import ModelInfo
from tests.graph.families import graph


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(tmp_path))


def test_round_trip() -> None:
    info = graph("tiny_gated").info
    assert load_info(info.key) is None
    save_info(info)
    assert load_info(info.key) == info
    assert load_info(info.key + "x") is None


def test_a_damaged_file_is_absent_and_replaced() -> None:
    info = ModelInfo(arch="a", key="k", sizes={}, sites=())
    save_info(info)
    info_path("k").write_text("{not json")
    assert load_info("k") is None
    save_info(info)
    assert load_info("k") == info
    assert [p.suffix for p in info_path("k").parent.iterdir()] == [".json"]


def test_reading_needs_no_torch() -> None:
    code = (
        "import sys; from midsl.graph.cache import load_info; load_info('x'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
