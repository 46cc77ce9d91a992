"""The grammar itself: size, freedom from conflicts, and that our machine reads it as Lark does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lark import Lark, Token, Tree

from midsl.diagnostics.model import Bag
from midsl.resources import resource_dir
from midsl.source import SourceFile, Span
from midsl.syntax.build import AstBuilder
from midsl.syntax.lexer import Token as OurToken
from midsl.syntax.lexer import lex
from midsl.syntax.machine import Machine
from midsl.syntax.tables import load_tables

GRAMMAR = resource_dir("grammar") / "mi.lark"
CORPUS = sorted((Path(__file__).parents[1] / "corpus").glob("*.mi"))


@pytest.fixture(scope="module")
def lark() -> Lark:
    """Lark's own parser of the grammar; `strict` refuses every conflict and colliding terminals."""
    return Lark(GRAMMAR.read_text(), parser="lalr", strict=True, maybe_placeholders=True)


def test_grammar_stays_on_a_few_pages() -> None:
    assert len(GRAMMAR.read_text().splitlines()) <= 150


def test_every_keyword_ends_at_a_word_boundary(lark: Lark) -> None:
    """Without it `letm = 3` would read as `let m = 3`."""
    keywords = [t for t in lark.terminals if t.name.startswith("_") and t.pattern.value[0].isalpha()]
    assert len(keywords) > 40
    assert all(t.pattern.type == "re" and t.pattern.value.endswith("\\b") for t in keywords)


def test_every_rule_has_a_builder() -> None:
    missing = {
        r.action
        for r in load_tables().rules
        if not r.inline
        and not hasattr(AstBuilder, "on_" + r.action.rstrip("_"))
        and not (r.single and sum(r.keep) + sum(r.nones) == 1)
    }
    assert missing == set()


class _Trees:
    """Builds what Lark builds."""

    def reduce(self, action: str, children: list[Any], span: Span) -> Tree[Any]:
        made = [Token(c.type, c.text) if isinstance(c, OurToken) else c for c in children]
        return Tree(action, made)


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_machine_agrees_with_lark(path: Path, lark: Lark) -> None:
    source = SourceFile(path.name, path.read_text())
    tables, bag = load_tables(), Bag()
    machine = Machine(tables, source, _Trees())
    for token in lex(source, tables, bag).tokens:
        kind = machine.read(token)
        assert machine.feed(token), token
        token.type = kind  # as Lark names it in the tree
    assert not bag.items
    assert machine.result == lark.parse(source.text)
