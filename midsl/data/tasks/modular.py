"""Arithmetic modulo a number, as three tokens: the task that small models grok.

Source: the task of Power et al., "Grokking", 2022 (arXiv 2201.02177), in the form of Nanda et al.,
"Progress measures for grokking via mechanistic interpretability", 2023 (arXiv 2301.05217).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, need, need_tokenizer, one_token
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.failures import Unusable

_KINDS: Kinds = {
    "answer": "token",
    "wrong": "token",
    "a": "number",
    "b": "number",
    "a_pos": "pos",
    "b_pos": "pos",
}
_OPS = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b}


def modular(
    tokenizer: Tokenizer | None,
    modulus: int,
    op: Literal["add", "sub", "mul"] = "add",
    n: int = 0,
    seed: int = 0,
    corrupt: Literal["a", "b"] = "a",
    equals: str = "",
    bos: bool = False,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make rows ``a b =`` with the answer ``a op b`` modulo `modulus`, each beside one with another `a`.

    Args:
        modulus: numbers are 0 to `modulus` - 1, each one token, written in digits.
        op: "add", "sub" or "mul".
        n: rows, all different, drawn from all pairs; 0 takes every pair, in order.
        corrupt: which of the two numbers is another one on the corrupt side, such that the answer differs.
        equals: the token that ends a row; "" takes the number `modulus`, the usual choice.
        bos: put the tokenizer's begin token first, where it has one.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        Sides clean and corrupt, with the same columns on both, of the clean row: `answer` (token) and
        `wrong` (token), the corrupt row's answer; `a`, `b` (number), `a_pos`, `b_pos` (pos). A row whose
        answer no other number would change (0 times anything) is left out.

    Raises:
        MiError: MI0502 if a number is no single token (as no row can be used), MI0503 without a tokenizer,
            MI0511 if an argument is out of range.
    """
    known = need_tokenizer(tokenizer)
    need(modulus >= 2, f"modulus is {modulus}", "at least 2")
    need(op in _OPS, f"op: {op!r} is unknown", '"add", "sub" or "mul"')
    need(corrupt in ("a", "b"), f"corrupt: {corrupt!r} is unknown", '"a" or "b"')
    need(0 <= n <= modulus**2, f"n is {n}", f"from 0 to {modulus**2}, the pairs that there are")
    draws = Draws(seed, "modular")
    items = draws.sample(range(modulus**2), n) if n else range(modulus**2)

    def make(item: int) -> Sides:
        a, b = divmod(item, modulus)
        right = _OPS[op](a, b) % modulus
        others = [(x, b) if corrupt == "a" else (a, x) for x in range(modulus)]
        others = [p for p in others if _OPS[op](*p) % modulus != right]
        if not others:
            raise Unusable("no other number changes the answer")
        c, d = draws.choice(others)
        ids = {
            x: one_token(known, str(x), "the number") for x in {a, b, c, d, right, _OPS[op](c, d) % modulus}
        }
        end = one_token(known, equals or str(modulus), "`equals`")
        head = [known.bos_id] if bos and known.bos_id is not None else []
        cells: dict[str, Cell] = {
            "answer": ids[right],
            "wrong": ids[_OPS[op](c, d) % modulus],
            "a": a,
            "b": b,
            "a_pos": len(head),
            "b_pos": len(head) + 1,
        }
        return {
            "clean": Row([*head, ids[a], ids[b], end], cells),
            "corrupt": Row([*head, ids[c], ids[d], end], cells),
        }

    return build_dataset(items, make, _KINDS, known, split=split, seed=seed)
