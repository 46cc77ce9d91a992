"""The programs: small functions of a row of tokens, and the letters that each is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from midsl.data.programs.terms import Cell, Indices, Select, Term, Tokens, count, mean, table
from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean


@dataclass(frozen=True)
class Program:
    """What is compiled: a program's letters, and its output as a term of a row's tokens and indices."""

    letters: tuple[str, ...]
    make: Callable[[Tokens, Indices], Term]

    def inputs(self, length: int) -> tuple[Tokens, Indices]:
        """What it is a function of, for rows of at most so many letters."""
        return Tokens("tokens", self.letters), Indices("indices", tuple(range(length)))


def _same(key: Cell, query: Cell) -> bool:
    return key == query


def _less(key: Cell, query: Cell) -> bool:
    return key < query  # type: ignore[operator]


def _up_to(key: Cell, query: Cell) -> bool:
    return key <= query  # type: ignore[operator]


def _all(key: Cell, query: Cell) -> bool:
    return True


def frac_prevs(tokens: Tokens, indices: Indices) -> Term:
    """The share of x among the tokens up to here."""
    is_x = table("is_x", lambda t: int(t == "x"), tokens, as_number=True)
    return mean("frac_prevs", Select(indices, indices, _up_to), is_x, len(indices.domain))


def reverse(tokens: Tokens, indices: Indices) -> Term:
    """The row from its end to its beginning, whatever its length."""
    n = len(indices.domain)
    length = count("length", Select(tokens, tokens, _all), n)
    across = table("across", lambda n, i: n - 1 - i if n > i else None, length, indices)
    return mean("reverse", Select(indices, across, _same), tokens, n)


def sort(tokens: Tokens, indices: Indices) -> Term:
    """The tokens in their order; equal ones stay as they were."""
    n = len(indices.domain)
    key = table("key", lambda t, i: (t, i), tokens, indices)
    place = count("place", Select(key, key, _less), n)
    return mean("sort", Select(place, indices, _same), tokens, n)


def hist(tokens: Tokens, indices: Indices) -> Term:
    """How often the token here is in the row."""
    return count("hist", Select(tokens, tokens, _same), len(indices.domain))


def _gate(name: str, holds: Callable[[int, int], bool]) -> Callable[[Tokens, Indices], Term]:
    def make(tokens: Tokens, indices: Indices) -> Term:
        n = len(indices.domain)
        first = mean("first", Select(indices, indices, lambda k, q: k == 0), tokens, n)
        second = mean("second", Select(indices, indices, lambda k, q: k == 1), tokens, n)
        return table(name, lambda a, b: str(int(holds(int(a), int(b)))), first, second)

    return make


_ABC = ("a", "b", "c", "x")
_BITS = ("0", "1")

PROGRAMS = {
    "frac_prevs": Program(_ABC, frac_prevs),
    "reverse": Program(_ABC, reverse),
    "sort": Program(_ABC, sort),
    "hist": Program(_ABC, hist),
    "and": Program(_BITS, _gate("and", lambda a, b: bool(a and b))),
    "or": Program(_BITS, _gate("or", lambda a, b: bool(a or b))),
}


def program(name: str) -> Program:
    """Return a program by its name: MI0509 if there is none."""
    if name not in PROGRAMS:
        help = did_you_mean(name, PROGRAMS) or f"programs: {', '.join(PROGRAMS)}"
        raise fail("MI0509", f'there is no program "{name}"', help=help)
    return PROGRAMS[name]
