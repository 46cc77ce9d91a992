"""The language of compiled programs: what a transformer can do in one step, on values of which there are few.

A term has one value at each position of a row. Its `domain` are the values that it can have. Most are held
one-hot, an entry of the stream for each value; a `numeric` one is a single entry. Selecting and averaging is
what a head does; a table of one or two values is what an MLP does. `evaluate` is what a program means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

Cell = str | int | Fraction | tuple["Cell", ...]
"""What a term may hold at a position."""


@dataclass(frozen=True)
class Term:
    """One value at each position."""

    name: str
    domain: tuple[Cell, ...]

    @property
    def inputs(self) -> tuple[Term, ...]:
        """The terms that it is made of."""
        return ()

    @property
    def numeric(self) -> bool:
        """Whether it is held as one number, and not one-hot."""
        return False


@dataclass(frozen=True)
class Tokens(Term):
    """The tokens of the row."""


@dataclass(frozen=True)
class Indices(Term):
    """0, 1, ...: where in the row this is, the token that begins it not counted."""


@dataclass(frozen=True)
class Table(Term):
    """A function of one or two terms, by cases: an MLP. Cases that cannot occur have no entry."""

    of: tuple[Term, ...]
    cases: tuple[tuple[tuple[Cell, ...], Cell], ...]
    as_number: bool = False

    @property
    def inputs(self) -> tuple[Term, ...]:
        return self.of

    @property
    def numeric(self) -> bool:
        return self.as_number


@dataclass(frozen=True)
class Select:
    """Which positions each position looks at: those whose key stands to its query as `holds` says."""

    keys: Term
    queries: Term
    holds: Callable[[Cell, Cell], bool]


@dataclass(frozen=True)
class Mean(Term):
    """The mean of a number over what is selected, or the value of the one selected position: a head."""

    select: Select
    values: Term

    @property
    def inputs(self) -> tuple[Term, ...]:
        return (self.select.keys, self.select.queries, self.values)

    @property
    def numeric(self) -> bool:
        return self.values.numeric


@dataclass(frozen=True)
class Share(Term):
    """1 / (1 + how many are selected): a head that looks at the beginning of the row as well."""

    select: Select

    @property
    def inputs(self) -> tuple[Term, ...]:
        return (self.select.keys, self.select.queries)

    @property
    def numeric(self) -> bool:
        return True


@dataclass(frozen=True)
class Count(Term):
    """How many are selected, of a `Share`: an MLP that tells numbers apart by steps."""

    share: Share

    @property
    def inputs(self) -> tuple[Term, ...]:
        return (self.share,)


def table(name: str, function: Callable[..., Cell | None], *of: Term, as_number: bool = False) -> Table:
    """A function as a table; None stands for a case that cannot occur."""
    rows: list[tuple[Cell, ...]] = [()]
    for term in of:
        rows = [(*r, v) for r in rows for v in term.domain]
    found = [(r, function(*r)) for r in rows]
    cases = tuple((r, v) for r, v in found if v is not None)
    domain = tuple(sorted({v for _, v in cases}))
    return Table(name, domain, of, cases, as_number)


def mean(name: str, select: Select, values: Term, most: int) -> Mean:
    """A head's mean over at most so many positions."""
    if not values.numeric:
        return Mean(name, values.domain, select, values)
    shares = sorted({Fraction(k, n) for n in range(1, most + 1) for k in range(n + 1)})
    return Mean(name, tuple(shares), select, values)


def count(name: str, select: Select, most: int) -> Count:
    """How many of at most `most` positions are selected: a head and an MLP."""
    share = Share(f"{name}_share", tuple(Fraction(1, 1 + w) for w in range(most + 1)), select)
    return Count(name, tuple(range(most + 1)), share)


def evaluate(term: Term, row: Sequence[str]) -> list[Cell]:
    """What a term is at each position of a row of tokens, by the definition alone."""
    if isinstance(term, Tokens):
        return list(row)
    if isinstance(term, Indices):
        return list(range(len(row)))
    if isinstance(term, Table):
        cases = dict(term.cases)
        return [cases[at] for at in zip(*(evaluate(t, row) for t in term.of), strict=True)]
    if isinstance(term, Count):
        return [sum(line) for line in _selected(term.share.select, row)]
    if isinstance(term, Share):
        return [Fraction(1, 1 + sum(line)) for line in _selected(term.select, row)]
    assert isinstance(term, Mean)
    values = evaluate(term.values, row)
    found: list[Cell] = []
    for line in _selected(term.select, row):
        chosen = [v for v, yes in zip(values, line, strict=True) if yes]
        if not term.numeric:
            assert len(set(chosen)) == 1, f"{term.name} selects several values, or none"
            found.append(chosen[0])
        else:
            found.append(sum((Fraction(v) for v in chosen), Fraction(0)) / len(chosen))  # type: ignore[arg-type]
    return found


def _selected(select: Select, row: Sequence[str]) -> list[list[bool]]:
    """For each position, which positions it looks at."""
    keys, queries = evaluate(select.keys, row), evaluate(select.queries, row)
    return [[select.holds(k, q) for k in keys] for q in queries]
