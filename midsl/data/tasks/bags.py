"""Bags of words of two kinds: a few words tell of which kind a bag is, the others tell nothing.

What a small encoder learns in some dozens of steps, so that a population of half-trained ones is cheap.
"""

from __future__ import annotations

from collections.abc import Mapping

from midsl.data.build import Kinds, Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.tasks.induction import ordinary_tokens


def bags(
    tokenizer: Tokenizer | None,
    n: int = 512,
    words: int = 15,
    telling: int = 2,
    filling: int = 10,
    seed: int = 0,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make rows of a begin token and words in random order.

    Args:
        tokenizer: its first two ordinary tokens are the answers, then come `words` words of each kind, and
            twice as many that are of neither.
        n: rows, half of them of each kind.
        words: how many words tell of each kind.
        telling: how many such words a row has.
        filling: how many other words.
        seed, split: as everywhere.

    Returns:
        One side; columns `kind` (number, 0 or 1), `answer` and `wrong` (tokens).

    Raises:
        MiError: MI0503 without a tokenizer, MI0511 if it has too few tokens or no begin token.
    """
    known = need_tokenizer(tokenizer)
    pool = ordinary_tokens(known)
    begin = known.bos_id
    need(begin is not None, "bags begin with a begin token", "give the tokenizer one")
    need(
        1 <= telling <= words and filling >= 0, f"{telling} of {words} words tell", "at least 1, at most all"
    )
    need(len(pool) >= 2 + 4 * words, f"{len(pool)} tokens for {words} words", f"at least {2 + 4 * words}")
    draws = Draws(seed, "bags")

    def make(i: int) -> Sides:
        kind = i % 2
        own = pool[2 + kind * words : 2 + (kind + 1) * words]
        others = pool[2 + 2 * words : 2 + 4 * words]
        bag = [*draws.sample(own, telling), *(draws.choice(others) for _ in range(filling))]
        order = draws.shuffle(len(bag))
        cells = {"kind": kind, "answer": pool[kind], "wrong": pool[1 - kind]}
        return {"": Row([begin or 0, *(bag[j] for j in order)], cells)}

    kinds: Kinds = {"kind": "number", "answer": "token", "wrong": "token"}
    return build_dataset(range(n), make, kinds, known, split=split, seed=seed)
