"""How diagnostics look: one golden text per shape, the same facts as JSON."""

from __future__ import annotations

import json
import re

import pytest

from midsl.diagnostics.model import Diagnostic, Label
from midsl.diagnostics.render import render_json, render_text
from midsl.diagnostics.suggest import did_you_mean
from midsl.source import SourceFile, Span

SOURCE = SourceFile(
    "ioi.mi",
    "language mi 1\n"
    "let clean = run m on d.clean\n"
    "let patched = run m on e.corrupt do { z := clean[z] }\n"
    "let s = {\n"
    "  a: 1,\n"
    "  b: 2 }\n"
    'let\ttab = "日本" + x\n'
    "last",
)


def at(text: str, source: SourceFile = SOURCE, nth: int = 0) -> Span:
    start = -1
    for _ in range(nth + 1):
        start = source.text.index(text, start + 1)
    return Span(source, start, start + len(text))


def shown(d: Diagnostic) -> list[str]:
    return render_text([d]).splitlines()


def test_primary_and_secondary_on_one_line() -> None:
    d = Diagnostic(
        "MI0304",
        "these two runs do not share a `pos` axis",
        at("clean[z]"),
        "`pos` of d.clean",
        (Label(at("e.corrupt"), "this run's `pos` comes from e.corrupt"),),
        "take both prompts from one paired task",
    )
    assert shown(d) == [
        "error[MI0304]: these two runs do not share a `pos` axis",
        " --> ioi.mi:3:44",
        "3 | let patched = run m on e.corrupt do { z := clean[z] }",
        "  |                        ---------           ^^^^^^^^ `pos` of d.clean",
        "  |                        this run's `pos` comes from e.corrupt",
        "  = help: take both prompts from one paired task",
    ]


def test_secondary_behind_the_primary_on_one_line() -> None:
    d = Diagnostic("MI0101", "m", at("patched"), "first", (Label(at("clean[z]"), "second"),))
    assert shown(d)[3:] == [
        "  |     ^^^^^^^                                 -------- second".replace("^       ", "^      ", 1),
        "  |     first",
    ]


def test_lines_apart() -> None:
    d = Diagnostic(
        "MI0101", "m", at("last"), "here", (Label(at("clean"), "there"), Label(at("a: 1"), "and there"))
    )
    assert shown(d)[1:] == [
        " --> ioi.mi:8:1",
        "2 | let clean = run m on d.clean",
        "  |     ----- there",
        "...",
        "5 |   a: 1,",
        "  |   ---- and there",
        "...",
        "8 | last",
        "  | ^^^^ here",
    ]


def test_span_over_several_lines() -> None:
    d = Diagnostic("MI0101", "m", at("{\n  a: 1,\n  b: 2 }"), "this record")
    assert shown(d)[2:] == [
        "4 | let s = {",
        "  |         ^",
        "5 |   a: 1,",
        "6 |   b: 2 }",
        "  |   ^^^^^^ this record",
    ]


def test_tabs_and_wide_characters() -> None:
    d = Diagnostic(
        "MI0101", "m", at("x", nth=0) if False else Span(SOURCE, at("+ x").start, at("+ x").end), "sum"
    )
    line, marks = shown(d)[2:4]
    assert line == '7 | let tab = "日本" + x'
    # Each wide character takes two columns, so the mark stands two further right than in characters.
    assert marks == "  | " + " " * (len('let tab = "日本" ') + 2) + "^^^ sum"


def test_nothing_to_mark() -> None:
    assert shown(Diagnostic("MI0803", "no store", help="run something first")) == [
        "error[MI0803]: no store",
        "  = help: run something first",
    ]
    end = Diagnostic("MI0102", "end", Span(SOURCE, len(SOURCE.text), len(SOURCE.text)), "here")
    assert shown(end)[2:] == ["8 | last", "  |     ^ here"]
    beyond = Diagnostic("MI0102", "end", Span(SOURCE, 10_000, 10_001), "here")
    assert shown(beyond)[2:] == ["8 | last", "  |     ^ here"]


def test_a_note_in_another_file() -> None:
    other = SourceFile("lib.mi", "language mi 1\nfn f(a: Int) -> Int = a\n")
    d = Diagnostic("MI0301", "m", at("last"), "here", (Label(at("a: Int", other), "declared here"),))
    assert shown(d)[1:] == [
        " --> ioi.mi:8:1",
        "8 | last",
        "  | ^^^^ here",
        " ::: lib.mi:2:6",
        "2 | fn f(a: Int) -> Int = a",
        "  |      ------ declared here",
    ]


def test_severities_and_several() -> None:
    text = render_text(
        [Diagnostic("MI0512", "a", severity="warning"), Diagnostic("MI0604", "b", severity="note")]
    )
    assert text == "warning[MI0512]: a\n\nnote[MI0604]: b\n"
    assert render_text([]) == ""


def test_color_changes_nothing_but_color() -> None:
    d = Diagnostic("MI0101", "m", at("patched"), "first", (Label(at("clean[z]"), "second"),), "help")
    colored = render_text([d], color=True)
    assert colored != render_text([d])
    assert re.sub(r"\x1b\[\d*m", "", colored) == render_text([d])


def test_control_characters_do_not_reach_the_terminal() -> None:
    source = SourceFile("t.mi", "let a = \x1b[31m\x00 1")
    assert "\x1b" not in render_text([Diagnostic("MI0103", "m", Span(source, 8, 9), "l")])


def test_json() -> None:
    d = Diagnostic("MI0101", "m", at("{\n  a: 1,\n  b: 2 }"), "l", (Label(at("last"), "n"),), "h", "warning")
    place = {"file": "ioi.mi", "line": 4, "col": 9, "end_line": 6, "end_col": 9}
    note = {"label": "n", "file": "ioi.mi", "line": 8, "col": 1, "end_line": 8, "end_col": 5}
    got = render_json([d, Diagnostic("MI0803", "none")])
    assert got[0] == {
        "code": "MI0101",
        "severity": "warning",
        "message": "m",
        **place,
        "label": "l",
        "notes": [note],
        "help": "h",
        "fix": None,
    }
    assert got[1]["file"] is None and got[1]["line"] is None
    assert json.loads(json.dumps(got)) == got


@pytest.mark.parametrize(
    ("name", "names", "meant"),
    [
        ("resid_pots", ["resid_pre", "resid_post"], "resid_post"),
        ("W_o", ["W_O", "W_E"], "W_O"),
        ("heda", ["head", "heads"], "head"),
        ("ab", ["ac", "aa"], ""),
        ("abc", ["abd", "abe"], "abd"),
        ("abc", ["abe", "abd"], "abd"),
        ("x", ["x"], ""),
        ("zzz", ["head"], ""),
        ("", ["head"], ""),
    ],
)
def test_did_you_mean(name: str, names: list[str], meant: str) -> None:
    assert did_you_mean(name, names) == (f"did you mean `{meant}`?" if meant else "")
