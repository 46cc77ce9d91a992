"""One exported graph for all models of an architecture: only the weights differ.

An export costs seconds; a trained model, its untrained control and ten seeds of it share one. The graphs of
architectures are kept for the life of the process, without weights, so that the next spec has them, too.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import fx, nn

from midsl.graph.export import TIED
from midsl.graph.sites import Loaded, ModelGraph

MOST = 64
"""Graphs that are kept; those longest unused go."""
_KEPT: OrderedDict[tuple[str, bool], ModelGraph] = OrderedDict()


def rebind(mg: ModelGraph, loaded: Loaded, lift: bool = False) -> ModelGraph:
    """Return the model graph of another model of the same key: same graph, its own parameters.

    With `lift` both graphs are in float64.

    Raises:
        KeyError: if the model lacks a tensor that the graph uses, or has it in another shape.
    """
    forward = copy.deepcopy(loaded.forward).double() if lift else loaded.forward
    own: dict[str, torch.Tensor] = dict(forward.named_parameters(remove_duplicate=False))
    own |= dict(forward.named_buffers(remove_duplicate=False))
    parameters = dict(mg.gm.named_parameters(remove_duplicate=False))

    def new(name: str, old: torch.Tensor) -> torch.Tensor:
        found = own.get(mg.gm.meta.get(TIED, {}).get(name, name))
        if (found is None and name in parameters) or (found is not None and found.shape != old.shape):
            raise KeyError(name)
        return old if found is None else found

    return _with_tensors(mg, new)


def keep(mg: ModelGraph, lift: bool) -> None:
    """Keep the graph of an architecture, without the weights of the model."""
    parameters = dict(mg.gm.named_parameters(remove_duplicate=False))

    def nowhere(name: str, old: torch.Tensor) -> torch.Tensor:
        return nn.Parameter(old.to("meta"), requires_grad=False) if name in parameters else old

    _KEPT[mg.info.key, lift] = _with_tensors(mg, nowhere)
    while len(_KEPT) > MOST:
        _KEPT.popitem(last=False)


def kept(key: str, lift: bool) -> ModelGraph | None:
    """The graph of an architecture, if this process has exported it: for `rebind`, it has no weights."""
    found = _KEPT.get((key, lift))
    if found is not None:
        _KEPT.move_to_end((key, lift))
    return found


def forget() -> None:
    """Keep none of them."""
    _KEPT.clear()


def _with_tensors(mg: ModelGraph, new: Callable[[str, torch.Tensor], torch.Tensor]) -> ModelGraph:
    """A copy of a model graph, of the same nodes, whose tensors are others."""
    memo: dict[int, object] = {id(mg.gm.graph): mg.gm.graph}
    tensors = [*mg.gm.named_parameters(remove_duplicate=False), *mg.gm.named_buffers(remove_duplicate=False)]
    for name, old in tensors:
        memo[id(old)] = new(name, old)
    gm = copy.deepcopy(mg.gm, memo)
    assert isinstance(gm, fx.GraphModule)
    return replace(mg, gm=gm)
