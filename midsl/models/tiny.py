"""One small transformer whose every part is a configuration choice.

Toys, llama2.c checkpoints and plain state dicts are all this module, so that what a spec learns on a toy
(site names, module paths, attention through `scaled_dot_product_attention`) is what it meets in a real
model. It is written to be read and to export: no caches, no branches on data, one linear per q, k, v, o.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsl.models.config import TinyConfig


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, spelt out so that its scale is a node of the graph."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def _norm(config: TinyConfig, wanted: bool = True) -> nn.Module:
    if config.norm == "none" or not wanted:
        return nn.Identity()
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.eps)
    return nn.LayerNorm(config.d_model, config.eps, bias=config.bias)


def _activation(config: TinyConfig) -> nn.Module:
    if config.act == "gelu":
        return nn.GELU()
    if config.act == "gelu_tanh":
        return nn.GELU(approximate="tanh")
    return nn.ReLU() if config.act == "relu" else nn.SiLU()


class Rotary(nn.Module):
    """Turns pairs of dimensions of a query or key by an angle that grows with its position."""

    inv_freq: Tensor

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        exponents = torch.arange(0, config.d_head, 2, dtype=torch.float32) / config.d_head
        self.register_buffer("inv_freq", config.rope_base**-exponents, persistent=False)
        self.adjacent = config.pos == "rotary_pairs"

    def forward(self, x: Tensor) -> Tensor:
        """Rotate ``x [batch, head, pos, d_head]``."""
        steps = torch.arange(x.shape[-2], device=x.device).to(self.inv_freq.dtype)
        angle = steps[:, None] * self.inv_freq
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        if self.adjacent:
            a, b = x[..., 0::2], x[..., 1::2]
            return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class Attention(nn.Module):
    """Multi-head attention, with fewer key/value heads than query heads where asked."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.d_head = config.heads, config.kv_heads, config.d_head
        self.scale, self.causal = config.attn_scale, config.causal
        self.q = nn.Linear(config.d_model, config.heads * config.d_head, bias=config.bias)
        self.k = nn.Linear(config.d_model, config.kv_heads * config.d_head, bias=config.bias)
        self.v = nn.Linear(config.d_model, config.kv_heads * config.d_head, bias=config.bias)
        self.o = nn.Linear(config.heads * config.d_head, config.d_model, bias=config.bias)
        self.rotary = Rotary(config) if config.pos.startswith("rotary") else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend over ``x [batch, pos, d_model]``; `mask [batch, 1, 1, key_pos]` is True on real keys."""
        batch, pos, _ = x.shape
        q = self.q(x).view(batch, pos, self.heads, self.d_head).transpose(1, 2)
        k = self.k(x).view(batch, pos, self.kv_heads, self.d_head).transpose(1, 2)
        v = self.v(x).view(batch, pos, self.kv_heads, self.d_head).transpose(1, 2)
        z = F.scaled_dot_product_attention(
            self.rotary(q),
            self.rotary(k),
            v,
            attn_mask=mask,
            is_causal=self.causal,
            scale=self.scale,
            enable_gqa=self.heads != self.kv_heads,
        )
        out: Tensor = self.o(z.transpose(1, 2).reshape(batch, pos, self.heads * self.d_head))
        return out


class MLP(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x)) where gated."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_mlp, bias=config.bias) if config.gated else None
        self.up = nn.Linear(config.d_model, config.d_mlp, bias=config.bias)
        self.act = _activation(config)
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        post = self.act(self.up(x)) if self.gate is None else self.act(self.gate(x)) * self.up(x)
        out: Tensor = self.down(post)
        return out


class Block(nn.Module):
    """Attention, then the MLP where there is one, each read from the stream's norm and added to it."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.ln1 = _norm(config)
        self.attn = Attention(config)
        if config.d_mlp:
            self.ln2 = _norm(config)
            self.mlp = MLP(config)
        self.has_mlp = config.d_mlp > 0

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attn(self.ln1(x), mask)
        if self.has_mlp:
            x = x + self.mlp(self.ln2(x))
        return x


class TinyTransformer(nn.Module):
    """A decoder (or, with ``causal=False``, an encoder) as `TinyConfig` describes it.

    Rows stand at the left: position 0 is a row's first token and pads follow its last. A causal model
    therefore never sees a pad from a real position and needs no mask; others mask pads out.
    """

    logits_at: Tensor

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):  # nn.Linear draws from the global generator: give it back
            self.embed = nn.Embedding(config.vocab, config.d_model)
            self.pos_embed = nn.Embedding(config.ctx, config.d_model) if config.pos == "learned" else None
            self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
            self.ln_final = _norm(config, config.final_norm)
            self.unembed = nn.Linear(config.d_model, config.vocab, bias=config.unembed_bias)
        if config.logits_at is not None:
            self.register_buffer("logits_at", torch.tensor([config.logits_at]), persistent=False)
        if config.tied:
            self.unembed.weight = self.embed.weight
        self.reset(config.seed)

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        """Draw the weights anew: matrices normal with variance 1/fan-in, biases 0, norms 1.

        Embeddings are normal with variance 1/d_model, so that a tied unembedding starts at logits of order 1.
        """
        if self.embed.weight.is_meta:
            return
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                weight = module.weight
                draw = torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5
                weight.copy_(draw)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    module.bias.zero_()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits ``[batch, pos, vocab]``, or ``[batch, vocab]`` with `logits_at`.

        Args:
            input_ids: int64 ``[batch, pos]``, padded on the right.
            attention_mask: int64 ``[batch, pos]``, 1 on real tokens.
        """
        x = self.embed(input_ids)
        if self.pos_embed is not None:
            x = x + self.pos_embed(torch.arange(input_ids.shape[1], device=input_ids.device))
        mask = None if self.config.causal else attention_mask.bool()[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        if self.config.logits_at is not None:
            # The position is a tensor, so that no length is special when the model is exported.
            x = x.index_select(1, self.logits_at).squeeze(1)
        logits: Tensor = self.unembed(self.ln_final(x))
        return logits
