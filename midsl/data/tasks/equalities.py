"""Are two pairs alike? Four tokens, of which the first two are equal or not, and so are the last two.

The task of causal abstraction: its program has two variables, and what an interchange of one of them should
lead to is known for every row.
Source: the task of Geiger et al., "Finding Alignments Between Interpretable Causal Variables and Distributed
Neural Representations", 2023 (arXiv 2303.02536).
"""

from __future__ import annotations

from collections.abc import Mapping

from midsl.data.build import Kinds, Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.tasks.induction import ordinary_tokens

SWAPS = ((1, 0), (0, 1), (1, 1))


def equalities(
    tokenizer: Tokenizer | None,
    n: int = 1024,
    symbols: int = 16,
    seed: int = 0,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make rows of four tokens on three sides: a base, and two whose variables are put into it.

    The variables are v1, whether the first two tokens are equal, and v2, whether the last two are; the
    answer is whether v1 equals v2. Each is true on half of the rows.

    Args:
        tokenizer: its first two ordinary tokens are the answers no and yes, the next ones the symbols.
        n: rows.
        symbols: how many different tokens rows are made of.
        seed, split: as everywhere.

    Returns:
        Sides base, first, second. Columns: `swap1` (number), 1 where v1 is taken from `first`, and `swap2`, 1
        where v2 is taken from `second` (one of them or both); `answer` (token) after that, `wrong` the other
        one; `own` (token), the answer of each side by itself; `effect` (label): "changed" where the answer
        is not the base's, else "same".

    Raises:
        MiError: MI0503 without a tokenizer, MI0511 if it has too few tokens.
    """
    known = need_tokenizer(tokenizer)
    pool = ordinary_tokens(known)
    need(symbols >= 2, f"{symbols} symbols", "at least 2")
    need(len(pool) >= symbols + 2, f"{len(pool)} tokens for {symbols} symbols", f"at least {symbols + 2}")
    answers, letters = pool[:2], pool[2 : symbols + 2]
    draws = Draws(seed, "equal")

    def pair(equal: int) -> list[int]:
        first, second = draws.sample(letters, 2)
        return [first, first] if equal else [first, second]

    def make(_: int) -> Sides:
        v = [(draws.below(2), draws.below(2)) for _ in range(3)]
        swap = SWAPS[draws.below(len(SWAPS))]
        after = (v[1][0] if swap[0] else v[0][0], v[2][1] if swap[1] else v[0][1])
        right = int(after[0] == after[1])
        cells = {
            "swap1": swap[0],
            "swap2": swap[1],
            "answer": answers[right],
            "wrong": answers[1 - right],
            "effect": "changed" if right != int(v[0][0] == v[0][1]) else "same",
        }
        sides = zip(("base", "first", "second"), v, strict=True)
        return {
            name: Row([*pair(a), *pair(b)], {**cells, "own": answers[int(a == b)]}) for name, (a, b) in sides
        }

    kinds: Kinds = {
        "swap1": "number", "swap2": "number", "answer": "token", "wrong": "token", "own": "token",
        "effect": "label",
    }  # fmt: skip
    return build_dataset(range(n), make, kinds, known, split=split, seed=seed)
