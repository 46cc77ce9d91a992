"""A list, a separator, and the list again: as it was (copying), or in order (sorting).

Both are cut where the answer comes next, so that each row asks one question, or left whole to train on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.failures import Unusable
from midsl.data.tasks.induction import ordinary_tokens

_KINDS: Kinds = {
    "answer": "token",
    "wrong": "token",
    "query": "pos",
    "source": "pos",
    "list": "span",
    "output": "span",
}
Made = tuple[list[int], list[int], int]
"""A list, what it is on the corrupt side, and which place of the output is asked for."""


def copying(
    tokenizer: Tokenizer | None,
    n: int = 64,
    length: int = 8,
    seed: int = 0,
    cut: bool = True,
    bos: bool = True,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make rows ``s | s`` of random tokens, cut in the second copy.

    Args:
        n: rows.
        length: tokens of a list, at least 1; a token may stand in it twice. The last ordinary token of the
            vocabulary is the separator.
        cut: end the row where the answer comes next; false leaves both copies whole.
        bos: put the tokenizer's begin token first, where it has one.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        Sides clean and corrupt, which differ in one token of the list (and in its copy, where that is in the
        row). Columns, of the clean row and the same on both: `answer` (token) comes after `query` (pos), and
        stands in the list at `source` (pos); `wrong` (token) is the corrupt row's answer; `list` (span) is
        the list, `output` (span) holds the positions behind it whose next token is inside the row, none
        where the answer comes first.

    Raises:
        MiError: MI0503 without a tokenizer, MI0511 if a number is out of range or the vocabulary too small.
    """
    draws = Draws(seed, "copying")

    def make(pool: list[int]) -> Made:
        s = [draws.choice(pool) for _ in range(length)]
        at = draws.below(length)
        return s, [*s[:at], draws.choice([t for t in pool if t != s[at]]), *s[at + 1 :]], at

    return _sequences(tokenizer, n, length, 2, make, list, seed, cut, bos, split)


def sorting(
    tokenizer: Tokenizer | None,
    n: int = 64,
    length: int = 8,
    seed: int = 0,
    cut: bool = True,
    bos: bool = True,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make rows ``s | sorted(s)`` of distinct random tokens, cut in the sorted list.

    Args:
        n: rows.
        length: tokens of a list, at least 2. Their order is that of their ids. The last ordinary token of
            the vocabulary is the separator.
        cut, bos, split: as in `copying`.

    Returns:
        As `copying`. Up to `query` the sorted lists of both sides are equal; a row where no other token
        would leave that so is left out.

    Raises:
        MiError: as `copying`; MI0502 if no row can be used.
    """
    draws = Draws(seed, "sorting")

    def make(pool: list[int]) -> Made:
        s = draws.sample(pool, length)
        ordered, at = sorted(s), draws.below(length)
        above = ordered[at - 1] if at else -1
        fresh = [t for t in pool if t > above and t not in s]
        if not fresh:
            raise Unusable("no other token sorts behind those before the answer")
        new = draws.choice(fresh)
        return s, [new if t == ordered[at] else t for t in s], at

    return _sequences(tokenizer, n, length, length + 1, make, sorted, seed, cut, bos, split)


def _sequences(
    tokenizer: Tokenizer | None,
    n: int,
    length: int,
    least: int,
    make: Callable[[list[int]], Made],
    output: Callable[[list[int]], list[int]],
    seed: int,
    cut: bool,
    bos: bool,
    split: Mapping[str, float] | None,
) -> Dataset:
    known = need_tokenizer(tokenizer)
    need(n >= 1, f"n is {n}", "ask for at least one row")
    need(length >= 1, f"length is {length}", "a list has at least one token")
    *pool, separator = ordinary_tokens(known) or [0]
    need(
        len(pool) >= least,
        f"{least} tokens and a separator are needed, and the vocabulary has {len(pool) + 1}",
        "use a shorter list or a larger vocabulary",
    )
    head = [known.bos_id] if bos and known.bos_id is not None else []

    def row(_: int) -> Sides:
        s, other, at = make(pool)
        right, wrong = output(s), output(other)
        shown = at if cut else length
        start = len(head)
        behind = start + length  # the separator
        cells: dict[str, Cell] = {
            "answer": right[at],
            "wrong": wrong[at],
            "query": behind + at,
            "source": start + (at if output is list else s.index(right[at])),
            "list": (start, behind),
            "output": (behind, behind + shown),
        }
        return {
            "clean": Row([*head, *s, separator, *right[:shown]], cells),
            "corrupt": Row([*head, *other, separator, *wrong[:shown]], cells),
        }

    return build_dataset(range(n), row, _KINDS, known, split=split, seed=seed)
