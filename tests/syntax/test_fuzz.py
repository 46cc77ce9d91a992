"""Whatever is fed in, parse, check and fmt answer: never an exception, never without bound.

Short here; `MIDSL_FUZZ_SECONDS=600 pytest -m slow tests/syntax/test_fuzz.py` goes on for ten minutes.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midsl.diagnostics.model import Bag, MiError
from midsl.diagnostics.render import render_json, render_text
from midsl.sema.check import check_text
from midsl.sema.filefacts import FileFacts
from midsl.source import SourceFile
from midsl.syntax.fmt import format_source
from midsl.syntax.parse import parse
from tests.syntax.sentences import sentence, sentences

HERE = Path(__file__).parents[1]
TEXTS = [p.read_text(encoding="utf-8") for p in sorted(HERE.glob("corpus*/**/*.mi"))]
WORDS = sorted({w for t in TEXTS for w in t.split() if len(w) < 20})
CHECKED = [t for t in TEXTS if "hf" not in t and "file(" not in t and len(t) < 3000]
SECONDS = float(os.environ.get("MIDSL_FUZZ_SECONDS", "30"))


def answers(text: str, check: bool = False) -> None:
    """Parse, format and (if asked) check a text; each ends in a result or in diagnostics."""
    source = SourceFile("fuzz.mi", text)
    bag = Bag()
    tree = parse(source, bag)
    assert tree is not None or bag.errors
    render_text(bag)
    render_json(bag)
    if bag.errors:
        with pytest.raises(MiError):
            format_source(source)
    else:
        done = format_source(source)
        assert format_source(SourceFile("fuzz.mi", done)) == done
    if check:
        found = check_text(text, "fuzz.mi", FileFacts())
        assert not any(d.code == "MI0901" for d in found)
        render_text(found)


def mutated(random: Random, texts: list[str]) -> str:
    """A text after a few cuts, splices, swaps of words and stray bytes."""
    text = random.choice(texts)
    for _ in range(random.randint(1, 6)):
        at = random.randint(0, len(text))
        to = min(len(text), at + random.choice([1, 1, 3, 10, 60]))
        kind = random.randint(0, 5)
        if kind == 0:
            text = text[:at] + text[to:]
        elif kind == 1:
            other = random.choice(texts)
            start = random.randint(0, len(other))
            text = text[:at] + other[start : start + random.randint(1, 80)] + text[to:]
        elif kind == 2:
            text = text[:at] + random.choice(WORDS) + text[to:]
        elif kind == 3:
            text = text[:at] + random.randbytes(random.randint(1, 4)).decode("latin-1") + text[to:]
        elif kind == 4:
            text = text[:at] + text[at:to] * random.randint(2, 8) + text[to:]
        else:
            text = text[:at] + random.choice('(){}[]"#.:,=*<>|-\n') + text[to:]
    return text


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_mutations_are_answered(seed: int) -> None:
    answers(mutated(Random(seed), TEXTS))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_mutations_are_checked(seed: int) -> None:
    answers(mutated(Random(seed), CHECKED), check=True)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_are_answered(data: bytes) -> None:
    for text in (data.decode("latin-1"), data.decode("utf-8", errors="replace")):
        answers(text)
        answers("language mi 1\n" + text)


@settings(max_examples=60, deadline=None)
@given(sentences())
def test_sentences_are_checked(text: str) -> None:
    answers(text, check=True)


DEEP = {
    "parens": ("let x = ", "(", "1", ")"),
    "lists": ("let x = ", "[", "1", "]"),
    "records": ("let x = ", "{ a: ", "1", " }"),
    "calls": ("let x = ", "f(", "1", ")"),
    "indices": ("let x = ", "z[", "1", "]"),
    "signs": ("let x = ", "-", "1", ""),
    "nots": ("let x = ", "not ", "true", ""),
    "choices": ("let x = ", "if true then ", "1", " else 2"),
    "lambdas": ("let x = ", "fn () => ", "1", ""),
    "powers": ("let x = ", "2 ** ", "1", ""),
    "edits": ("let x = ", "run m on d do { z := ", "1", " }"),
    "types": ("let x: ", "fn(", "Int", ") -> Int"),
    "blocks": ("", "experiment e { ", "", " }"),
    "open": ("let x = ", "(", "", ""),
    "closed": ("let x = ", "1)", "", ""),
}
LONG = {
    "sums": "let x = 1" + " + 1" * 20_000,
    "ands": "let x = true" + " and true" * 20_000,
    "fields": "let x = a" + ".b" * 20_000,
    "postfix": "let x = a" + "[0](1)" * 10_000,
    "unions": "let x = a" + " | a" * 20_000,
}


@pytest.mark.parametrize("name", sorted(DEEP))
def test_deep_nesting_is_bounded(name: str) -> None:
    head, opening, middle, closing = DEEP[name]
    for depth in (20, 100, 10_000):
        tail = " = 1" if name == "types" else ""
        text = f"language mi 1\n{head}{opening * depth}{middle}{closing * depth}{tail}\n"
        start = time.process_time()
        answers(text, check=True)
        assert time.process_time() - start < 10


@pytest.mark.parametrize("name", sorted(LONG))
def test_long_chains_are_bounded(name: str) -> None:
    """They lean to the left: no bracket is open, and the tree is deep all the same."""
    start = time.process_time()
    answers("language mi 1\n" + LONG[name] + "\n", check=True)
    assert time.process_time() - start < 10


def test_what_is_just_not_too_deep_goes_through() -> None:
    """The bounds of the parser are within those of all later walks."""
    for text in ("1.0" + " + 1.0" * 148, "-" * 60 + "1.0", "(" * 60 + "1.0" + ")" * 60):
        whole = f"language mi 1\nexperiment e {{ report x = {text} }}\n"
        bag = check_text(whole, "fuzz.mi", FileFacts())
        assert not bag.errors, render_text(bag)
        answers(whole, check=True)


STATEMENT = "  let x{i} = mean(ld(clean) - ld(corrupt), over: batch) / gap   ## number {i}\n"


@pytest.mark.parametrize("broken", [pytest.param(False, marks=pytest.mark.slow), True])
def test_ten_thousand_lines(broken: bool) -> None:
    """In seconds and megabytes, with an error on every third line or with none."""
    lines = [STATEMENT.format(i=i) for i in range(10_000)]
    if broken:
        lines = [x.replace("(ld", "((ld") if i % 3 == 0 else x for i, x in enumerate(lines)]
    text = "language mi 1\nexperiment e {\n" + "".join(lines) + "}\n"
    start = time.process_time()
    bag = Bag()
    parse(SourceFile("a.mi", text), bag)
    assert bool(bag.errors) == broken
    assert time.process_time() - start < 30, "far more than it takes, far less than a quadratic walk"
    tracemalloc.start()
    part = "language mi 1\nexperiment e {\n" + "".join(lines[:1500]) + "}\n"
    answers(part)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.slow
def test_for_a_long_time() -> None:
    """New seeds each time; a failure prints its text."""
    end, count, seed = time.monotonic() + SECONDS, 0, time.time_ns()
    while time.monotonic() < end:
        random = Random(seed + count)
        kind = count % 4
        text = (
            sentence(random.randint(0, 2**32)) if kind == 3 else mutated(random, CHECKED if kind else TEXTS)
        )
        try:
            answers(text, check=kind in (1, 2))
        except BaseException:
            print(f"seed {seed + count}:\n{text}")
            raise
        count += 1
    print(f"{count} programs in {SECONDS:.0f} s")
    assert count > SECONDS / 2
