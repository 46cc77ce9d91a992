"""Toys: a small transformer with seeded random weights, to train in a spec or to serve as a control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from midsl.models.config import TinyConfig, tiny_config
from midsl.models.facts import Facts
from midsl.models.tokens import plain_tokenizer

if TYPE_CHECKING:
    from midsl.models.loaded import LoadedModel


def tiny_facts(config: TinyConfig) -> Facts:
    """Return the facts of a `TinyTransformer`, whatever its weights come from."""
    return Facts("tiny", config.graph_config(), config.sizes())


def describe_toy(*, words: Sequence[str] = (), bos: str = "", **fields: Any) -> Facts:
    """Return the facts of `toy` with these arguments; raises as it does."""
    return tiny_facts(tiny_config(fields, "toy"))


def toy(*, words: Sequence[str] = (), bos: str = "", **fields: Any) -> LoadedModel:
    """Build a small transformer with random weights.

    Args:
        words: the vocabulary, one word per token id; without it tokens are integers and 0 begins a row.
        bos: which of the words begins a row.
        fields: any field of `TinyConfig`; `seed` draws the weights.

    Raises:
        MiError: MI0509 if a field is unknown or does not fit, or the words are not `vocab` many;
            MI0511 if a word cannot be one.
    """
    from midsl.models.loaded import loaded
    from midsl.models.tiny import TinyTransformer

    config = tiny_config(fields, "toy")
    module = TinyTransformer(config)
    tokenizer = plain_tokenizer(config.vocab, words=words, bos=bos, int_bos=True)
    return loaded(tiny_facts(config), module, module, tokenizer, "blocks", config.ctx)
