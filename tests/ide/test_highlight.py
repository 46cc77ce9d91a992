"""One word table: it is the grammar's, the generated files are those it gives, and they colour."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pygments.token import Comment, Error, Keyword, Name, Number, String

from midsl.ide import words
from midsl.ide.highlight import files, textmate
from midsl.ide.pygments_lexer import MiLexer
from midsl.resources import resource_dir
from midsl.syntax.lexer import DECLARATIONS, ROLES, STATEMENTS
from midsl.syntax.tables import load_tables

FOLDER = resource_dir("grammar") / "highlight" / "vscode"
SPECS = sorted((Path(__file__).parents[1] / "corpus").rglob("*.mi"))


def test_the_table_is_the_grammars() -> None:
    assert set(load_tables().keywords) == words.WORDS
    assert sum(map(len, words.GROUPS.values())) == len(words.WORDS), "each word once"
    assert set(words.ROLES) == ROLES
    assert set(words.STATEMENTS) == STATEMENTS - ROLES
    assert set(words.DECLARATIONS) <= DECLARATIONS


@pytest.mark.parametrize("name", sorted(files()))
def test_generated_files_are_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == files()[name], "run python -m midsl.ide.highlight"


def test_the_extension_names_files_that_are_there() -> None:
    package: dict[str, Any] = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    made = package["contributes"]
    paths = [package["main"], made["grammars"][0]["path"], made["languages"][0]["configuration"]]
    assert all((FOLDER / p).is_file() for p in paths)
    assert made["grammars"][0]["scopeName"] == textmate()["scopeName"]
    assert {p.name for p in FOLDER.iterdir()} == set(files())


def scopes(line: str) -> dict[str, str]:
    """The TextMate scope of each piece of a line, as editors find it: leftmost match, first rule."""
    rules = [
        (p["name"], re.compile(p["match"])) for p in textmate()["patterns"] if "match" in p and "name" in p
    ]
    out, at = {}, 0
    while at < len(line):
        hits = [
            (m.start(), i, m.group(), name) for i, (name, r) in enumerate(rules) if (m := r.search(line, at))
        ]
        if not hits:
            break
        start, _, text, name = min(hits)
        out[text] = name.removesuffix(".mi")
        at = start + max(1, len(text))
    return out


def test_textmate_scopes() -> None:
    found = scopes("sweep h in z where dose ~= 0.5 # why")
    assert found["sweep"] == "keyword.control.statement" and found["in"] == "keyword.control.clause"
    assert found["0.5"] == "constant.numeric" and found["# why"] == "comment.line.number-sign"
    labels = scopes("f(model: 3, pos: .end)")
    assert labels["model"] == "variable.parameter.label" and labels[".end"] == "variable.other.column"
    assert scopes("m.data + self")["self"] == "variable.language"
    assert "data" not in scopes("m.data")


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_pygments_reads_every_spec(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = list(MiLexer().get_tokens(text))
    assert "".join(t for _, t in found).strip() == text.strip()
    assert not [t for kind, t in found if kind is Error]


def test_pygments_kinds() -> None:
    found = dict(
        (t, kind)
        for kind, t in MiLexer().get_tokens(
            'let x = run m on d # c\nexperiment e { report y = f("a", k: 1) }'
        )
    )
    assert found["let"] is Keyword.Type and found["run"] is Keyword and found["# c"] is Comment.Single
    assert found["e"] is Name.Function and found["k"] is Name.Label
    assert found['"a"'] is String.Double and found["1"] is Number.Integer
