"""One exported graph for all models of an architecture: only the weights differ.

An export costs seconds; a trained model, its untrained control and ten seeds of it share one.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from torch import fx

from midsl.graph.export import TIED
from midsl.graph.sites import Loaded, ModelGraph


def rebind(mg: ModelGraph, loaded: Loaded) -> ModelGraph:
    """Return the model graph of another model of the same key: same graph, its own parameters.

    Raises:
        KeyError: if the model lacks a tensor that the graph uses, or has it in another shape.
    """
    own: dict[str, Any] = dict(loaded.forward.named_parameters(remove_duplicate=False))
    own |= dict(loaded.forward.named_buffers(remove_duplicate=False))
    memo: dict[int, Any] = {id(mg.gm.graph): mg.gm.graph}
    tensors = [*mg.gm.named_parameters(remove_duplicate=False), *mg.gm.named_buffers(remove_duplicate=False)]
    for name, old in tensors:
        new = own.get(mg.gm.meta.get(TIED, {}).get(name, name))
        if new is None and name in dict(mg.gm.named_parameters()):
            raise KeyError(name)
        if new is not None and new.shape != old.shape:
            raise KeyError(name)
        memo[id(old)] = new if new is not None else old
    gm = copy.deepcopy(mg.gm, memo)
    assert isinstance(gm, fx.GraphModule)
    return replace(mg, gm=gm)
