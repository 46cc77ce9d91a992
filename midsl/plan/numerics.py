"""The numerics class of a model: what its results may depend on in their last bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from midsl.backends.packed import at_hand
from midsl.ir import nodes as ir
from midsl.models.loaded import LoadedModel

if TYPE_CHECKING:
    from midsl.plan.driver import Compiled


def model_numerics(compiled: Compiled) -> Callable[[ir.Node], str]:
    """The numerics class of a spec's models."""
    return lambda node: numerics(compiled.binder.loaded(node))


def numerics(loaded: LoadedModel) -> str:
    """The numerics class of a model: what its results may depend on in their last bits."""
    first = next(loaded.module.parameters(), None)
    dtype = str(first.dtype).removeprefix("torch.") if first is not None else "float32"
    attention = getattr(getattr(loaded.module, "config", None), "_attn_implementation", "sdpa")
    device = first.device.type if first is not None else "cpu"
    how = "packed" if at_hand() and dtype == "float32" else "eager"
    return f"{dtype} {attention} {how} {device} torch-{torch.__version__.split('+')[0]}"
