"""Waists and the segments between them, with a hash of each segment's structure.

A waist is a node where only one tensor that depends on the tokens is live: between blocks, and
between attention and MLP of a sequential block. Segments with equal hashes do the same operations
on the same shapes in the same wiring: one compiled function, with parameters as inputs, serves all.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx

from midsl.graph import walk
from midsl.graph.axes import sizes
from midsl.graph.parts import Parts

Kind = Literal["embed", "attn", "mlp", "block", "unembed"]


@dataclass(frozen=True)
class Segment:
    """The nodes between two waists.

    Attributes:
        layer: the block, or None for the ends.
        kind: `attn` and `mlp` are the halves of a sequential block, `block` is a whole one.
        hash: equal for segments of one structure.
        nodes: names in graph order; the last is the waist.
        input, output: the waists before (None at the start) and after.
    """

    layer: int | None
    kind: Kind
    hash: str
    nodes: tuple[str, ...]
    input: str | None
    output: str


def find_segments(parts: Parts) -> list[Segment]:
    """Return a model's segments in order; a block without a waist inside is one segment."""
    f = parts.frame
    out = [_segment(parts, None, "embed", None, parts.blocks[0].stream.pre)]
    for block in parts.blocks:
        s = block.stream
        if s.mid is not None and _is_waist(parts, s.pre, s.mid, s.post):
            out.append(_segment(parts, s.layer, "attn", s.pre, s.mid))
            out.append(_segment(parts, s.layer, "mlp", s.mid, s.post))
        else:
            out.append(_segment(parts, s.layer, "attn" if s.mlp_out is None else "block", s.pre, s.post))
    out.append(_segment(parts, None, "unembed", parts.blocks[-1].stream.post, f.output))
    return out


def _is_waist(parts: Parts, before: fx.Node, node: fx.Node, after: fx.Node) -> bool:
    return node in walk.chain(before, after)


def _segment(parts: Parts, layer: int | None, kind: Kind, before: fx.Node | None, after: fx.Node) -> Segment:
    dynamic = parts.frame.dynamic
    if before is None:
        nodes = walk.ordered(n for n in walk.ancestors(after) if n in dynamic)
    else:
        nodes = walk.between(before, after)
    return Segment(
        layer,
        kind,
        structure(nodes, before),
        tuple(n.name for n in nodes),
        before.name if before is not None else None,
        after.name,
    )


def structure(nodes: list[fx.Node], before: fx.Node | None) -> str:
    """Hash operations, constants, wiring, and shapes and dtypes of what comes in from outside."""
    number = {n: i for i, n in enumerate(nodes)}
    outside: dict[fx.Node, int] = {}

    def encode(value: Any) -> Any:
        if isinstance(value, fx.Node):
            if value in number:
                return ["node", number[value]]
            if value is before:
                return ["waist"]
            new = value not in outside
            i = outside.setdefault(value, len(outside))
            return ["in", i, value.op == "get_attr", *(_shape(value) if new else [])]
        if isinstance(value, (list, tuple)):
            return [encode(v) for v in value]
        if isinstance(value, dict):
            return {k: encode(v) for k, v in sorted(value.items())}
        return repr(value)

    content = [[str(n.target), encode(n.args), encode(dict(n.kwargs))] for n in nodes]
    text = json.dumps(content, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _shape(node: fx.Node) -> list[str]:
    value = node.meta.get("val")
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), *(str(s) for s in sizes(node))]
    return [str(value)]
