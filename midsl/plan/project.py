"""Projecting to the vocabulary only what is read: some positions, some rows of W_U.

A logit difference at one position needs two rows of W_U times one vector; the whole unembedding is
31 % of a GPT-2 pass. Legal where the logits are an affine map of the final stream followed by
elementwise operations, which the model graph says (`Unembed`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from midsl.ops.named import NT, align


@dataclass
class Projection:
    """``logits = post(x @ W_U + b)`` at the vocabulary rows asked for; counts its FLOPs.

    weight: [vocab, d_model]; bias: [vocab] or None.
    """

    weight: Tensor
    bias: Tensor | None
    post: Callable[[Tensor], Tensor]
    flops: int = 0

    def __call__(self, x: NT, vocab: NT | list[int] | None) -> NT:
        """x: [..., d_model]; `vocab` picks one row per index (its axis goes), a list keeps the axis."""
        width = x.size("d_model")
        rest = tuple(a for a in x.axes if a != "d_model")
        if vocab is None or isinstance(vocab, list):
            rows = (
                self.weight if vocab is None else self.weight[torch.tensor(vocab, device=self.weight.device)]
            )
            data = x.permute_to((*rest, "d_model")).data @ rows.T
            if self.bias is not None:
                data = data + (
                    self.bias if vocab is None else self.bias[torch.tensor(vocab, device=self.bias.device)]
                )
            self.flops += 2 * data.numel() * width
            return NT(self.post(data), (*rest, "vocab"))
        at = vocab.data.to(self.weight.device)
        picked = NT(self.weight[at], (*vocab.axes, "d_model"))
        (a, b), axes = align(x, picked)
        value = NT((a * b).sum(axes.index("d_model")), tuple(n for n in axes if n != "d_model"))
        self.flops += 2 * value.data.numel() * width
        if self.bias is not None:
            (v, c), axes = align(value, NT(self.bias[at], vocab.axes))
            value = NT(v + c, axes)
        return NT(self.post(value.data), value.axes)
