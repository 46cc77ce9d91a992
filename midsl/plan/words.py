"""Tokens as text, of data or of a model's vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from midsl.data.dataset import Tokenizer
from midsl.ir import nodes as ir


class Tokenizers(Protocol):
    """Where tokenizers are found."""

    def tokenizer(self, model: ir.Node) -> Tokenizer | None:
        """The tokenizer of a model, where it has one."""
        ...


def decoder(node: ir.Part, bound: Tokenizers) -> Callable[[int], str]:
    """Tokens as the tokenizer shows them that made the data; as numbers, where it is of no model."""
    data = node.data
    if isinstance(data, ir.Room):
        return decoder(data.part, bound)
    models = [data.model] if isinstance(data, ir.Rollout) else []
    models += [n.model for n in ir.walk(data) if isinstance(n, ir.Tokenizer)]
    return _first_of(models, bound)


def speller(node: ir.Node, bound: Tokenizers) -> Callable[[int], str]:
    """What spells the tokens that a value has: those of a part's rows, or of the vocabulary of a model."""
    below = list(ir.walk(node))
    rows = next((n.part for n in below if isinstance(n, ir.Column) and isinstance(n.part, ir.Part)), None)
    if rows is not None:
        return decoder(rows, bound)
    return _first_of([n.model for n in below if isinstance(n, (ir.Weight, ir.Forward))], bound)


def _first_of(models: list[ir.Node], bound: Tokenizers) -> Callable[[int], str]:
    tokenizer = next((t for m in models if (t := bound.tokenizer(m)) is not None), None)
    return tokenizer.token if tokenizer is not None else str
