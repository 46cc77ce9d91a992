"""Models whose inputs are planted: a table for an embedding, a readout for an unembedding, MLPs between.

They are what a method with a known answer is tried on. Attention writes nothing, and training moves the MLPs
alone: what is planted is held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from midsl.data.planted import planted, sizes_of
from midsl.models.config import TinyConfig, tiny_config
from midsl.models.facts import Facts
from midsl.models.tokens import plain_tokenizer
from midsl.models.toy import tiny_facts

if TYPE_CHECKING:
    from midsl.models.loaded import LoadedModel
    from midsl.models.tiny import TinyTransformer


def _config(vocab: int, d_model: int, d_mlp: int, act: str, seed: int) -> TinyConfig:
    fields = {
        "layers": 1, "heads": 1, "d_head": 1, "d_model": d_model, "d_mlp": d_mlp, "vocab": vocab, "ctx": 4,
        "norm": "none", "pos": "none", "act": act, "seed": seed,
    }  # fmt: skip
    return tiny_config(fields, "a table")


def describe_table(
    rows: Mapping[str, Any], width: int = 0, d_mlp: int = 0, act: str = "relu", seed: int = 0
) -> Facts:
    """Return the facts of `table` with these arguments; raises as it does."""
    n, d = sizes_of(rows)
    return tiny_facts(_config(n, d + width, d_mlp, act, seed))


def table(
    rows: Mapping[str, Any], width: int = 0, d_mlp: int = 0, act: str = "relu", seed: int = 0
) -> LoadedModel:
    """Build a model that embeds planted rows.

    Args:
        rows: a recipe of `midsl.data.planted`; token t embeds to row t.
        width: dimensions beyond those of the rows, 0 in them all, for the MLP to write to.
        d_mlp: hidden units of its one MLP; 0: there is none.
        seed: draws the MLP.

    Raises:
        MiError: MI0511 for rows that cannot be made, MI0509 for sizes that do not fit.
    """
    import torch

    n, d = sizes_of(rows)
    made = planted(rows, width)
    module = _still(_config(n, d + width, d_mlp, act, seed))
    with torch.no_grad():
        module.embed.weight.zero_()[:, :d] = torch.from_numpy(made.rows)
        module.unembed.weight.zero_()
        k = min(n, len(made.directions))
        module.unembed.weight[:k, : made.directions.shape[1]] = torch.from_numpy(made.directions[:k])
    return _finished(module)


def describe_bystander(seed: int = 0) -> Facts:
    """Return the facts of `bystander`."""
    return tiny_facts(_config(512, 32, 256, "gelu", seed))


def bystander(seed: int = 0) -> LoadedModel:
    """Build a model whose MLP has nothing to do with its answer, though a direction in it can change it.

    Bits 0 to 8 of a token are nine features, +1 or -1 along orthonormal directions of the stream. The first
    is the answer, and the stream carries it: logit 1 less logit 0 is its value. What the MLP's hidden layer
    does when the first feature flips, and the 64 directions in which it varies most, write nothing to the
    answer; the rest of it does, and hardly varies.

    Source: Makelov, Lange and Nanda, "Is This the Subspace You Are Looking For?", 2023 (arXiv 2311.17030).
    """
    import torch

    module = _still(_config(512, 32, 256, "gelu", seed))
    made = torch.Generator().manual_seed(seed + 7)
    with torch.no_grad():
        features = torch.linalg.qr(torch.randn(32, 9, generator=made, dtype=torch.float64))[0].T
        token = torch.arange(512)
        signs = (token[:, None] >> torch.arange(9) & 1).double() * 2 - 1
        x = signs @ features
        mlp = module.blocks[0].mlp
        w_in = torch.randn(256, 32, generator=made, dtype=torch.float64)
        bias = torch.randn(256, generator=made, dtype=torch.float64)
        h = torch.nn.functional.gelu(x @ w_in.T + bias)
        centre = h.mean(0)
        varies = torch.cat([h[token ^ 1] - h, h - centre])
        leading = torch.linalg.svd(varies, full_matrices=False)[2][:64]
        w_out = torch.randn(32, 256, generator=made, dtype=torch.float64) / 16
        answer = features[0]
        reads = w_out.T @ answer
        dormant = reads - leading.T @ (leading @ reads)
        dormant *= 0.2 / dormant.norm()
        w_out += torch.outer(answer, dormant - reads)
        module.embed.weight.copy_(x)
        mlp.up.weight.copy_(w_in)  # type: ignore[union-attr, operator]
        mlp.up.bias.copy_(bias)  # type: ignore[union-attr, operator]
        mlp.down.weight.copy_(w_out)  # type: ignore[union-attr, operator]
        mlp.down.bias.copy_(-w_out @ centre)  # type: ignore[union-attr, operator]
        module.unembed.weight.zero_()
        module.unembed.weight[1] = answer / 2
        module.unembed.weight[0] = -answer / 2
    return _finished(module)


def _still(config: TinyConfig) -> TinyTransformer:
    """A transformer whose attention writes nothing."""
    import torch

    from midsl.models.tiny import TinyTransformer

    module = TinyTransformer(config)
    with torch.no_grad():
        for p in module.blocks[0].attn.parameters():  # type: ignore[union-attr]
            p.zero_()
    return module


def _finished(module: TinyTransformer) -> LoadedModel:
    from midsl.models.loaded import loaded

    config = module.config
    held = tuple(n for n, _ in module.named_parameters() if ".mlp." not in n)
    made = loaded(tiny_facts(config), module, module, plain_tokenizer(config.vocab), "blocks", config.ctx)
    return replace(made, held=held)
