"""SPEC.md quotes the whole grammar as it is, and its examples parse."""

from __future__ import annotations

import re

import pytest

from midsl.diagnostics.model import Bag
from midsl.diagnostics.render import render_text
from midsl.resources import resource_dir
from midsl.source import SourceFile
from midsl.syntax.fmt import format_source
from midsl.syntax.parse import EDITIONS, parse
from midsl.syntax.tables import load_tables

SPEC = (resource_dir("grammar") / "SPEC.md").read_text(encoding="utf-8")
GRAMMAR = (resource_dir("grammar") / "mi.lark").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(mi|mi body)\n(.*?)^```", SPEC, re.M | re.S)


def test_the_grammar_is_quoted_whole() -> None:
    quoted = "".join(re.findall(r"^```lark\n(.*?)^```", SPEC, re.M | re.S)).splitlines()
    rules, _, words = GRAMMAR.partition("// ---- words")
    terminals = words.partition("// ---- terminals")[2]
    wanted = [x for x in (rules + terminals).splitlines() if x and not x.startswith(("//", "%"))]
    assert sorted(quoted) == sorted(wanted)


def test_the_words_are_listed_whole() -> None:
    tables = load_tables()
    reserved, soft = re.findall(r"^These .*?: `([a-z ]+)`", SPEC, re.M)
    assert set(reserved.split()) == tables.reserved
    assert set(soft.split()) == set(tables.keywords) - tables.reserved


@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=lambda v: v if v.startswith("mi") else "")
def test_examples_parse(kind: str, text: str) -> None:
    whole = f"language mi 1\nexperiment e {{\n{text}}}\n" if kind == "mi body" else "language mi 1\n" + text
    bag = Bag()
    assert parse(SourceFile("SPEC.md", whole), bag) is not None
    assert not bag.items, render_text(bag)


def test_the_bounds_are_those_of_the_code() -> None:
    from midsl.sema.context import MOST_STEPS
    from midsl.syntax import build
    from midsl.syntax import parse as parser

    section = SPEC.partition("## Bounds")[2]
    assert f"{parser._DEEPEST} unfinished parts" in section
    assert f"{build._TALLEST} operations" in section
    assert MOST_STEPS == 1_000_000 and "a million expressions" in section


@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=lambda v: v if v.startswith("mi") else "")
def test_examples_keep_their_tree_when_formatted(kind: str, text: str) -> None:
    whole = f"language mi 1\nexperiment e {{\n{text}}}\n" if kind == "mi body" else "language mi 1\n" + text
    done = format_source(SourceFile("SPEC.md", whole))
    assert format_source(SourceFile("SPEC.md", done)) == done


def test_each_edition_is_described() -> None:
    text = (resource_dir("grammar") / "EDITIONS.md").read_text(encoding="utf-8")
    assert [int(n) for n in re.findall(r"^## Edition (\d+)$", text, re.M)] == list(EDITIONS)
