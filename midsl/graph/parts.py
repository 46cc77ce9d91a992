"""All that was recognised in a model's graph, block by block, before it is named."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from midsl.graph.attention import Attention, attention
from midsl.graph.mlp import Head, Mlp, Norm, embedding, head, mlp, norm
from midsl.graph.stream import Frame, Stream, frame, streams


@dataclass
class Block:
    """One block: its stream, and what could be made out of its branches.

    `ln1` stands before attention, `ln2` before the MLP.
    """

    stream: Stream
    attn: Attention | None
    mlp: Mlp | None
    ln1: Norm | None
    ln2: Norm | None

    @property
    def mlp_base(self) -> fx.Node:
        """The stream that the MLP reads."""
        return self.stream.mid if self.stream.mid is not None else self.stream.pre


@dataclass
class Parts:
    """A whole model: blocks, both ends, and the graph around them."""

    frame: Frame
    blocks: list[Block]
    embed: fx.Node
    pos_embed: fx.Node | None
    head: Head | None
    ln_final: Norm | None


def find_parts(gm: fx.GraphModule, blocks_path: str) -> Parts:
    """Recognise the parts of a graph.

    Raises:
        ExportFailed: if there is no token table, or no blocks are found.
    """
    f = frame(gm)
    blocks = [_block(f, s) for s in streams(f, blocks_path)]
    last = blocks[-1].stream.post
    top = head(f, last)
    token, place = embedding(f, blocks[0].stream.pre)
    return Parts(f, blocks, token, place, top, norm(f, last, top.input.node) if top else None)


def _block(f: Frame, stream: Stream) -> Block:
    found = attention(f, stream)
    hidden = mlp(f, stream)
    block = Block(stream, found, hidden, None, None)
    if found is not None and found.q is not None:
        block.ln1 = norm(f, stream.pre, found.q.projection.input)
    if hidden is not None:
        block.ln2 = norm(f, block.mlp_base, hidden.first)
    elif stream.mlp_out is not None:
        block.ln2 = norm(f, block.mlp_base, stream.mlp_out)  # experts: the norm is still theirs
    return block
