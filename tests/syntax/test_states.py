"""Every state of the LALR tables in which a file can go wrong says what is missing there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from midsl.diagnostics.model import Bag
from midsl.source import SourceFile, Span
from midsl.syntax.lexer import ERROR, Token, lex
from midsl.syntax.machine import Machine
from midsl.syntax.messages import fitting, one_of
from midsl.syntax.tables import Tables, load_tables
from tests.syntax.sentences import sentence

TABLES = load_tables()
FALLBACK = ["an operator"]  # what `fitting` says when it has no words
CORPUS = sorted((Path(__file__).parents[1]).glob("corpus*/**/*.mi"))


class Nothing:
    """A builder that builds nothing."""

    def reduce(self, action: str, children: list[object], span: Span) -> None:
        return None


def states_of(text: str, tables: Tables) -> Iterator[tuple[int, frozenset[str]]]:
    """Each state a file takes the machine to, with what fits there, up to its first error."""
    source = SourceFile("a.mi", text)
    machine = Machine(tables, source, Nothing())
    for token in lex(source, tables, Bag()).tokens:
        yield machine.states[-1], frozenset(machine.expected())
        if token.type == ERROR or not machine.feed(token):
            return


def words(terminals: set[str] | frozenset[str]) -> list[str]:
    return fitting(set(terminals), TABLES)


def test_no_state_is_without_words() -> None:
    """All states of the tables, reached or not, by the terminals that have an entry there."""
    silent = {}
    for number, row in enumerate(TABLES.states):
        terminals = {k for k in row if k.isupper() or k == "$END"}
        if terminals and words(terminals) == FALLBACK:
            silent[number] = sorted(terminals)
    assert not silent, silent


def test_states_that_programs_reach_name_what_is_missing() -> None:
    """The corpus, good and bad, and sentences of the grammar that are cut short."""
    texts = [p.read_text(encoding="utf-8") for p in CORPUS] + [sentence(seed) for seed in range(60)]
    reached: dict[int, frozenset[str]] = {}
    for text in texts:
        reached |= dict(states_of(text, TABLES))
    assert len(reached) > 200, "else this test walks in place"
    bare = {n: sorted(t) for n, t in reached.items() if words(t) == FALLBACK}
    assert not bare, bare


def test_what_is_named_fits() -> None:
    """A message never asks for a sign that the machine would refuse."""
    for path in CORPUS:
        for _, expected in states_of(path.read_text(encoding="utf-8"), TABLES):
            texts = {f"`{TABLES.texts[k]}`" for k in expected if k in TABLES.texts}
            for word in words(expected):
                assert not word.startswith("`") or word in texts, (path.name, word)


def test_tokens_read_alike_with_and_without_keywords() -> None:
    """A soft keyword where only a name fits is a name."""
    machine = Machine(TABLES, SourceFile("a.mi", ""), Nothing())
    for kind, text in (("_LANGUAGE", "language"), ("_MI", "mi"), ("INT", "1"), ("_LET", "let")):
        assert machine.feed(Token(kind, text, 0, 0))
    assert machine.read(Token("NAME", "report", 0, 6, keyword="_REPORT")) == "NAME"
    assert one_of(words(machine.expected())) == "a name"
