"""The units of a page: which are drawn and which are told of, colours, and texts that would be HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np

from midsl.show.features import MOST_PLACES, MOST_UNITS, passes, section
from midsl.store.rows import ResultTable

EVIL = ("<script>alert(1)</script>", '"onmouseover="x', "&amp;", "\x1b[31m", "\u202etxt", "a\nb")


def table(report: str, rows: list[tuple[Any, ...]], *keys: str) -> ResultTable:
    columns = {k: [r[i] for r in rows] for i, k in enumerate(keys)}
    value = np.asarray([r[-1] for r in rows], dtype=np.float64)
    return ResultTable("e", report, columns, value, np.ones(len(rows), np.int64), np.full(len(rows), np.nan))


def tables(units: int, places: int, words: tuple[str, ...] = ("a", "b", "c")) -> list[ResultTable]:
    """Unit u has values u, u - 1, ..; unit 0 has no place."""
    live = range(1, units)
    top = [(u, r, r, 5, words[1], float(u) - r) for u in live for r in range(places)]
    tokens = [
        (u, r, s, words[(u + r + s) % len(words)], float(u) - r if s == 0 else -0.5)
        for u in live
        for r in range(places)
        for s in (-1, 0, 1)
    ]
    effects = [(u, r, words[r % len(words)], 0.5 - r) for u in range(units) for r in range(2)]
    numbers = {
        "density": [(0, 0.0)] + [(u, 0.125) for u in live],
        "mean": [(0, np.nan)] + [(u, 1.0) for u in live],
        "largest": [(0, np.nan)] + [(u, float(u)) for u in live],
    }
    return [
        *(table(f"f_features.{c}", rows, "feature") for c, rows in numbers.items()),
        table("f_top", top, "feature", "rank", "example", "pos", "token"),
        table("f_tokens", tokens, "feature", "rank", "shift", "token"),
        table("f_promoted", effects, "feature", "rank", "token"),
        table("f_suppressed", effects, "feature", "rank", "token"),
        table("f_other", [(1, 2.0)], "feature"),
    ]


class Seen(HTMLParser):
    """Tags with their attributes, in order; each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def count(self, tag: str) -> int:
        return sum(t == tag for t, _ in self.tags)


def test_the_largest_units_are_drawn_and_the_rest_is_told_of() -> None:
    (p,) = passes(tables(units=40, places=12))
    text = section(p, "spec")
    seen = Seen(text)
    assert seen.count("details") == MOST_UNITS and seen.count("li") == MOST_UNITS * MOST_PLACES
    assert seen.count("mark") == seen.count("li"), "the place itself is marked, once in each text"
    assert re.findall(r"<summary>feature (\d+):", text) == [str(39 - i) for i in range(MOST_UNITS)]
    assert f"{MOST_UNITS} of 40 units are drawn, 39 are ever active" in text
    assert f"{MOST_PLACES} of 12 places" in text
    assert "ORDER BY largest DESC LIMIT 24" in text and "FROM e.f_tokens WHERE feature = 16" in text
    assert text.count('<details class="unit" open>') == 1, "the first is open, the others open by a key"
    assert "on at 12.5 % of positions, 1 there on average, 39 at most" in text
    assert text.count("<p>promotes ") == text.count("<p>suppresses ") == MOST_UNITS


def test_few_units_and_none_that_is_active() -> None:
    (p,) = passes(tables(units=3, places=2))
    assert Seen(section(p, "spec")).count("details") == 2
    silent = [t for t in tables(units=1, places=1)]
    (p,) = passes(silent)
    assert "0 of 1 units are drawn" in section(p, "spec") and Seen(section(p, "spec")).count("details") == 0
    assert passes([table("x_top", [(0, 1.0)], "feature")]) == [], "another report of such a name"


def test_colours_go_by_size_and_sign() -> None:
    (p,) = passes(tables(units=2, places=1))
    text = section(p, "spec")
    assert 'rgba(200, 90, 0, 0.55)">b</mark>' in text, "the greatest value has the strongest colour"
    assert 'title="-0.5" style="background: rgba(30, 90, 220, 0.28)"' in text


def test_a_token_is_text_and_nothing_else() -> None:
    (p,) = passes(tables(units=6, places=6, words=EVIL))
    text = section(p, "spec")
    seen = Seen(text)
    assert {t for t, _ in seen.tags} <= {"p", "pre", "details", "summary", "ol", "li", "span", "mark", "code"}
    assert {a for _, attrs in seen.tags for a in attrs} <= {"class", "open", "title", "style", "tabindex"}
    assert "&lt;script&gt;alert(1)" in text and "&amp;amp;" in text
    assert not re.search("[\x00-\x08\x1b\u202e]", text), "nothing that moves or turns what is read"
    assert "a↵b" in text
