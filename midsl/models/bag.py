"""Bags of tokens: a row is the sum of its tokens' embeddings; a hidden layer reads it, and logits read that.

The stream of such a model has two parts. Embeddings are in the first, which the hidden layer reads; it writes
to the second, one dimension for each token, and the logits are what stands there: none of what is embedded
reaches them but through the hidden layer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.models.facts import Facts
from midsl.models.tokens import plain_tokenizer

if TYPE_CHECKING:
    from midsl.models.loaded import LoadedModel

ACTS = ("gelu", "relu", "silu", "tanh")
LONGEST = 4096
"""The longest row that is taken."""


def describe_bag(
    *, vocab: int, d_embed: int = 64, d_mlp: int = 256, act: str = "relu", seed: int = 0
) -> Facts:
    """Return the facts of `bag` with these arguments; raises as it does."""
    for name, n in {"vocab": vocab, "d_embed": d_embed, "d_mlp": d_mlp}.items():
        if type(n) is not int or not 1 <= n <= 10_000:
            raise _refused(f"{name} is {n!r}, not a number from 1 to 10_000")
    if act not in ACTS:
        raise _refused(f"act {act!r} is none of {', '.join(ACTS)}")
    sizes = {"layer": 1, "d_model": d_embed + vocab, "d_mlp": d_mlp, "vocab": vocab, "ctx": LONGEST}
    return Facts("bag", {**sizes, "d_embed": d_embed, "act": act}, sizes)


def bag(*, vocab: int, d_embed: int = 64, d_mlp: int = 256, act: str = "relu", seed: int = 0) -> LoadedModel:
    """Build a model that adds its tokens up, with random weights, to train.

    At each position stand the logits of the row up to there.

    Args:
        vocab: how many tokens, and logits, there are.
        d_embed: dimensions of an embedding; the stream has `vocab` more.
        d_mlp: hidden units.
        act: gelu, relu, silu or tanh.
        seed: draws the weights: embeddings and matrices normal with variance 1/fan-in, biases 0.

    Raises:
        MiError: MI0509 for a size below 1 or an unknown `act`.
    """
    from midsl.models.adding import Adding
    from midsl.models.loaded import loaded

    facts = describe_bag(vocab=vocab, d_embed=d_embed, d_mlp=d_mlp, act=act, seed=seed)
    module = Adding(vocab, d_embed, d_mlp, act, seed)
    made = loaded(facts, module, module, plain_tokenizer(vocab), "blocks", LONGEST)
    return replace(made, held=("unembed.weight", "blocks.0.down.bias"))


def _refused(what: str) -> Exception:
    return fail(
        "MI0509", f"a bag: {what}", help="compare with the arguments that `midsl doc std.models` lists"
    )
