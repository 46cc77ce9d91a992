"""Rows that are written on: prompts with room behind them, and what they are once tokens are emitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from midsl.data.dataset import Column, Dataset, Ints, Part


def with_room(prompts: Part, steps: int) -> Part:
    """The rows of a part, each `steps` tokens longer (0, until something is written there).

    Their columns besides those of the prompts: the stretches `prompt`, of what is given, and `new`.
    """
    tokens = np.zeros((len(prompts), prompts.tokens.shape[1] + steps), np.int64)
    tokens[:, : prompts.tokens.shape[1]] = prompts.tokens
    return _part(prompts, tokens, np.asarray(prompts.lengths) + steps, {})


def written(prompts: Part, tokens: Ints, emitted: Ints, texts: Sequence[str]) -> Part:
    """The rows once they are written: `tokens` [batch, pos], of which `emitted` [batch] follow the prompt.

    Further columns: `text`, what was emitted as text, and `emitted`, how many tokens.
    """
    lengths = np.asarray(prompts.lengths) + emitted
    inside = np.arange(tokens.shape[1])[None, :] < lengths[:, None]
    more = {
        "text": Column("label", list(texts)),
        "emitted": Column("number", np.asarray(emitted, np.float64)),
    }
    return _part(prompts, np.where(inside, tokens, 0), lengths, more)


def _part(prompts: Part, tokens: Ints, lengths: Ints, more: dict[str, Column]) -> Part:
    start = np.asarray(prompts.lengths, np.int64)
    stretches = {
        "prompt": Column("span", np.stack([np.zeros_like(start), start], 1)),
        "new": Column("span", np.stack([start, lengths], 1)),
    }
    return replace(
        prompts,
        tokens=tokens,
        lengths=lengths,
        columns={**prompts.columns, **stretches, **more},
        texts=[],
        ids=prompts.examples,
    )


def dataset_of(part: Part, prompts: Dataset) -> Dataset:
    """A data set of one part, made of the rows of another data set."""
    return Dataset({"": part}, {}, prompts.rows_total, prompts.ineligible, "generated")
