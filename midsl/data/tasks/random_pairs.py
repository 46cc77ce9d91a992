"""Pairs of random rows of tokens: nothing to understand in them, and all positions from one on differ.

For benchmarks and for models without a language: what a sweep costs does not depend on what the rows mean,
but patches before the first differing token are free, so here one says where that is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from midsl.data.build import Kinds, Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer


def random_pairs(
    tokenizer: Tokenizer | None,
    n: int = 8,
    length: int = 16,
    seed: int = 0,
    same: int = 0,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make `n` pairs of rows of `length` uniformly random tokens, of which the first `same` are alike.

    Args:
        tokenizer: gives the size of the vocabulary.
        seed: draws tokens, answers and splits.
        same: how many tokens at the start are the same on both sides.
        split: name to fraction of the rows.

    Returns:
        Sides clean and corrupt; columns `answer` and `wrong` (token), two different ones, the same on both
        sides.

    Raises:
        MiError: MI0503 without a tokenizer, MI0511 for a vocabulary of fewer than two tokens, or no tokens
            that differ.
    """
    known = need_tokenizer(tokenizer)
    vocab = known.vocab_size
    need(n > 0 and length > 0, f"n is {n}, length is {length}", "both are at least 1")
    need(vocab >= 2, f"a vocabulary of {vocab}", "two rows cannot differ in it")
    draw = np.random.default_rng(seed)
    clean = draw.integers(vocab, size=(n, length))
    need(0 <= same < length, f"same is {same}, length is {length}", "some position differs")
    corrupt = (clean + draw.integers(1, vocab, size=(n, length))) % vocab
    corrupt[:, :same] = clean[:, :same]
    answer = draw.integers(vocab, size=n)
    wrong = (answer + draw.integers(1, vocab, size=n)) % vocab
    kinds: Kinds = {"answer": "token", "wrong": "token"}

    def make(i: int) -> Sides:
        cells = {"answer": int(answer[i]), "wrong": int(wrong[i])}
        rows = {"clean": clean[i], "corrupt": corrupt[i]}
        return {side: Row([int(t) for t in tokens], cells) for side, tokens in rows.items()}

    return build_dataset(
        list(range(n)), make, kinds, known, split=split, seed=seed, provenance="synthetic", mismatched="error"
    )
