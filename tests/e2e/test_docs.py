"""What the README and the manual show runs as it is written; the site is whole and fetches nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from midsl.models.toy import toy
from tests.e2e.conftest import ROOT, Done, Home, Quickstart

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


SPECS = [
    pytest.param(text, id=f"{page.name}-{i}")
    for page in PAGES[1:]
    for i, text in enumerate(re.findall(r"^```mi\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S))
]


@pytest.mark.parametrize("text", SPECS)
def test_its_specs_run(text: str, cli: Callable[..., Done], home: Home) -> None:
    (home.folder / "manual.mi").write_text(text, encoding="utf-8")
    done = cli("run", "manual.mi").expect(0)
    assert "warning" not in done.err


def test_the_site(cli: Callable[..., Done], home: Home) -> None:
    told = cli("doc", "--site", "site", "--json").expect(0).json()
    pages = {p.name: p.read_text(encoding="utf-8") for p in (home.folder / "site").glob("*.html")}
    assert len(pages) == told["pages"] > 100
    assert "<code>" in pages["MI0304.html"] and "logit_diff" in pages["std.metrics.html"]
    for name, text in pages.items():
        assert (
            not re.search(r'(src|href)="(https?:)?//[^"]*\.(js|css|png|woff)', text) and "<script" not in text
        )
        for link in re.findall(r'href="([\w.-]+\.html)"', text):
            assert link in pages, f"{name} leads to {link}"
    (home.folder / "mine").mkdir()
    (home.folder / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    assert cli("doc", "--site", "mine").code == 2, "it writes over nobody's folder"
