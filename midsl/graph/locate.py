"""Where each site of the table is in a graph: at a node, behind an expansion, or not there and why."""

from __future__ import annotations

from dataclasses import dataclass

from midsl.graph.attention import Heads, Placed, leading
from midsl.graph.axes import flat
from midsl.graph.info import NO_MLP
from midsl.graph.names import PROJECTED
from midsl.graph.parts import Block, Parts


@dataclass(frozen=True)
class Behind:
    """The site appears only when `specialise` rewrites the graph; `near` is a node of its module."""

    near: Placed


Found = Placed | Behind | str
"""A string is the reason why there is no such site."""


def locate(parts: Parts, name: str, layer: int | None) -> Found:
    """Return where a site of the table is."""
    if layer is None:
        return _ends(parts, name)
    block = parts.blocks[layer]
    if name.startswith("attn."):
        return _attention(block, name)
    if name.startswith("mlp."):
        return _hidden(block, name)
    if name.startswith(("ln1.", "ln2.")):
        return _norm(parts, block, name)
    return _stream(parts, block, name)


def _ends(parts: Parts, name: str) -> Found:
    f = parts.frame
    if name == "embed":
        return Placed(parts.embed, (*leading(f, parts.embed), "d_model"))
    if name == "pos_embed":
        if parts.pos_embed is None:
            return "the model adds no position embedding to the stream"
        return Behind(Placed(parts.pos_embed, ()))
    if name == "logits":
        return Placed(f.output, (*leading(f, f.output), "vocab"))
    if name in ("state", "output"):
        end = f.tokens if name == "state" else f.output
        return Placed(end, (*leading(f, end), "d_state"))
    if parts.head is None:
        return "the logits are not one linear map of the stream"
    if parts.ln_final is None:
        return "there is no norm before the unembedding"
    placed = parts.ln_final.normalized
    near = Placed(placed or parts.ln_final.node, (*parts.ln_final.leading, "d_model"))
    return near if placed is not None and name.endswith("normalized") else Behind(near)


def _stream(parts: Parts, block: Block, name: str) -> Found:
    s = block.stream
    nodes = {"resid_pre": s.pre, "resid_mid": s.mid, "resid_post": s.post}
    nodes |= {"attn_out": s.attn_out, "mlp_out": s.mlp_out}
    if name in nodes:
        node = nodes[name]
        if node is None:
            return s.why.get(name) or s.why.get("attn", "it is not recognised in this block")
        if name == "attn_out" and block.attn is not None and block.attn.out is not None:
            # the projection itself, where nothing stands between it and the stream
            at = block.attn.out
            if at.node is node or (block.attn.o is not None and block.attn.o.node is node):
                return at
        return Placed(node, (*leading(parts.frame, node), "d_model"))
    branch, base = (s.attn_out, s.pre) if name == "attn_in" else (s.mlp_out, block.mlp_base)
    if branch is None:
        return s.why.get("attn_out" if name == "attn_in" else "mlp_out", "the branch is not recognised")
    return Behind(Placed(base, ("batch", "pos", "d_model")))


def _norm(parts: Parts, block: Block, name: str) -> Found:
    first = name.startswith("ln1.")
    found = block.ln1 if first else block.ln2
    branch = block.stream.attn_out if first else block.stream.mlp_out
    if branch is None:
        return block.stream.why.get("attn_out" if first else "mlp_out", "the branch is not recognised")
    if found is None:
        return f"no norm stands before {'attention' if first else 'the MLP'}"
    near = Placed(found.normalized or found.node, (*found.leading, "d_model"))
    return near if found.normalized is not None and name.endswith("normalized") else Behind(near)


def _attention(block: Block, name: str) -> Found:
    found = block.attn
    if found is None:
        return block.stream.why.get("attn", "the operands of its attention are not recognised")
    short = name.removeprefix("attn.")
    if short in ("q", "k", "v"):
        own: Heads | None = getattr(found, short)
        return own.at if own is not None else "it does not come out of one linear map"
    if short in ("rot_q", "rot_k"):
        own = getattr(found, short[-1])
        if own is None:
            return "it does not come out of one linear map"
        return own.used if own.rotary else "positions are not rotary"
    if short in ("scores", "pattern"):
        placed: Placed | None = getattr(found, short)
        return placed if placed is not None else Behind(Placed(found.core, ()))
    if short == "z":
        return found.z if found.z is not None else "the attention result is not recognised"
    if (found.out is None or found.o is None) and short in ("out", "result"):
        return "no linear map follows attention"
    if short == "out":
        assert found.out is not None
        return found.out
    if short == "result":
        assert found.out is not None
        if found.o_columns is None:
            return "z is changed between attention and its output projection"
        return Behind(found.out)
    own = getattr(found, PROJECTED[name])
    if own is None:
        return "it does not come out of one linear map"
    if own.rows is None:
        return "the projection's outputs are changed before they are split into heads"
    if "kv_head" in flat(own.at.layout) and own.repeated is None and not found.fused:
        return "its keys are not repeated per query head in this graph"
    return Behind(own.at)


def _hidden(block: Block, name: str) -> Found:
    found = block.mlp
    if found is None:
        missing = block.stream.mlp_out is None
        return (
            block.stream.why.get("mlp_out", NO_MLP)
            if missing
            else ("the MLP does not end in one linear map: it sends positions to experts")
        )
    if name == "mlp.post":
        return found.post
    if name == "mlp.pre":
        return found.pre.at if found.pre is not None else "the first linear map is not recognised"
    return found.linear.at if found.linear is not None else "the MLP is not gated"
