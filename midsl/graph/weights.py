"""Weights by their field names, in TransformerLens' orientation, whatever way a family stores them.

A bias that a family has not is there as zeros, so that what is written for one model holds of the next.
"""

from __future__ import annotations

import torch
from torch import fx

from midsl.graph import walk
from midsl.graph.attention import Heads
from midsl.graph.export import is_call
from midsl.graph.info import WeightRow
from midsl.graph.mlp import Hidden, Norm
from midsl.graph.norms import affine
from midsl.graph.parts import Block, Parts
from midsl.graph.project import Projection, bias_vector, weight_matrix

aten = torch.ops.aten
_QKV = {"Q": "q", "K": "k", "V": "v"}


def weight_rows(parts: Parts) -> tuple[WeightRow, ...]:
    """Return the weights that a model has, with their axes (those of its first block)."""
    rows = [WeightRow(name="W_E", axes=("vocab", "d_model"), per_block=False)]
    if parts.pos_embed is not None:
        rows.append(WeightRow(name="W_pos", axes=("pos", "d_model"), per_block=False))
    block = parts.blocks[0]
    rows += [*_norm_rows("ln1.", block.ln1, True), *_norm_rows("ln2.", block.ln2, True)]
    if block.attn is not None:
        for letter, short in _QKV.items():
            own: Heads | None = getattr(block.attn, short)
            if own is None or own.rows is None:
                continue
            head = (
                "head" if "head" in str(own.at.layout) and "kv_head" not in str(own.at.layout) else "kv_head"
            )
            rows.append(WeightRow(name=f"attn.W_{letter}", axes=(head, "d_model", "d_head"), per_block=True))
            rows.append(WeightRow(name=f"attn.b_{letter}", axes=(head, "d_head"), per_block=True))
        if block.attn.o is not None and block.attn.o_columns is not None:
            rows.append(WeightRow(name="attn.W_O", axes=("head", "d_head", "d_model"), per_block=True))
            rows.append(WeightRow(name="attn.b_O", axes=("d_model",), per_block=True))
    for name in hidden(block):
        rows.append(WeightRow(name=f"mlp.W_{name}", axes=("d_model", "d_mlp"), per_block=True))
        rows.append(WeightRow(name=f"mlp.b_{name}", axes=("d_mlp",), per_block=True))
    if block.mlp is not None:
        rows.append(WeightRow(name="mlp.W_out", axes=("d_mlp", "d_model"), per_block=True))
        rows.append(WeightRow(name="mlp.b_out", axes=("d_model",), per_block=True))
    rows += _norm_rows("ln_final.", parts.ln_final, False)
    if parts.head is not None:
        rows.append(WeightRow(name="W_U", axes=("d_model", "vocab"), per_block=False))
        rows.append(WeightRow(name="b_U", axes=("vocab",), per_block=False))
    return tuple(rows)


def _norm_rows(start: str, found: Norm | None, per_block: bool) -> list[WeightRow]:
    if found is None:
        return []
    return [WeightRow(name=start + n, axes=("d_model",), per_block=per_block) for n in ("w", "b")]


def hidden(block: Block) -> dict[str, Hidden]:
    """The first linear maps of an MLP by name: `in`, and `gate` for the activated one of a gated MLP."""
    found = block.mlp
    if found is None or found.pre is None:
        return {}
    out = {"in": found.pre} if found.linear is None else {"in": found.linear, "gate": found.pre}
    return {name: h for name, h in out.items() if h.rows is not None}


def weight(gm: fx.GraphModule, parts: Parts, name: str, layer: int | None) -> torch.Tensor:
    """Return one weight with the axes of its row; `W_E` is what is added to the stream (scaled, in Gemma).

    Raises:
        KeyError: if the model has no weight of that name, or `layer` is missing, superfluous or too large.
    """
    rows = {r.name: r for r in weight_rows(parts)}
    row = rows.get(name)
    if row is None or row.per_block != (layer is not None):
        raise KeyError(name)
    if layer is None:
        return _end(gm, parts, name)
    if not 0 <= layer < len(parts.blocks):
        raise KeyError(f"{name} of layer {layer}")
    block = parts.blocks[layer]
    if name.startswith("ln"):
        return _norm(gm, parts, block.ln1 if name.startswith("ln1.") else block.ln2, name)
    part, kind = name.split(".")[1].split("_")
    is_bias = part == "b"
    if name.startswith("attn.") and kind in _QKV:
        own: Heads = getattr(block.attn, _QKV[kind])
        assert own.rows is not None
        return _rows(gm, own.projection, own.rows, is_bias)
    if name.startswith("attn."):
        assert block.attn is not None and block.attn.o is not None and block.attn.o_columns is not None
        return _out(gm, block.attn.o, is_bias, block.attn.o_columns)
    if kind == "out":
        assert block.mlp is not None
        return _out(gm, block.mlp.out, is_bias, None)
    found = hidden(block)[kind]
    assert found.rows is not None
    return _rows(gm, found.projection, found.rows, is_bias)


def _rows(gm: fx.GraphModule, found: Projection, rows: torch.Tensor, bias: bool) -> torch.Tensor:
    """Pick outputs of a projection: the weight as [*rows, in] turned to [.., in, last], or the bias."""
    if bias:
        return _bias(gm, found)[rows]
    picked = weight_matrix(gm, found)[rows]
    return picked.transpose(-2, -1)


def _out(gm: fx.GraphModule, found: Projection, bias: bool, columns: torch.Tensor | None) -> torch.Tensor:
    if bias:
        return _bias(gm, found)
    matrix = weight_matrix(gm, found).t()  # [in, out]
    return matrix if columns is None else matrix[columns]


def _bias(gm: fx.GraphModule, found: Projection) -> torch.Tensor:
    """A projection's bias, of one entry for each output; zeros where it has none."""
    value = bias_vector(gm, found)
    if value is not None:
        return value
    matrix = weight_matrix(gm, found)  # [out, in]
    return matrix.new_zeros(matrix.shape[0])


def _norm(gm: fx.GraphModule, parts: Parts, found: Norm | None, name: str) -> torch.Tensor:
    """What a norm multiplies by, or adds: [d_model]."""
    if found is None:
        raise KeyError(name)
    weight, bias = affine(gm, parts.frame, found)
    return weight if name.endswith(".w") else bias


def _end(gm: fx.GraphModule, parts: Parts, name: str) -> torch.Tensor:
    if name in ("W_U", "b_U"):
        assert parts.head is not None
        whole = parts.head.projection
        return weight_matrix(gm, whole).t() if name == "W_U" else _bias(gm, whole)
    if name.startswith("ln_final."):
        return _norm(gm, parts, parts.ln_final, name)
    if name == "W_E":
        table = parts.frame.tokens.args[0]
        assert isinstance(table, fx.Node)
        value = walk.attribute(gm, str(table.target))
        assert isinstance(value, torch.Tensor)
        if parts.embed is parts.frame.tokens:
            return value
        ids = torch.arange(value.shape[0], device=value.device)[:, None]
        with torch.no_grad():
            rows = walk.evaluate(
                gm, parts.embed, {parts.frame.ids: ids, parts.frame.mask: torch.ones_like(ids)}
            )
        assert isinstance(rows, torch.Tensor)
        return rows[:, 0]
    table, first = place_table(gm, parts)
    stored = walk.attribute(gm, str(table.target))
    assert isinstance(stored, torch.Tensor)
    return stored[first:]


def place_table(gm: fx.GraphModule, parts: Parts) -> tuple[fx.Node, int]:
    """Where learned positions are looked up, and the row of position 0 there.

    It is evaluated and not read off, because families keep rows before position 0 (OPT keeps two).
    """
    assert parts.pos_embed is not None
    lookup = next(n for n in walk.ancestors(parts.pos_embed) if is_call(n, aten.embedding.default))
    table, index = lookup.args[:2]
    assert isinstance(table, fx.Node) and isinstance(index, fx.Node)
    device = walk.attribute(gm, str(table.target)).device
    first = torch.zeros(1, 1, dtype=torch.int64, device=device)
    given = {parts.frame.ids: first, parts.frame.mask: torch.ones_like(first)}
    return table, int(walk.evaluate(gm, index, given).reshape(-1)[0])
