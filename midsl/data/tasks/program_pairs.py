"""Rows for a compiled program, each beside one of which the program says something else at one place."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from midsl.data.build import Kinds, Row, Sides, build_dataset, need, need_tokenizer, one_token
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.failures import Unusable
from midsl.data.programs.known import program as known_program
from midsl.data.programs.terms import evaluate

_KINDS: Kinds = {"answer": "token", "wrong": "token", "query": "pos"}


def program_pairs(
    tokenizer: Tokenizer | None,
    program: str,
    length: int = 4,
    n: int = 0,
    seed: int = 0,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make pairs of rows of `length` letters, and ask for the output of a program at one position of them.

    Args:
        program: a name that `models.compiled` knows.
        length: how many letters each row has, as many as the model takes or fewer.
        n: rows, all different, drawn from all there are; 0 takes every row, in order. Positions and corrupt
            rows are drawn.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        Sides clean and corrupt, with the same columns on both: `answer` (token), what the program says of the
        clean row at `query` (pos), and `wrong` (token), what it says of the corrupt row there.

    Raises:
        MiError: MI0503 without a tokenizer, MI0509 for an unknown program, MI0511 if `n` is out of range.
    """
    known = need_tokenizer(tokenizer)
    made = known_program(program)
    need(1 <= length <= 8, f"length is {length}", "from 1 to 8")
    output, every = made.make(*made.inputs(length)), len(made.letters) ** length
    need(0 <= n <= every, f"n is {n}", f"from 0 to {every}, the rows that there are")
    draws = Draws(seed, "program_pairs")
    rows = list(product(made.letters, repeat=length))
    chosen = draws.sample(rows, n) if n else rows

    def make(row: tuple[str, ...]) -> Sides:
        at = draws.choice(range(length))
        right = evaluate(output, row)[at]
        for _ in range(100):
            other = draws.choice(rows)
            wrong = evaluate(output, other)[at]
            if wrong != right:
                break
        else:
            raise Unusable("no other row changes the answer")
        head = [known.bos_id] if known.bos_id is not None else []
        cells = {
            "answer": one_token(known, str(right), "the answer"),
            "wrong": one_token(known, str(wrong), "the other answer"),
            "query": len(head) + at,
        }
        ids = {
            side: [one_token(known, t, "a letter") for t in r]
            for side, r in (("clean", row), ("corrupt", other))
        }
        return {side: Row([*head, *tokens], cells) for side, tokens in ids.items()}

    return build_dataset(chosen, make, _KINDS, known, split=split, seed=seed)
