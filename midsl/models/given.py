"""A module that is in memory already, as a model: its own weights, shared and left as they are."""

from __future__ import annotations

import copy
import inspect
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor, nn

from midsl.data.dataset import Tokenizer
from midsl.data.fast import FastTokenizer
from midsl.diagnostics.model import fail
from midsl.models.facts import Facts
from midsl.models.hf import finish
from midsl.models.hf_files import hf_facts, hf_sizes
from midsl.models.loaded import LoadedModel, find_blocks, loaded
from midsl.models.tiny import TinyTransformer
from midsl.models.tokens import plain_tokenizer
from midsl.models.toy import tiny_facts


class Forward(nn.Module):
    """Somebody's module behind midsl's two-argument signature."""

    def __init__(self, model: nn.Module, masked: bool) -> None:
        super().__init__()
        self.model = model
        self.masked = masked

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits ``[batch, pos, vocab]``."""
        out = self.model(input_ids, attention_mask) if self.masked else self.model(input_ids)
        logits: Tensor = getattr(out, "logits", out)
        return logits


def given_model(module: nn.Module, tokenizer: object = None) -> LoadedModel:
    """Wrap a module: a transformers model, a toy of midsl's, or any that maps tokens to logits.

    What comes back shares the module's tensors and nothing else: its mode, and which of its weights have
    gradients, stay as they are.

    Args:
        module: ``forward(input_ids [batch, pos])``, or with an attention mask as its second argument;
            returns logits ``[batch, pos, vocab]``, or an object that has them as ``logits``.
        tokenizer: one of transformers' or of midsl's; without it tokens are integers.

    Raises:
        MiError: MI0509 if it is not on the CPU, or gives no logits.
    """
    devices = {t.device.type for t in (*module.parameters(), *module.buffers())}
    if devices - {"cpu"}:
        raise fail(
            "MI0509",
            f"the module is on {', '.join(sorted(devices))}",
            help='runs are on the CPU: `.to("cpu")`',
        )
    own = shared(module)
    if isinstance(own, TinyTransformer):
        config = own.config
        made = given_tokenizer(tokenizer) or plain_tokenizer(config.vocab, int_bos=True)
        return loaded(tiny_facts(config), own, own, made, "blocks", config.ctx)
    first = next(own.parameters(), torch.zeros(()))
    dtype = str(first.dtype).removeprefix("torch.")
    if any(kind.__name__ == "PreTrainedModel" for kind in type(own).__mro__):
        return _transformers(own, dtype, given_tokenizer(tokenizer))
    return _any(own, dtype, given_tokenizer(tokenizer))


def shared(module: nn.Module) -> nn.Module:
    """Return a module of the same tensors that may be put in another mode."""
    memo: dict[int, Any] = {}
    for tensor in module.parameters():
        memo[id(tensor)] = nn.Parameter(tensor.detach(), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach()
    return copy.deepcopy(module, memo)


def given_tokenizer(tokenizer: object) -> Tokenizer | None:
    """Return a tokenizer as midsl has them: its own, or a fast one of transformers (MI0509 otherwise)."""
    if tokenizer is None or hasattr(tokenizer, "pieces"):
        return tokenizer  # type: ignore[return-value]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise fail(
            "MI0509",
            f"a {type(tokenizer).__name__} is no tokenizer that can be used here",
            help="give a fast tokenizer of transformers: AutoTokenizer.from_pretrained(...)",
        )
    begin = getattr(tokenizer, "bos_token_id", None)
    adds = begin is not None and list(backend.encode("a").ids)[:1] == [begin]
    return FastTokenizer(backend, begin if adds else None, getattr(tokenizer, "eos_token_id", None))


def _transformers(model: Any, dtype: str, tokenizer: Tokenizer | None) -> LoadedModel:
    config = model.config.to_dict()
    sizes = hf_sizes(config)
    attention = getattr(model.config, "_attn_implementation", "")
    facts = hf_facts({**config, "given_attention": attention}, dtype, sizes)
    vocab = int(model.get_output_embeddings().weight.shape[0])
    return finish(model, facts, tokenizer or plain_tokenizer(vocab))


def _any(module: nn.Module, dtype: str, tokenizer: Tokenizer | None) -> LoadedModel:
    wanted = [
        p
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    masked = len(wanted) > 1 and "mask" in wanted[1].name
    forward = Forward(module, masked).eval()
    try:
        with torch.no_grad():
            ids = torch.zeros(1, 2, dtype=torch.int64)
            logits = forward(ids, torch.ones_like(ids))
        vocab = int(logits.shape[2])
    except Exception as error:  # whatever somebody's module raises
        raise fail(
            "MI0509",
            f"{type(module).__name__} gives no logits for two tokens: {error}",
            help="it must map int64 tokens [batch, pos] to logits [batch, pos, vocab]",
        ) from error
    blocks = find_blocks(module, None)
    sizes = {"vocab": vocab}
    if blocks is not None:
        sizes["layer"] = len(module.get_submodule(blocks))  # type: ignore[arg-type]
    # of a class that may be edited between two runs: no other process knows this architecture
    facts = Facts("given", {"module": type(module).__qualname__, "dtype": dtype, "apart": uuid4().hex}, sizes)
    path = f"model.{blocks}" if blocks else None
    return loaded(facts, module, forward, tokenizer or plain_tokenizer(vocab), path, None)
