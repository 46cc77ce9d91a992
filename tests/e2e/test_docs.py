"""The Python of the README and of the manual runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from midsl.models.toy import toy
from tests.e2e.conftest import ROOT, Home, Quickstart

PAGES = [ROOT / "README.md", *sorted((ROOT / "grammar" / "manual").glob("*.md"))]
SNIPPETS = [
    pytest.param(text, id=f"{page.name}-{i}")
    for page in PAGES
    for i, text in enumerate(
        re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    )
]


@pytest.mark.parametrize("text", SNIPPETS)
def test_its_python_runs(
    text: str, quickstart: Quickstart, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that has the examples; `module` is a torch module of the reader's own."""
    quickstart.done.expect(0)
    (home.folder / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(home.folder)
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(home.cache))
    module = toy(
        layers=2, heads=4, d_model=32, d_head=16, vocab=32, ctx=25, norm="none", pos="rotary", bias=False
    )
    exec(compile(text, str(Path("snippet.py")), "exec"), {"module": module.module})
