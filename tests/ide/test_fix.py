"""Fixes mend what they say they mend, a text at a time and by the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from midsl.cli import main
from midsl.diagnostics.fixes import fix_of
from midsl.diagnostics.model import Bag
from midsl.ide.fix import fix_source
from midsl.sema.check import check_text
from midsl.sema.filefacts import FileFacts
from midsl.source import SourceFile
from midsl.syntax.parse import parse

CORPUS = Path(__file__).parents[1] / "corpus_bad"
HEAD = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import nll
model m = models.toy(vocab: 32)
data d = induction(m.tokenizer, n: 4, period: 4)
experiment e {
  let base = run m on d.clean
  report loss = mean(nll(base), over: [batch, pos])
}
"""


def fixed(text: str) -> str:
    return fix_source(SourceFile("a.mi", text)).text


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("nll(base)", "nll(bsae)"),
        ("d.clean", "d.claen"),
        ("models.toy", "models.tyo"),
        ("vocab: 32", "vocb: 32"),
        ("over: [batch, pos]", "over: [bacth, pos]"),
        ("import std.models", "import std.modles"),
        ("import induction", "import inductoin"),
        ("language mi 1\n", ""),
        ("language mi 1\n", "language mi\n"),
        ("n: 4, period", "n: 4; period"),
        ("let base = ", "let base := "),
        ("run m on d.clean", "run m on d.clean;"),
        ("period: 4", "period = 4"),
    ],
)
def test_what_it_mends(right: str, wrong: str) -> None:
    assert not check_text(HEAD, facts=FileFacts()).errors
    text = HEAD.replace(right, wrong, 1)
    assert check_text(text, facts=FileFacts()).errors
    if wrong in ("period = 4", "n: 4; period"):  # more than one reading: left to the author
        assert fixed(text) == text.replace(";", "")
    else:
        assert fixed(text) == HEAD


def test_quotes_and_foreign_signs() -> None:
    text = "language mi 1\nlet a = 'x\"y'\nlet b = 1 − 2\nlet c = true & false\nlet e = True\n"
    assert fixed(text) == (
        'language mi 1\nlet a = "x\\"y"\nlet b = 1 - 2\nlet c = true and false\nlet e = true\n'
    )


def test_several_rounds() -> None:
    """Behind a syntax error there is a misspelt name: both go."""
    assert fixed(HEAD.replace("nll(base)", "nll(bsae)").replace("let base =", "let base :=")) == HEAD


def test_every_fix_of_the_bad_corpus_takes_its_error_away() -> None:
    facts, count = FileFacts(), 0
    for path in sorted(CORPUS.glob("0[1234]_*/*.mi")):
        source = SourceFile(path.name, path.read_text(encoding="utf-8"))
        bag = Bag()
        if path.parent.name == "01_syntax":
            parse(source, bag)
        else:
            bag = check_text(source.text, path.name, facts)
        for d in bag:
            if (fix := fix_of(d)) is None:
                continue
            count += 1
            text = d.span.source.text
            after = text[: fix.span.start] + fix.text + text[fix.span.end :]
            left = Bag()
            if path.parent.name == "01_syntax":
                parse(SourceFile(path.name, after), left)
            else:
                left = check_text(after, path.name, facts)
            gone = (d.code, d.message) not in {(x.code, x.message) for x in left} or len(left) < len(bag)
            assert gone, f"{path.name}: {d.message} -> {fix.text!r}"
    assert count > 20


def test_command(tmp_path: Path) -> None:
    spec = tmp_path / "a.mi"
    text = HEAD.replace("bsae", "base").replace("nll(base)", "nll(bsae)")
    spec.write_text(text)
    run = CliRunner().invoke
    dry = run(main, ["fix", "--dry-run", str(spec)])
    assert dry.exit_code == 0 and "`bsae` -> `base`" in dry.stdout
    assert re.search(r"^-.*bsae", dry.stdout, re.M) and spec.read_text() == text
    told = json.loads(run(main, ["fix", "--json", str(spec)]).stdout)
    assert told["files"][0]["fixes"] == [
        {"code": "MI0201", "line": 9, "col": 26, "old": "bsae", "new": "base"}
    ]
    assert spec.read_text() == HEAD


def test_what_has_no_fix_is_told(tmp_path: Path) -> None:
    spec = tmp_path / "a.mi"
    spec.write_text("language mi 1\nlet a = unheard_of\n")
    done = CliRunner().invoke(main, ["fix", str(spec)])
    assert done.exit_code == 2 and "MI0201" in done.stderr
