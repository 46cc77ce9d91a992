"""The one form in which every source hands over a model.

Rows come padded on the right with position 0 their first real token, so that position ids are a plain
range for every model; the attention mask is always given, for models that look both ways.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from midsl.data.dataset import Tokenizer
from midsl.models.facts import Facts, Json


@dataclass
class LoadedModel:
    """A model ready to run: in `eval()` mode, without gradients on its weights.

    Attributes:
        module: the model as its source defines it; float32 unless the spec declared another dtype.
        forward: ``forward(input_ids [batch, pos], attention_mask [batch, pos])``, both int64, returns
            logits ``[batch, pos, vocab]`` (``[batch, vocab]`` for a classifier at a position). It shares
            `module`'s parameters.
        arch: "tiny", or the transformers model type ("gpt2", "llama", ...).
        config: everything that decides the graph.
        key: sha256 of arch, config and package versions; `facts.static_key` gives the same one.
        tokenizer: None where the source has none.
        weights_sha256: over names, dtypes, shapes and bytes of the state dict.
        blocks_path: module path of the list of blocks inside `forward`, "model.transformer.h" say.
        max_pos: the longest row the model accepts, None if unbounded or unknown.
        sizes: axis sizes by name, as `Facts.sizes`.
        held: names of parameters that training leaves as they are.
    """

    module: nn.Module
    forward: nn.Module
    arch: str
    config: dict[str, Json]
    key: str
    tokenizer: Tokenizer | None
    weights_sha256: str
    blocks_path: str | None
    max_pos: int | None
    sizes: dict[str, int] = field(default_factory=dict)
    held: tuple[str, ...] = ()


def loaded(
    facts: Facts,
    module: nn.Module,
    forward: nn.Module,
    tokenizer: Tokenizer | None,
    blocks_path: str | None,
    max_pos: int | None,
) -> LoadedModel:
    """Finish a model: evaluation mode, no gradients, weights hashed."""
    module.eval().requires_grad_(False)
    return LoadedModel(
        module=module,
        forward=forward.eval(),
        arch=facts.arch,
        config=facts.config,
        key=facts.key,
        tokenizer=tokenizer,
        weights_sha256=weights_sha256(module),
        blocks_path=blocks_path,
        max_pos=max_pos,
        sizes=facts.sizes,
    )


def weights_sha256(module: nn.Module) -> str:
    """Return the sha256 of a module's state dict: each name, dtype, shape and the bytes, by name.

    Two modules with equal weights have equal hashes, on whatever device they are.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        flat = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {flat.dtype} {tuple(flat.shape)}\n".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def find_blocks(module: nn.Module, layers: int | None) -> str | None:
    """Return the path of the `ModuleList` of blocks: the one of that length that holds most parameters."""
    best, most = None, 0
    for path, child in module.named_modules():
        if isinstance(child, nn.ModuleList) and len(child) > 0 and layers in (None, len(child)):
            count = sum(p.numel() for p in child.parameters())
            if count > most:
                best, most = path, count
    return best


class HFForward(nn.Module):
    """A transformers model behind midsl's two-argument signature."""

    def __init__(self, model: nn.Module, takes_positions: bool) -> None:
        super().__init__()
        self.model = model
        self.takes_positions = takes_positions

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits ``[batch, pos, vocab]``."""
        extra = {}
        if self.takes_positions:
            extra["position_ids"] = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        out = self.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False, return_dict=True, **extra
        )
        logits: Tensor = out.logits
        return logits
