"""Facts for checking that come from the text alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.sema.filefacts import FileFacts
from midsl.syntax.tables import load_tables


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileFacts:
    """What arguments say about a model: no cache of this machine takes part."""
    load_tables()  # these may come from the real cache
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(tmp_path))
    return FileFacts()
