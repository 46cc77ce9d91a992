"""However a program is mangled, the parser answers with diagnostics, in place and in order."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from midsl.diagnostics.model import Bag
from midsl.diagnostics.render import render_json, render_text
from midsl.source import SourceFile
from midsl.syntax import ast
from midsl.syntax.dump import dump
from midsl.syntax.parse import parse

TEXTS = [p.read_text() for p in sorted((Path(__file__).parents[1] / "corpus").glob("*.mi"))]
PIECES = [
    *"{}()[]:=,.|*+-<>\"'#;\\@\n \t\0é世",
    ":=",
    "..",
    "=>",
    "->",
    "~=",
    "##",
    "\r\n",
    " run ",
    " let ",
    " do {",
]
PIECES += [
    "\nexperiment e {",
    "\nlet x = ",
    "\nfn f(",
    " fn ",
    " if ",
    "\nlanguage mi 1\n",
    "\nimport ",
    "9" * 20,
    "1e999",
]


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """A good program after a few cuts, repeats and insertions."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        to = min(len(text), at + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(["cut", "insert", "repeat", "swap", "stop"]))
        if kind == "cut":
            text = text[:at] + text[to:]
        elif kind == "insert":
            text = text[:at] + draw(st.sampled_from(PIECES)) + text[at:]
        elif kind == "repeat":
            text = text[:to] + text[at:]
        elif kind == "swap":
            text = text[:at] + text[at:to][::-1] + text[to:]
        else:
            text = text[:at]
    return text


def answers(text: str) -> None:
    source = SourceFile("t.mi", text)
    bag = Bag()
    module = parse(source, bag)
    assert module is None or isinstance(module, ast.Module)
    assert module is not None or bag.errors
    if module is not None:
        dump(module)
    starts = [d.span.start for d in bag]
    assert starts == sorted(starts)
    for d in bag:
        assert d.code.startswith("MI01") and d.message and d.label and d.help
        assert 0 <= d.span.start <= d.span.end <= len(text)
    if bag.errors:
        assert render_text(bag).count("error[MI") >= len(bag.errors)
        assert len(render_json(bag)) == len(bag)


@settings(max_examples=200, deadline=None)
@given(mangled())
def test_mangled_programs_are_answered(text: str) -> None:
    answers(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("".join(PIECES) + "abz019_A"), max_size=80))
def test_noise_is_answered(text: str) -> None:
    answers("language mi 1\n" + text)
    answers(text)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(TEXTS), st.data())
def test_an_error_in_one_declaration_leaves_the_others(text: str, data: st.DataObject) -> None:
    """A broken binding in front of a declaration costs that binding, and nothing else."""
    whole = parse(SourceFile("t.mi", text), Bag())
    assert whole is not None
    at = data.draw(st.sampled_from([d.span.start for d in whole.decls if _starts_line(text, d.span.start)]))
    bad = data.draw(
        st.sampled_from(
            ["let bad = (1\n", "let bad = = 2\n", "let bad := 3\n", "let bad =\n", "let bad = @\n"]
        )
    )
    bag = Bag()
    rest = parse(SourceFile("t.mi", text[:at] + bad + text[at:]), bag)
    assert len(bag.errors) == 1
    assert rest is not None and rest.decls == whole.decls and rest.broken == {"bad"}


def _starts_line(text: str, at: int) -> bool:
    return at == 0 or text[at - 1] == "\n"
