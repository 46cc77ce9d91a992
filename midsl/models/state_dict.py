"""Plain state dicts: tensors under names that somebody's training code gave them.

The names say most of the architecture (sizes, which norms and biases there are); what they can't say (the
number of heads of a fused projection, the activation) the spec gives in `arch`. Nothing is left to chance:
every tensor of the file is used or known to be derived, and every tensor of the model comes from the file.
"""

from __future__ import annotations

import base64
import binascii
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midsl.diagnostics.model import fail
from midsl.models.config import TinyConfig, tiny_config
from midsl.models.facts import Facts
from midsl.models.names import CONVENTIONS, Convention, recognise
from midsl.models.tokens import plain_tokenizer
from midsl.models.toy import tiny_facts

if TYPE_CHECKING:
    from torch import Tensor

    from midsl.models.loaded import LoadedModel

Shapes = dict[str, tuple[int, ...]]


def describe_state_dict(
    path: str,
    arch: Mapping[str, Any] | None = None,
    names: str = "auto",
    tokenizer: str = "",
    words: Sequence[str] = (),
    chars: str = "",
    inside: str = "",
) -> Facts | None:
    """Return the facts of `state_dict` with these arguments; None for a `.pt`, which only torch can read."""
    shapes = _shapes_of(_readable(path))
    if shapes is None:
        return None
    return tiny_facts(_configure(shapes, arch or {}, names, Path(path).name)[1])


def state_dict(
    path: str,
    arch: Mapping[str, Any] | None = None,
    names: str = "auto",
    tokenizer: str = "",
    words: Sequence[str] = (),
    chars: str = "",
    inside: str = "",
) -> LoadedModel:
    """Load a small transformer from a plain file of tensors.

    Args:
        path: `.safetensors`, `.pt` or `.pth` (tensors only), or JSON ``{name: {shape, dtype, data}}`` with
            base64 of little-endian data.
        arch: fields of `TinyConfig` that the tensors can't tell (``heads``, ``act``), or that differ from
            the convention (``causal: false``, ``norm: "none"``, ``attn_scale``, ``logits_at``).
        names: "minGPT" (makemore too), "nanoGPT", "TransformerLens", "midsl", or "auto" to go by the file.
        tokenizer: a tokenizer's folder or file; else `words` or `chars`, one per token id; else integers.
        inside: the key under which a checkpoint keeps the state dict, where it keeps more than that.

    Raises:
        MiError: MI0504 if the file cannot be read, MI0508 if it would run code, MI0509 if `arch` or `names`
            is not valid, MI0510 if the file is damaged, or tensors are missing, left over or of other shapes.
    """
    import torch

    from midsl.models.loaded import loaded
    from midsl.models.tiny import TinyTransformer

    tensors = _read(_readable(path), inside)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    convention, config = _configure(shapes, arch or {}, names, Path(path).name)
    module = TinyTransformer(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    try:
        weights = convention.convert(tensors, config)
    except RuntimeError as error:  # a reshape that does not come out
        raise fail("MI0510", f"{path}: tensors do not fit the configuration: {error}") from error
    _match(path, wanted, {name: tuple(tensor.shape) for name, tensor in weights.items()}, config)
    with torch.no_grad():
        module.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    made = plain_tokenizer(config.vocab, path=tokenizer, words=words, chars=chars)
    return loaded(tiny_facts(config), module, module, made, "blocks", config.ctx)
