"""The page of a run in a real browser: nothing fetched, no complaint, seen in light and dark, used by keys.

Skipped where there is no Chromium (Debian's `chromium`, or `playwright install chromium`) or no playwright.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from midsl.ir.plots import PLOTS
from tests.e2e.conftest import Done, Home
from tests.e2e.test_report import SPEC

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("vl_convert")
Cli = Callable[..., Done]
MARKS = '[role="graphics-symbol"]' + "".join(
    f':not([aria-roledescription*="{w}"])' for w in ("legend", "axis", "title")
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    with playwright.sync_playwright() as started:
        own = Path(started.chromium.executable_path)
        names = ("chromium", "chromium-browser", "google-chrome")
        found = str(own) if own.exists() else next(filter(None, map(shutil.which, names)), None)
        if found is None:
            pytest.skip("no Chromium")
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page_file(cli: Cli, home: Home) -> Path:
    (home.folder / "untrained.mi").write_text(SPEC, encoding="utf-8")
    cli("run", "untrained.mi").expect(3)
    cli("report", "-o", "page.html").expect(0)
    return home.folder / "page.html"


def test_a_page_in_a_browser(browser: Any, page_file: Path) -> None:
    asked, said, shots = [], [], []
    held = {
        json.loads(spec)["usermeta"]["midsl"]["kind"]: len(json.loads(spec)["data"]["values"])
        for spec in re.findall(
            r'<script type="application/json">(.*?)</script>', page_file.read_text("utf-8"), re.S
        )
    }
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1100, "height": 900})
        page.on("request", lambda r: asked.append(r.url))
        page.on("requestfailed", lambda r: said.append(f"failed: {r.url}"))
        page.on("console", lambda m: said.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: said.append(f"error: {e}"))
        page.goto(page_file.as_uri())
        counted = {
            label.split()[0]: figure.locator(MARKS).count()
            for figure in page.locator("figure").all()
            if (label := figure.get_attribute("aria-label"))
        }
        assert set(counted) >= set(PLOTS) - {"graph"} and counted["heatmap"] == held["heatmap"] == 4
        assert counted["strip"] == held["strip"] and counted["tokens"] == 2 * held["tokens"]
        assert counted["scatter"] == held["scatter"] and counted["bar"] >= held["bar"]
        for figure in page.locator("figure svg").all():
            box = figure.bounding_box()
            assert box["width"] > 100 and box["height"] > 40, "it has a size"
        assert contrast(page, "body") > 7 and contrast(page, "main p") > 4.5
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it fits the width"
        shots.append(page.screenshot(path=page_file.with_name(f"{scheme}.png"), full_page=True))
        page.close()
    assert set(asked) == {page_file.as_uri()}, "nothing but the page itself is asked for"
    assert said == [], "nothing is complained of"
    assert all(s.startswith(b"\x89PNG") and len(s) > 20_000 for s in shots) and shots[0] != shots[1]


def test_a_page_by_keys_alone(browser: Any, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip", "first of all, past the heading"
    assert page.locator(".skip").bounding_box()["x"] >= 0, "seen once it is reached"
    page.keyboard.press("Enter")
    assert page.url.endswith("#results")
    reached: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        tag, outline = page.evaluate(
            "() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [e.tagName, s.outlineStyle] }"
        )
        if tag == "BODY":
            break
        reached.append(tag)
        assert outline != "none", f"one sees where one is: {tag}"
        if tag == "SUMMARY":
            opened = "document.activeElement.parentElement.open"
            before = page.evaluate(opened)
            page.keyboard.press("Enter")
            assert page.evaluate(opened) != before, "a fold opens by a key"
            page.keyboard.press("Enter")
    assert {"FIGURE", "SUMMARY", "PRE", "DIV"} <= set(reached)
    assert page.evaluate("document.querySelectorAll('main h2').length") >= 5
    page.close()


def contrast(page: Any, selector: str) -> float:
    """How far the text of an element stands out from the page, as WCAG counts it."""
    ink, paper = page.evaluate(
        "s => [getComputedStyle(document.querySelector(s)).color,"
        " getComputedStyle(document.body).backgroundColor]",
        selector,
    )
    levels = sorted(map(_luminance, (ink, paper)))
    return (levels[1] + 0.05) / (levels[0] + 0.05)


def _luminance(color: str) -> float:
    parts = [int(c) / 255 for c in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
