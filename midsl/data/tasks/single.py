"""Rows of one token each, for models whose tokens stand for rows, bits or words."""

from __future__ import annotations

from collections.abc import Mapping

from midsl.data.build import Kinds, Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws


def single_tokens(
    tokenizer: Tokenizer | None,
    n: int = 0,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Make a row of each token, the first `n` of them; 0 takes all.

    Returns:
        One side; column `token` (token).

    Raises:
        MiError: MI0503 without a tokenizer; MI0511 if there are no `n` tokens.
    """
    known = need_tokenizer(tokenizer)
    need(0 <= n <= known.vocab_size, f"n is {n}", f"from 0 to {known.vocab_size}, the tokens that there are")
    kinds: Kinds = {"token": "token"}

    def make(token: int) -> Sides:
        return {"": Row([token], {"token": token})}

    return build_dataset(range(n or known.vocab_size), make, kinds, known, split=split, seed=seed)


def bits(
    tokenizer: Tokenizer | None,
    n: int = 256,
    seed: int = 0,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make pairs of random tokens, one odd and one even: bit 0 differs, the others as they happen.

    Returns:
        Sides clean and corrupt, with the same columns on both: `answer` (token) is bit 0 of the clean
        token, as token 0 or 1, `wrong` (token) that of the corrupt one.

    Raises:
        MiError: MI0503 without a tokenizer; MI0511 for less than one row, or an odd number of tokens.
    """
    known = need_tokenizer(tokenizer)
    need(n >= 1, f"n is {n}", "ask for at least one row")
    need(known.vocab_size % 2 == 0, f"{known.vocab_size} tokens are no set of bits", "an even number")
    draws = Draws(seed, "bits")
    kinds: Kinds = {"answer": "token", "wrong": "token"}

    def make(_: int) -> Sides:
        one = draws.below(known.vocab_size)
        other = 2 * draws.below(known.vocab_size // 2) + (1 - one % 2)
        cells = {"answer": one % 2, "wrong": other % 2}
        return {"clean": Row([one], cells), "corrupt": Row([other], cells)}

    return build_dataset(range(n), make, kinds, known, split=split, seed=seed)


def topics(
    tokenizer: Tokenizer | None,
    n: int = 1024,
    each: int = 8,
    topics: int = 8,
    seed: int = 0,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make rows of one token whose answer is another token of its topic, drawn.

    Args:
        n: rows.
        each: tokens of a topic: the first `each` are of topic 0, and so on.
        topics: how many there are; the tokens beyond are of one more, which is no topic.

    Returns:
        One side; columns `answer` (token) and `topic` (number).

    Raises:
        MiError: MI0503 without a tokenizer; MI0511 if the vocabulary has fewer than two tokens of some topic.
    """
    known = need_tokenizer(tokenizer)
    named = each * topics
    need(n >= 1, f"n is {n}", "ask for at least one row")
    need(each >= 2 and topics >= 1, f"{topics} topics of {each} tokens", "at least one topic, of two tokens")
    fits = known.vocab_size == named or known.vocab_size >= named + 2
    need(
        fits, f"{topics} topics of {each} tokens in {known.vocab_size}", "take fewer, or a larger vocabulary"
    )
    draws = Draws(seed, "topics")
    kinds: Kinds = {"answer": "token", "topic": "number"}

    def make(_: int) -> Sides:
        token = draws.below(known.vocab_size)
        topic = min(token // each, topics)
        last = known.vocab_size if topic == topics else each * (topic + 1)
        answer = draws.choice([t for t in range(each * topic, last) if t != token])
        return {"": Row([token], {"answer": answer, "topic": topic})}

    return build_dataset(range(n), make, kinds, known, split=split, seed=seed)
