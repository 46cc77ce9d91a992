"""The formatter keeps meanings and comments, settles at once, and our own files are set by it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from midsl.cli import main
from midsl.diagnostics.model import Bag, MiError
from midsl.resources import resource_dir
from midsl.source import SourceFile
from midsl.syntax.dump import dump
from midsl.syntax.fmt import format_source
from midsl.syntax.lexer import lex
from midsl.syntax.parse import parse
from midsl.syntax.tables import load_tables
from tests.conftest import Golden
from tests.syntax.sentences import sentence, sentences

HERE = Path(__file__).parents[1]
OURS = sorted([*resource_dir("examples").rglob("*.mi"), *resource_dir("stdlib").rglob("*.mi")])
SPECS = [*OURS, *sorted((HERE / "corpus").rglob("*.mi"))]
GOLDEN = sorted((HERE / "golden" / "fmt").glob("*.mi"))


def fmt(text: str) -> str:
    return format_source(SourceFile("a.mi", text))


def tree(text: str) -> str:
    """The tree with its documentation, which equality of trees leaves out."""
    bag = Bag()
    module = parse(SourceFile("a.mi", text), bag)
    assert module is not None and not bag.errors
    return dump(module)


def comments(text: str) -> list[str]:
    """The words of all comments, in order."""
    source = SourceFile("a.mi", text)
    ends = {t.start: t.end for t in lex(source, load_tables(), Bag()).tokens if t.text}
    out, at = [], 0
    while at < len(text):
        if at in ends:
            at = ends[at]
        elif text[at] == "#":
            line = text[at:].partition("\n")[0]
            out.append(re.sub(r"\s+", " ", line.replace("#", "# ")).strip())
            at += len(line)
        else:
            at += 1
    return out


def holds(text: str) -> None:
    done = fmt(text)
    assert tree(done) == tree(text)
    assert fmt(done) == done
    assert comments(done) == comments(text)
    assert not re.search(r"[ \t\r]$|\n\n\n|\n\n\Z", done, re.M) and done.endswith("\n")


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_holds_for_every_spec(path: Path) -> None:
    holds(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.stem)
def test_our_own_files_are_formatted(path: Path) -> None:
    assert fmt(path.read_text(encoding="utf-8")) == path.read_text(encoding="utf-8")


@settings(max_examples=150, deadline=None)
@given(sentences())
def test_holds_for_sentences_of_the_grammar(text: str) -> None:
    bag = Bag()
    assume(parse(SourceFile("a.mi", text), bag) is not None and not bag.errors)
    holds(text)


def test_most_sentences_parse() -> None:
    """Else the property above would hold for lack of programs."""
    good = 0
    for seed in range(60):
        bag = Bag()
        good += parse(SourceFile("a.mi", sentence(seed)), bag) is not None and not bag.errors
    assert good > 25


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SPECS), st.randoms(use_true_random=False))
def test_spaces_do_not_matter(path: Path, random: object) -> None:
    """Blanks at line starts and ends, and between tokens that stand apart, are the formatter's to choose."""
    text = path.read_text(encoding="utf-8")
    shaken = re.sub(r"^[ ]*", lambda m: " " * random.randint(0, 5), text, flags=re.M)  # type: ignore[attr-defined]
    assert fmt(shaken) == fmt(text)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_golden(path: Path, golden: Golden) -> None:
    golden(path.with_suffix(".expected"), fmt(path.read_text(encoding="utf-8")))


def test_a_broken_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(MiError):
        fmt("language mi 1\nlet x = (1\n")
    spec = tmp_path / "a.mi"
    spec.write_text("language mi 1\nlet  x = (1\n")
    done = CliRunner().invoke(main, ["fmt", str(spec)])
    assert done.exit_code == 2 and "MI0102" in done.stderr
    assert spec.read_text() == "language mi 1\nlet  x = (1\n"


def test_command(tmp_path: Path) -> None:
    messy, neat = tmp_path / "messy.mi", tmp_path / "neat.mi"
    messy.write_text("language mi 1\nlet   x=1\n")
    neat.write_text("language mi 1\nlet x = 1\n")
    run = CliRunner().invoke
    checked = run(main, ["fmt", "--check", str(messy), str(neat)])
    assert checked.exit_code == 1
    assert "messy.mi" in checked.stdout and "neat.mi" not in checked.stdout
    assert messy.read_text() == "language mi 1\nlet   x=1\n"
    assert run(main, ["fmt", "--stdout", str(messy)]).stdout == "language mi 1\nlet x = 1\n"
    told = json.loads(run(main, ["fmt", "--json", str(messy), str(neat)]).stdout)
    assert [f["changed"] for f in told["files"]] == [True, False]
    assert messy.read_text() == neat.read_text()
    assert run(main, ["fmt", "--check", str(messy)]).exit_code == 0


def test_other_editions_are_refused(tmp_path: Path) -> None:
    spec = tmp_path / "a.mi"
    spec.write_text("language mi 1\n")
    assert CliRunner().invoke(main, ["fmt", "--edition", "1", str(spec)]).exit_code == 0
    done = CliRunner().invoke(main, ["fmt", "--edition", "2", str(spec)])
    assert done.exit_code == 2 and "MI0104" in done.stderr
