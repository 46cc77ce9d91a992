"""A model with some weights of its own: the same graph, and copies of those parameters that are written."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from midsl.graph import walk
from midsl.graph.attention import Heads
from midsl.graph.project import Projection, bias_vector, weight_matrix
from midsl.graph.sites import ModelGraph
from midsl.graph.weights import hidden, place_table, weight_rows

Name = tuple[str, int | None]
"""A weight by its field name, with the layer where it has one."""


def with_own(mg: ModelGraph, names: Collection[Name]) -> ModelGraph:
    """Return a model graph that shares everything with another but the parameters behind some weights.

    Raises:
        KeyError: if there is no such weight, it is computed and not stored (a scaled embedding, a bias that
            is left out), or it is a norm's.
    """
    targets = dict.fromkeys(parameter_of(mg, *name) for name in names)
    tensors = [*mg.gm.named_parameters(remove_duplicate=False), *mg.gm.named_buffers(remove_duplicate=False)]
    memo: dict[int, Any] = {id(mg.gm.graph): mg.gm.graph, **{id(t): t for _, t in tensors}}
    gm = copy.deepcopy(mg.gm, memo)
    assert isinstance(gm, fx.GraphModule)
    own = replace(mg, gm=gm)
    for target in targets:
        owner, _, last = target.rpartition(".")
        stored = walk.attribute(gm, target)
        fresh = nn.Parameter(stored.detach().clone(), requires_grad=False)
        setattr(gm.get_submodule(owner), last, fresh)
    return own


def put(mg: ModelGraph, name: str, layer: int | None, value: Tensor) -> None:
    """Write a weight, with the axes of its row, into a graph that has it for its own; in place."""
    with torch.no_grad():
        where = _stored(mg, name, layer)
        if isinstance(where, Tensor):
            where.copy_(value)
            return
        stored, rows = where
        turned = stored.dim() == 2 and name != "attn.W_O"  # outputs come first where they are picked
        stored[rows] = (value.transpose(-2, -1) if turned else value).to(stored.dtype)


def _stored(mg: ModelGraph, name: str, layer: int | None) -> Tensor | tuple[Tensor, Tensor]:
    """The view of a parameter that is this weight; or a matrix and the places in it that are."""
    gm, parts = mg.gm, mg.parts
    found = _projection(mg, name, layer)
    bias = name.split(".")[-1].startswith("b_")
    if found is None:
        table = walk.attribute(gm, parameter_of(mg, name, layer))
        assert isinstance(table, Tensor)
        return table if name == "W_E" else table[place_table(gm, parts)[1] :]
    one, rows = found
    if bias:
        vector = bias_vector(gm, one)
        assert vector is not None
        return vector if rows is None or name == "attn.b_O" else (vector, rows)
    matrix = weight_matrix(gm, one)  # [out, in]
    if name in ("W_U", "mlp.W_out"):
        return matrix.t()
    assert rows is not None
    return (matrix.t(), rows) if name == "attn.W_O" else (matrix, rows)


def _projection(mg: ModelGraph, name: str, layer: int | None) -> tuple[Projection, Tensor | None] | None:
    """The linear map that a weight is of, and which rows of it; None for a table."""
    parts = mg.parts
    if name in ("W_U", "b_U"):
        assert parts.head is not None
        return parts.head.projection, None
    if layer is None:
        return None
    block = parts.blocks[layer]
    kind = name.split("_")[1]
    if name.startswith("attn."):
        assert block.attn is not None
        if kind == "O":
            assert block.attn.o is not None
            return block.attn.o, block.attn.o_columns
        heads: Heads = getattr(block.attn, kind.lower())
        return heads.projection, heads.rows
    if kind == "out":
        assert block.mlp is not None
        return block.mlp.out, None
    found = hidden(block)[kind]
    return found.projection, found.rows


def parameter_of(mg: ModelGraph, name: str, layer: int | None) -> str:
    """Return the path of the parameter that a weight is in, or a part of.

    Raises:
        KeyError: as `with_own`.
    """
    row = next((r for r in weight_rows(mg.parts) if r.name == name), None)
    if row is None or row.per_block != (layer is not None) or name.startswith("ln"):
        raise KeyError(name)
    if layer is not None and not 0 <= layer < len(mg.parts.blocks):
        raise KeyError(f"{name} of layer {layer}")
    found = _projection(mg, name, layer)
    if found is not None:
        node = found[0].bias if name.split(".")[-1].startswith("b_") else found[0].weight
        if node is None:
            raise KeyError(name)  # a bias that the model does without
        return str(node.target)
    if name == "W_E" and mg.parts.embed is not mg.parts.frame.tokens:
        raise KeyError("W_E")  # what is looked up is scaled
    table = mg.parts.frame.tokens.args[0] if name == "W_E" else place_table(mg.gm, mg.parts)[0]
    assert isinstance(table, fx.Node)
    return str(table.target)
