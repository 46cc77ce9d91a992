"""Position rules: how far a value at one position can reach, per node, and a check by perturbation.

`local`: out[p] needs in[p] alone. `causal`: out[p] needs in[<= p]. `mixing`: anything else, and all
that is not recognised. Inside an attention every node of the core (scores, pattern, the product with v)
has the rule of the core as a whole, which is causal only if the evaluated masks say so.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from midsl.graph import walk
from midsl.graph.axes import PERMUTES, RESHAPES, VIEWS, Size, prod, sizes
from midsl.graph.parts import Parts

if TYPE_CHECKING:
    from midsl.graph.sites import ModelGraph

aten = torch.ops.aten
LOCAL, CAUSAL, MIXING = "local", "causal", "mixing"

_ROWWISE = {
    aten.linear.default,
    aten.addmm.default,
    aten.embedding.default,
    aten.layer_norm.default,
    aten.rms_norm.default,
    aten.add.Tensor,
    aten.type_as.default,
    aten.alias.default,
    operator.getitem,
}
"""Local whatever their arguments: they act on the last axes, or elementwise."""
_ALONG = {
    aten.mean.dim: 1,
    aten.sum.dim_IntList: 1,
    aten.softmax.int: 1,
    aten.topk.default: 2,
    aten.cat.default: 1,
    aten.stack.default: 1,
    aten.split.Tensor: 2,
    aten.split_with_sizes.default: 2,
    aten.chunk.default: 2,
    aten.slice.Tensor: 1,
    aten.select.int: 1,
    aten.cumsum.default: 1,
    aten.squeeze.dim: 1,
}
"""Operations along dimensions, and which argument says along which: local unless that is a position's."""


def position_rules(parts: Parts, causal: bool) -> dict[str, str]:
    """Return the rule of each node that depends on the tokens, by name."""
    core = CAUSAL if causal else MIXING
    inside = _cores(parts)
    out = {}
    for node in parts.frame.gm.graph.nodes:
        if node not in parts.frame.dynamic or node.op != "call_function":
            continue
        out[node.name] = core if node in inside else node_rule(parts, node)
    return out


def _cores(parts: Parts) -> set[fx.Node]:
    """The nodes from q and k (per position still) to z: where positions meet."""
    out: set[fx.Node] = set()
    for block in parts.blocks:
        found = block.attn
        if found is None:
            continue
        out.add(found.core)
        if found.pattern is not None and found.q is not None:
            out |= {n for n in walk.between(found.q.used.node, found.core) if _two_positions(parts, n)}
    return out


def _two_positions(parts: Parts, node: fx.Node) -> bool:
    return sum(parts.frame.pos in n.free_symbols for n in sizes(node)) == 2


def node_rule(parts: Parts, node: fx.Node) -> str:
    """Return the rule of a node outside attention, in the model's graph or in a rewritten copy of it."""
    op = node.target
    if op in RESHAPES:
        return LOCAL if _keeps_rows(parts, node) else MIXING
    if _two_positions(parts, node):
        return MIXING  # pairs of positions outside a recognised attention
    if op in VIEWS | PERMUTES | _ROWWISE or torch.Tag.pointwise in getattr(op, "tags", ()):
        return LOCAL
    if op in _ALONG:
        return MIXING if _along_rows(parts, node, _ALONG[op]) else LOCAL
    if op is aten.bmm.default:
        return LOCAL if all(_rows_lead(parts, n) for n in node.all_input_nodes) else MIXING
    if op is aten.matmul.default and isinstance(node.args[1], fx.Node) and node.args[1].op == "get_attr":
        return LOCAL
    if op is aten.einsum.default:
        return LOCAL if _einsum_keeps_rows(parts, node) else MIXING
    if op is aten.repeat_interleave.self_int or op is aten.index.Tensor:
        return LOCAL if _rows_first(parts, node) else MIXING
    return MIXING


def _keeps_rows(parts: Parts, node: fx.Node) -> bool:
    """Whether a reshape keeps rows apart: the same batch and pos dimensions, or both flattened in order."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    symbols = {parts.frame.batch, parts.frame.pos}

    def rows(shape: tuple[Size, ...]) -> list[tuple[Size, Size]]:
        """Each dimension that grows with the input, and the number of elements before it."""
        return [(prod(shape[:i]), n) for i, n in enumerate(shape) if n.free_symbols & symbols]

    before, after = rows(sizes(source)), rows(sizes(node))
    if before == after:
        return True
    apart = [(1, parts.frame.batch), (parts.frame.batch, parts.frame.pos)]

    def leads(found: list[tuple[Size, Size]]) -> bool:
        return found == apart or (
            len(found) == 1 and found[0][0] == 1 and found[0][1].free_symbols == symbols
        )

    return leads(before) and leads(after)


def _along_rows(parts: Parts, node: fx.Node, at: int) -> bool:
    dims = node.args[at] if len(node.args) > at else node.kwargs.get("dim", 0 if at != 2 else -1)
    source = node.args[0]
    first = source[0] if isinstance(source, (list, tuple)) else source
    assert isinstance(first, fx.Node)
    shape = sizes(first)
    rank = len(shape) + (node.target is aten.stack.default)
    for dim in dims if isinstance(dims, (list, tuple)) else (dims,):
        i = int(dim) % rank
        if i < len(shape) and shape[i].free_symbols & {parts.frame.batch, parts.frame.pos}:
            return True
    return False


def _einsum_keeps_rows(parts: Parts, node: fx.Node) -> bool:
    """Whether what grows with the input is summed over nowhere: its letters are all in the result."""
    equation, operands = node.args[0], node.args[1]
    assert isinstance(equation, str) and isinstance(operands, (list, tuple))
    inputs, result = equation.replace(" ", "").split("->")
    symbols = {parts.frame.batch, parts.frame.pos}
    for letters, operand in zip(inputs.split(","), operands, strict=True):
        assert isinstance(operand, fx.Node)
        growing = [c for c, n in zip(letters, sizes(operand), strict=True) if n.free_symbols & symbols]
        if any(c not in result for c in growing):
            return False
    return not _two_positions(parts, node)


def _rows_lead(parts: Parts, node: fx.Node) -> bool:
    """Whether only the first dimension of a value grows with the input."""
    symbols = {parts.frame.batch, parts.frame.pos}
    return not any(n.free_symbols & symbols for n in sizes(node)[1:])


def _rows_first(parts: Parts, node: fx.Node) -> bool:
    """Whether an operation on rows gives rows: its first dimension is a multiple of batch * pos."""
    shape = sizes(node)
    return bool(shape) and shape[0].free_symbols >= {parts.frame.batch, parts.frame.pos}


# ---------------------------------------------------------------- the check


def check_rules(mg: ModelGraph, ids: Tensor, mask: Tensor) -> list[str]:
    """Perturb one token and return what moved against the rules; [] if all hold.

    With only local and causal rules upstream of a node, positions before the perturbed one keep their
    values bit for bit; with only local ones, later positions do too. Other examples never move.
    """
    batch, length = ids.shape
    at = length // 2
    changed = ids.clone()
    changed[0, at] = (changed[0, at] + 1) % mg.info.sizes["vocab"]
    with torch.no_grad():
        before = dict(walk.runs(mg.gm, ids, mask))
        after = dict(walk.runs(mg.gm, changed, mask))
    rules = mg.rules
    reach: dict[fx.Node, str] = {}
    problems = []
    for node in mg.gm.graph.nodes:
        if node.name not in rules:
            continue
        worst = [reach[n] for n in node.all_input_nodes if n in reach] + [rules[node.name]]
        reach[node] = MIXING if MIXING in worst else CAUSAL if CAUSAL in worst else LOCAL
        old, new = before[node], after[node]
        if not isinstance(old, Tensor) or _two_positions(mg.parts, node):
            continue  # scores of later keys do move before the mask; z shows what is left of that
        moved = _moved(mg.parts, node, old, new, batch, length)
        if moved is None:
            continue
        if batch > 1 and moved[1:].any():
            problems.append(f"{node.name}: another example moves")
        if reach[node] != MIXING and moved[0, :at].any():
            problems.append(f"{node.name} is {reach[node]}, but an earlier position moves")
        if reach[node] == LOCAL and moved[0, at + 1 :].any():
            problems.append(f"{node.name} is local, but a later position moves")
    return problems


def _moved(parts: Parts, node: fx.Node, old: Tensor, new: Tensor, batch: int, length: int) -> Tensor | None:
    """Return which [batch, pos] of a value differ; None where it has no such dimensions."""
    shape, f = sizes(node), parts.frame
    differs = old != new
    if differs.is_floating_point():
        return None
    if f.batch in shape and f.pos in shape:
        b, p = shape.index(f.batch), shape.index(f.pos)
        rest = [i for i in range(len(shape)) if i not in (b, p)]
        return differs.permute(b, p, *rest).reshape(batch, length, -1).any(-1)
    if shape and shape[0].free_symbols >= {f.batch, f.pos}:
        return differs.reshape(batch, length, -1).any(-1)
    return None
