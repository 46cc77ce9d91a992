"""A model of nobody's library that torch.export refuses: it looks at its values to decide what to do."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from midsl.data.vocab import int_vocab
from midsl.models.facts import Facts
from midsl.models.loaded import LoadedModel, loaded

D_MODEL, VOCAB, LAYERS = 8, 16, 3


class Block(nn.Module):
    """A causal mean and a map of it, behind a check of its input's values."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(D_MODEL, D_MODEL)

    def forward(self, x: Tensor) -> Tensor:
        if bool((x.abs() > 1e4).any()):
            raise ValueError("the stream has blown up")
        steps = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
        out: Tensor = x + self.mix(x.cumsum(1) / steps).tanh()
        return out


class Odd(nn.Module):
    """Embeddings, blocks, an unembedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, D_MODEL)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.unembed = nn.Linear(D_MODEL, VOCAB)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.unembed(x)
        return out


def build(seed: int = 0) -> LoadedModel:
    """The model with random weights; tokens are integers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Odd()
    sizes = {"d_model": D_MODEL, "vocab": VOCAB, "causal": 1}
    return loaded(Facts("odd", {}, sizes), module, module, int_vocab(VOCAB), "blocks", None)
