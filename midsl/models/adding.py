"""The module of a bag of tokens (`midsl.models.bag`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from midsl.models.stepper import Layer


class Adding(nn.Module):
    """Sums of embeddings, one residual MLP, and what it wrote to the stream's last `vocab` dimensions."""

    shown: Tensor

    def __init__(self, vocab: int, d_embed: int, d_mlp: int, act: str, seed: int) -> None:
        super().__init__()
        width = d_embed + vocab
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator: give it back
            self.embed = nn.Embedding(vocab, width)
            self.blocks = nn.ModuleList([Layer(width, d_mlp, act)])
            self.unembed = nn.Linear(width, vocab, bias=False)
        self.register_buffer("shown", (torch.arange(width) < d_embed).float(), persistent=False)
        self._reset(d_embed, seed)

    @torch.no_grad()
    def _reset(self, d_embed: int, seed: int) -> None:
        drawn = torch.Generator().manual_seed(seed)

        def normal(rows: int, columns: int, fan_in: int) -> Tensor:
            made: Tensor = torch.randn(rows, columns, generator=drawn) * fan_in**-0.5
            return made

        layer = self.blocks[0]
        for p in self.parameters():
            p.zero_()  # what is not drawn meets zeros only: it gets no gradient, and stays
        vocab, (d_mlp, _) = self.embed.num_embeddings, layer.up.weight.shape  # type: ignore[union-attr, misc]
        self.embed.weight[:, :d_embed] = normal(vocab, d_embed, d_embed)
        layer.up.weight[:, :d_embed] = normal(d_mlp, d_embed, d_embed)  # type: ignore[union-attr, operator]
        layer.down.weight[d_embed:] = normal(vocab, d_mlp, d_mlp)  # type: ignore[union-attr, operator]
        self.unembed.weight[:, d_embed:] = torch.eye(vocab)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits ``[batch, pos, vocab]`` of each row up to each position; pads are behind."""
        x = (self.embed(input_ids) * self.shown).cumsum(1)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.unembed(x)
        return logits
