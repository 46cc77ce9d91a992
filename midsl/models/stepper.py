"""The modules of emulators, and the one that puts any of them behind midsl's signature.

Rows have one token each, which means nothing: it looks up a row of numbers where a run then writes the state.
So a state is a place like any other, and all that works on places works on it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ACTS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}
BLANKS = 8
"""How many rows of numbers stand where states will: the graph is compared with its module on them."""


class Stepper(nn.Module):
    """A map of states behind the signature of all models."""

    def __init__(self, model: nn.Module, d_state: int, delta: bool) -> None:
        super().__init__()
        first = next(model.parameters(), torch.zeros(()))
        self.state = nn.Embedding(BLANKS, d_state, dtype=first.dtype)
        rows = torch.randn(BLANKS, d_state, generator=torch.Generator().manual_seed(0))
        self.state.weight = nn.Parameter(rows.to(first.dtype), requires_grad=False)
        self.model = model
        self.d_state = d_state
        self.delta = delta

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the next states ``[batch, pos, d_state]``."""
        live = attention_mask[..., None].to(self.state.weight.dtype)
        # the products keep both ends apart from what is inside, so that each place has one name
        state = self.state(input_ids) * live
        made: Tensor = self.model(state)
        return (state + made if self.delta else made) * live


class Layer(nn.Module):
    """One residual MLP."""

    def __init__(self, d_model: int, d_mlp: int, act: str) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_mlp)
        self.act = nn.GELU(approximate="tanh") if act == "gelu_tanh" else ACTS[act]()
        self.down = nn.Linear(d_mlp, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """[..., d_model] to the same."""
        out: Tensor = x + self.down(self.act(self.up(x)))
        return out


class Residual(nn.Module):
    """A linear map in, residual MLPs, a linear map out."""

    def __init__(self, d_state: int, d_model: int, d_mlp: int, layers: int, act: str) -> None:
        super().__init__()
        self.encode = nn.Linear(d_state, d_model)
        self.blocks = nn.ModuleList(Layer(d_model, d_mlp, act) for _ in range(layers))
        self.decode = nn.Linear(d_model, d_state)

    def forward(self, state: Tensor) -> Tensor:
        """[..., d_state] to the same."""
        x = self.encode(state)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.decode(x)
        return out


class Linear(nn.Module):
    """One matrix, as the one block of a model."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        only = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        only.weight = nn.Parameter(matrix)
        self.blocks = nn.ModuleList([only])

    def forward(self, state: Tensor) -> Tensor:
        """[..., d_state] to the same."""
        out: Tensor = self.blocks[0](state)
        return out
