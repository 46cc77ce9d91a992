"""Repeated random tokens: what follows now is what followed before, and nothing else helps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws

_KINDS: Kinds = {
    "answer": "token",
    "wrong": "token",
    "query": "pos",
    "cue": "pos",
    "b_pos": "pos",
    "first_half": "span",
    "second_half": "span",
}


def induction(
    tokenizer: Tokenizer | None,
    n: int = 32,
    period: int = 12,
    seed: int = 0,
    corrupt: Literal["first_half", "cue"] = "first_half",
    bos: bool = True,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make rows ``s + s`` of `period` distinct random tokens, behind the begin token where there is one.

    Args:
        n: rows.
        period: tokens per copy, at least 3.
        corrupt: "first_half" draws another first copy (of tokens that are not in `s`) before the same
            second one. "cue" cuts the row after a token A of its second copy, and the corrupt row has
            another token in place of the first A, so that nothing says what follows A.
        bos: put the tokenizer's begin token first, where it has one.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        Sides clean and corrupt, with the same columns on both. `query` (pos) is the last position, whose
        token A stood before at `cue` (pos), followed by the token at `b_pos` (pos): that token is
        `answer`; `wrong` (token) is another token of `s`. `first_half` (span) is the first copy;
        `second_half` (span) holds the positions of the second copy whose next token is inside the row, so
        the loss over it is the loss of what the first copy tells.

    Raises:
        MiError: MI0503 without a tokenizer; MI0511 if `n` or `period` is too small, the vocabulary has
            too few tokens for `period`, or `corrupt` is unknown.
    """
    tokenizer = need_tokenizer(tokenizer)
    need(n >= 1, f"n is {n}", "ask for at least one row")
    need(period >= 3, f"period is {period}", "a period is at least 3 tokens")
    need(corrupt in ("first_half", "cue"), f"corrupt: {corrupt!r} is unknown", '"first_half" or "cue"')
    pool = ordinary_tokens(tokenizer)
    wanted = 2 * period if corrupt == "first_half" else period + 1
    need(
        len(pool) >= wanted,
        f"{wanted} distinct tokens are needed and the vocabulary has {len(pool)}",
        f"use a period of at most {len(pool) // 2 if corrupt == 'first_half' else len(pool) - 1}",
    )
    head = [tokenizer.bos_id] if bos and tokenizer.bos_id is not None else []
    draws = Draws(seed, "induct")

    def make(_: int) -> Sides:
        drawn = draws.sample(pool, wanted)
        s, fresh = drawn[:period], drawn[period:]
        at = period - 1 if corrupt == "first_half" else 1 + draws.below(period - 2)
        answer = s[(at + 1) % period]
        wrong = draws.choice([t for t in s if t not in (s[at], answer)])
        other = fresh if corrupt == "first_half" else [*s[:at], fresh[0], *s[at + 1 :]]
        start, first = len(head), len(head) + period
        cells: dict[str, Cell] = {
            "answer": answer,
            "wrong": wrong,
            "query": first + at,
            "cue": start + at,
            "b_pos": start + at + 1,
            "first_half": (start, first),
            "second_half": (first, first + at),
        }
        second = s[: at + 1]
        return {"clean": Row([*head, *s, *second], cells), "corrupt": Row([*head, *other, *second], cells)}

    return build_dataset(range(n), make, _KINDS, tokenizer, split=split, seed=seed)


def repeats(
    tokenizer: Tokenizer | None,
    n: int = 512,
    period_min: int = 4,
    period_max: int = 12,
    ctx: int = 32,
    seed: int = 0,
    bos: bool = True,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make rows of `ctx` tokens that repeat a random sequence of distinct tokens, to train on.

    Args:
        n: rows.
        period_min, period_max: each row draws its period between them, both included.
        ctx: tokens per row, the begin token included; at least ``period_max + 3``.
        bos, split, seed: as in `induction`.

    Returns:
        One side; columns `period` (number), and `second_half` (span): the positions from the second copy
        on whose next token is inside the row.

    Raises:
        MiError: MI0503 without a tokenizer; MI0511 if a number is out of range or the vocabulary has
            fewer tokens than `period_max`.
    """
    tokenizer = need_tokenizer(tokenizer)
    need(n >= 1, f"n is {n}", "ask for at least one row")
    need(2 <= period_min <= period_max, f"periods from {period_min} to {period_max}", "from 2 up, in order")
    pool = ordinary_tokens(tokenizer)
    need(
        len(pool) >= period_max,
        f"a period of {period_max} tokens and a vocabulary of {len(pool)}",
        f"period_max is at most {len(pool)}",
    )
    head = [tokenizer.bos_id] if bos and tokenizer.bos_id is not None else []
    need(ctx >= period_max + 3, f"rows of {ctx} tokens do not repeat {period_max}", "use a longer ctx")
    draws = Draws(seed, "repeats")

    def make(_: int) -> Sides:
        period = period_min + draws.below(period_max - period_min + 1)
        s = draws.sample(pool, period)
        tokens = [*head, *(s[i % period] for i in range(ctx - len(head)))]
        return {"": Row(tokens, {"period": period, "second_half": (len(head) + period, ctx - 1)})}

    kinds: Kinds = {"period": "number", "second_half": "span"}
    return build_dataset(range(n), make, kinds, tokenizer, split=split, seed=seed)


def ordinary_tokens(tokenizer: Tokenizer) -> list[int]:
    """Token ids that stand for text: all but the special ones."""
    special = set(tokenizer.special_ids) | {tokenizer.bos_id, tokenizer.eos_id}
    return [i for i in range(tokenizer.vocab_size) if i not in special]
