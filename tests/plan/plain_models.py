"""Models that are no transformers, as somebody may bring them: a stack of layers, and of convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from midsl.data.vocab import int_vocab
from midsl.models.facts import Facts
from midsl.models.loaded import LoadedModel, loaded

WIDTH, VOCAB, LAYERS = 12, 64, 3


class Layer(nn.Module):
    """One layer of an MLP: each position by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, pos, d_model] to the same."""
        return torch.relu(self.map(x))


class Convolution(nn.Module):
    """Three positions at a time, on both sides: positions meet, in all directions."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, pos, d_model] to the same."""
        return torch.relu(self.map(x.transpose(1, 2))).transpose(1, 2)


class Stack(nn.Module):
    """Embeddings, layers, an unembedding; what is padding is zero."""

    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(layer() for _ in range(LAYERS))
        self.unembed = nn.Linear(WIDTH, VOCAB)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [batch, pos, vocab]."""
        x = self.embed(input_ids) * attention_mask[..., None].to(self.embed.weight.dtype)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.unembed(x)
        return out


def build(kind: str, seed: int = 0) -> LoadedModel:
    """A stack of `kind` "mlp" or "cnn" with random weights; tokens are integers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Stack(Layer if kind == "mlp" else Convolution)
    sizes = {"d_model": WIDTH, "vocab": VOCAB, "causal": 0}
    return loaded(Facts(kind, {"kind": kind}, sizes), module, module, int_vocab(VOCAB), "blocks", None)
