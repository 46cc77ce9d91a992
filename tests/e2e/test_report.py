"""`midsl report`: one page, whole, with every kind of plot drawn, and nothing in it that would be fetched."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import pytest

from midsl.ir.plots import PLOTS
from midsl.show import svg
from midsl.show.features import MOST_UNITS
from tests.e2e.conftest import Done, Home

Cli = Callable[..., Done]

SPEC = """language mi 1
## What surprises a model that nobody has trained?
import std.models as models
from std.tasks import induction
from std.metrics import nll
model m = models.toy(layers: 2, heads: 2, d_model: 16, vocab: 32, ctx: 16, seed: 0)
data  d = induction(m.tokenizer, n: 4, period: 4, seed: 0)
experiment e {
  ## allow(L05): random weights do no task
  sweep h in m.blocks[*].attn.z[head: *]
  let base = nll(run m on d.clean)
  report surprise = base
  plot tokens(surprise)
  plot hist2d(surprise, x: pos)
  plot histogram(surprise)
  plot strip(surprise, x: pos)
  report effect = mean(nll(run m on d.clean do { h := 0.5 * self }) - base, over: [batch, pos])
  plot heatmap(effect, x: head, y: layer)
  plot bar(effect)
  plot scatter(effect)
  plot line(effect)
  report flow = graph(effect, from: "a{layer}.h{head}", to: "logits")
  plot graph(flow)
  report units = contexts((run m on d.clean)[m.blocks[*].resid_post], k: 3, window: 2)
  expect all(abs(effect) < 10.0), "<no> head & no 'other' matters"
  expect all(effect > 10.0), "never"
}
"""
FETCHING = (
    "src",
    "href",
    "xlink:href",
    "srcset",
    "data",
    "action",
    "poster",
    "background",
    "formaction",
    "ping",
)


class Page(HTMLParser):
    """What a page is made of: tags in order, attributes that fetch, ids, tags that are not closed."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._attributes(attrs)

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in FETCHING:
                (self.links if (value or "").startswith("#") else self.fetched).append(value or "")
            assert not name.startswith("on"), "no handler"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def figures(text: str) -> Iterator[tuple[str, str]]:
    """Each figure's label and its drawing."""
    for label, body in re.findall(r'<figure tabindex="0" aria-label="([^"]*)">(.*?)</figure>', text, re.S):
        yield label, body[: body.index("</svg>")]


def marks(drawing: str) -> int:
    """How many marks a drawing has that stand for rows."""
    return len(
        re.findall(r'role="graphics-symbol" aria-roledescription="(?!legend|axis|title)[a-z ]+"', drawing)
    )


@pytest.fixture
def text(cli: Cli, home: Home) -> str:
    (home.folder / "untrained.mi").write_text(SPEC)
    cli("run", home.folder / "untrained.mi").expect(3)
    told = cli("report", "--json").expect(0).json()
    assert told["file"].startswith("untrained-") and told["drawn"]
    file: str = told["file"]
    return (home.folder / file).read_text(encoding="utf-8")


def test_a_page_is_whole_and_fetches_nothing(text: str) -> None:
    pytest.importorskip("vl_convert")
    page = Page(text)
    assert page.open == [] and page.fetched == [], "no address in an attribute"
    assert not {"link", "img", "iframe", "object", "embed", "video", "audio", "base"} & set(page.tags)
    assert all('type="application/json"' in s for s in re.findall("<script[^>]*>", text)), "data, no program"
    assert "@import" not in text and not re.search(r"url\((?!#)", text), "nor in a style"
    names = re.sub(r' xmlns(:xlink)?="http://www\.w3\.org/[^"]*"|"\$schema": "https://vega[^"]*"', "", text)
    assert "://" not in names, "names of formats are the only addresses"
    assert "default-src 'none'" in text, "and a browser would refuse"
    assert len(page.ids) == len(set(page.ids)) and {link[1:] for link in page.links} <= {
        *page.ids,
        *re.findall(r'id="([^"]*)"', text),
    }
    for part in ("What surprises a model that nobody has trained?", "1 of 2 expects hold", "midsl explain"):
        assert part in text
    assert html.escape("<no> head & no 'other' matters") in text
    assert "prefers-color-scheme: dark" in text and text.count('tabindex="0"') > 10
    assert '<span class="k">report</span>' in text, "the spec has its colours"
    assert "midsl run" in text and "@misc{untrained_" in text
    values = [float(v) for v in re.findall(r">(-?[\d.]+)x<", text)]
    assert values, "naive against optimised"


def test_units_are_drawn_where_they_are_largest(text: str) -> None:
    units = text[text.index('<section id="units"') :]
    units = units[: units.index("</section>")]
    assert '<a href="#units">' in text and "of 32 units are drawn" in units
    assert units.count('<details class="unit"') == MOST_UNITS
    places = units.count("<li>")
    assert MOST_UNITS <= places <= 3 * MOST_UNITS and units.count("<mark ") == places


def test_every_kind_of_plot_has_its_marks(text: str) -> None:
    pytest.importorskip("vl_convert")
    drawn = {label.split()[0]: drawing for label, drawing in figures(text)}
    assert set(drawn) == set(PLOTS)
    rows = {
        kind: len(json.loads(spec)["data"]["values"])
        for spec in re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
        for kind in [json.loads(spec)["usermeta"]["midsl"]["kind"]]
    }
    counted = {kind: marks(drawing) for kind, drawing in drawn.items()}
    for kind in ("strip", "heatmap", "scatter", "bar"):
        assert counted[kind] >= rows[kind] > 0, kind
    assert counted["heatmap"] == 4
    assert counted["tokens"] == 2 * rows["tokens"], "a colour and a word for each token"
    assert 0 < counted["histogram"] <= rows["histogram"] and 0 < counted["hist2d"] <= rows["hist2d"]
    assert "<title>head: 0; layer: 0; value [nat]:" in drawn["heatmap"], "a mark says what it is"
    assert "currentColor" in drawn["line"], "words have the page's colour"


def test_without_the_drawing_package_the_page_says_so(
    cli: Cli, home: Home, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svg, "_converter", lambda: None)
    done = cli("report", "untrained", "-o", "plain.html").expect(0)
    assert "MI0808" in done.err
    plain = (home.folder / "plain.html").read_text(encoding="utf-8")
    assert "<svg" not in plain and plain.count("not drawn") == len(PLOTS) and "1 of 2 expects hold" in plain
