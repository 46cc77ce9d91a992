"""Running text as rows of at most `ctx` tokens.

A begin token stands at the start of a row and nowhere else: joining documents first and cutting later
would put it in the middle, where models were never trained to see it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from midsl.data.build import Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.failures import Unencodable, Unusable, read_text

_END = "<|endoftext|>"
_BREAKS = {"blank": r"(?:\r?\n[ \t]*){2,}", "line": r"\r?\n", "whole": None}


def corpus(
    source: str | Sequence[str],
    tokenizer: Tokenizer | None,
    ctx: int = 128,
    documents: Literal["blank", "line", "whole"] = "blank",
    n: int = 0,
    bos: bool = True,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Cut text into rows of at most `ctx` tokens, none across two documents.

    Args:
        source: a UTF-8 text file, or a list of documents.
        ctx: tokens per row, the begin token included; at least 2.
        documents: what parts the documents of a file, besides ``<|endoftext|>``: "blank" lines, each
            "line", or nothing ("whole"). Empty documents don't count.
        n: keep the first `n` rows; 0 keeps all.
        bos: put the tokenizer's begin token first in each row, where it has one.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        One side; column `document` (number): which document a row is from. A row without a next token to
        predict is left out.

    Raises:
        MiError: MI0502 if no row can be used, MI0503 without a tokenizer, MI0504 if the file cannot be
            read, MI0511 if `ctx` is too small, `documents` is unknown or there is no text.
    """
    tokenizer = need_tokenizer(tokenizer)
    need(ctx >= 2, f"ctx is {ctx}", "a row of 2 tokens is the shortest that predicts anything")
    need(n >= 0, f"n is {n}", "n is 0 for all rows, or how many to keep")
    need(documents in _BREAKS, f"documents: {documents!r} is unknown", '"blank", "line" or "whole"')
    texts = _split(read_text(source), documents) if isinstance(source, str) else list(source)
    need(all(isinstance(t, str) for t in texts), "`source` is neither a path nor a list of strings")
    need(bool(texts), f"{source if isinstance(source, str) else 'the list'} holds no text")
    head = [tokenizer.bos_id] if bos and tokenizer.bos_id is not None else []

    def chunks() -> Iterator[tuple[int, list[int] | Unencodable]]:
        given = 0
        for number, text in enumerate(texts):
            try:
                tokens = tokenizer.encode(text, bos=False)
            except Unencodable as why:
                yield number, why  # the whole document is one unusable row
                continue
            for at in range(0, len(tokens), ctx - len(head)):
                if n and given == n:
                    return
                given += 1
                yield number, [*head, *tokens[at : at + ctx - len(head)]]

    def make(chunk: tuple[int, list[int] | Unencodable]) -> Sides:
        number, tokens = chunk
        if isinstance(tokens, Unencodable):
            raise tokens
        if len(tokens) < 2:
            raise Unusable("a row of one token has no next token to predict")
        return {"": Row(tokens, {"document": number}, tokenizer.decode(tokens))}

    return build_dataset(
        chunks(), make, {"document": "number"}, tokenizer, split=split, seed=seed, provenance="real"
    )


def _split(text: str, documents: str) -> list[str]:
    pattern = _BREAKS[documents]
    parts = [p for whole in text.split(_END) for p in (re.split(pattern, whole) if pattern else [whole])]
    return [p for p in parts if p.strip()]
