"""The residual stream: which nodes are a block's, what enters it, and what its branches add.

A block's output is a sum. Taken apart along its additions, one summand is the block's input; the
one that contains the attention operation is `attn_out`, the other `mlp_out`. If the second does
not depend on the first, the block is parallel and has no `resid_mid`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from torch import fx

from midsl.graph import walk
from midsl.graph.axes import VIEWS, same, size, sizes
from midsl.graph.export import ExportFailed, is_call, module_path
from midsl.graph.info import NO_MLP

aten = torch.ops.aten


@dataclass
class Stream:
    """What one block does to the residual stream; what is missing has a reason in `why`.

    Attributes:
        nodes: the block's nodes, in order.
        path: the block's module path.
        pre, post: the stream before and after it.
        core: the attention operation: SDPA, or the softmax of an explicit attention.
        mid: the stream between attention and MLP, in a sequential block.
        attn_out, mlp_out: what the branches add.
        spine: the nodes that *are* the stream inside the block, `pre` first.
    """

    layer: int
    path: str
    nodes: list[fx.Node]
    pre: fx.Node
    post: fx.Node
    core: fx.Node | None = None
    mid: fx.Node | None = None
    attn_out: fx.Node | None = None
    mlp_out: fx.Node | None = None
    spine: set[fx.Node] = field(default_factory=set)
    why: dict[str, str] = field(default_factory=dict)


@dataclass
class Frame:
    """The graph around the blocks.

    Attributes:
        gm: the graph.
        ids: the placeholder of the token ids.
        batch, pos: the two symbolic sizes.
        tokens: the lookup in the token table.
        dynamic: every node that depends on the tokens' embeddings.
        output: the logits.
    """

    gm: fx.GraphModule
    ids: fx.Node
    mask: fx.Node
    batch: object
    pos: object
    tokens: fx.Node
    dynamic: set[fx.Node]
    output: fx.Node

    def follows_pos(self, node: fx.Node) -> bool:
        """Whether one of a node's dimensions grows with the length of the rows."""
        return any(self.pos in n.free_symbols for n in sizes(node))


def frame(gm: fx.GraphModule) -> Frame:
    """Find inputs, output and the token embedding of a graph.

    Raises:
        ExportFailed: if no table is looked up by token ids.
    """
    ids, mask = (n for n in gm.graph.nodes if n.op == "placeholder")
    lookups = [
        n for n in gm.graph.nodes if is_call(n, aten.embedding.default) and _is_view_of(n.args[1], ids)
    ]
    if not lookups:
        raise ExportFailed("no embedding table is looked up by the token ids")
    output = next(n for n in gm.graph.nodes if n.op == "output").args[0]
    batch, pos = (size(s) for s in ids.meta["val"].shape)
    return Frame(gm, ids, mask, batch, pos, lookups[0], walk.descendants(lookups[0]), output)


def _is_view_of(node: object, source: fx.Node) -> bool:
    while isinstance(node, fx.Node) and node is not source and node.target in VIEWS:
        node = node.args[0]
    return node is source


def block_numbers(gm: fx.GraphModule, blocks_path: str) -> dict[fx.Node, tuple[int, str]]:
    """Return for each node inside a block the block's index and module path."""
    pattern = re.compile(rf"^(?:.*\.)?{re.escape(blocks_path)}\.(\d+)$")
    found = {}
    for node in gm.graph.nodes:
        for entry in (node.meta.get("nn_module_stack") or {}).values():
            path = str(entry[0]).split("@")[0]
            match = pattern.match(path)
            if match and node.op == "call_function":
                found[node] = (int(match.group(1)), path)
    return found


def streams(f: Frame, blocks_path: str) -> list[Stream]:
    """Return the residual stream of each block, in order.

    Raises:
        ExportFailed: if `blocks_path` names no repeated blocks, or one has no input of its own.
    """
    numbers = block_numbers(f.gm, blocks_path)
    members: dict[int, list[fx.Node]] = {}
    for node, (i, _) in numbers.items():
        members.setdefault(i, []).append(node)
    if sorted(members) != list(range(len(members))) or not members:
        raise ExportFailed(f"no blocks are found under `{blocks_path}`")
    count = len(members)
    pres = [_input(f, members[i], set(members[i]), i) for i in range(count)]
    last = [
        n for n in members[count - 1] if n in f.dynamic and any(u not in members[count - 1] for u in n.users)
    ]
    if not last:
        raise ExportFailed("the last block has no output")
    posts = [*pres[1:], last[-1]]
    found = []
    for i in range(count):
        stream = Stream(i, numbers[members[i][0]][1], members[i], pres[i], posts[i])
        stream.core = _core(f, stream)
        _branches(f, stream)
        found.append(stream)
    return found


def _input(f: Frame, nodes: list[fx.Node], inside: set[fx.Node], i: int) -> fx.Node:
    outer = {a for n in nodes for a in n.all_input_nodes if a not in inside and a in f.dynamic}
    outer = {a for a in outer if len(sizes(a)) == 3 and same(sizes(a)[1], f.pos)}
    if not outer:
        raise ExportFailed(f"block {i} has no input that depends on the tokens")
    return walk.ordered(outer)[-1]


def _core(f: Frame, stream: Stream) -> fx.Node | None:
    sdpa = [n for n in stream.nodes if is_call(n, aten.scaled_dot_product_attention.default)]
    soft = [
        n
        for n in stream.nodes
        if is_call(n, aten.softmax.int, aten._softmax.default)
        and len(sizes(n)) >= 2
        and all(same(s, f.pos) for s in sizes(n)[-2:])
    ]
    found = sdpa + soft
    if len(found) == 1:
        return found[0]
    stream.why["attn"] = (
        f"the block has {len(found)} attention operations" if found else "no attention operation is found"
    )
    return None


def _branches(f: Frame, stream: Stream) -> None:
    reach: dict[fx.Node, bool] = {stream.pre: True}

    def reaches(node: object) -> bool:
        """Whether a node is the block's input with something added."""
        if not isinstance(node, fx.Node) or node not in f.dynamic:
            return False
        if node not in reach:
            if node.target in VIEWS:
                reach[node] = reaches(node.args[0])
            else:
                reach[node] = _is_sum(node) and any(reaches(a) for a in node.args[:2])
        return reach[node]

    added: list[tuple[fx.Node, fx.Node]] = []  # (a summand, the addition after which it is in the stream)

    def take(node: fx.Node, into: fx.Node) -> None:
        if reaches(node):
            stream.spine.add(node)
            if node is stream.pre:
                return
            if node.target in VIEWS:
                take(node.args[0], into)  # type: ignore[arg-type]
            else:
                for a in sorted(node.args[:2], key=reaches, reverse=True):
                    take(a, node)  # type: ignore[arg-type]
        elif _is_sum(node) and module_path(node) == stream.path:
            for a in node.args[:2]:
                take(a, into)  # type: ignore[arg-type]
        else:
            added.append((node, into))

    if not reaches(stream.post):
        reason = "the block's output is not its input plus something"
        stream.why.update({"attn_out": reason, "mlp_out": reason, "resid_mid": reason})
        stream.spine = {stream.pre, stream.post}
        return
    take(stream.post, stream.post)
    own = {n: walk.ancestors(n, stop=stream.spine) for n, _ in added}
    attn = [(n, into) for n, into in added if stream.core is not None and stream.core in own[n]]
    rest = [(n, into) for n, into in added if (n, into) not in attn]
    if len(attn) == 1:
        stream.attn_out = attn[0][0]
    else:
        stream.why["attn_out"] = f"{len(attn)} summands of the block's output contain its attention"
    if len(rest) == 1:
        stream.mlp_out = rest[0][0]
    else:
        stream.why["mlp_out"] = NO_MLP if not rest else f"{len(rest)} other summands"
    if stream.attn_out is None or stream.mlp_out is None:
        stream.why["resid_mid"] = stream.why.get("mlp_out") or stream.why["attn_out"]
    elif attn[0][1] in walk.ancestors(stream.mlp_out, stop=[stream.pre]):
        stream.mid = attn[0][1]
    else:
        stream.why["resid_mid"] = "attention and MLP are parallel: both read resid_pre"


def _is_sum(node: fx.Node) -> bool:
    """Whether a node adds two tensors of its own shape."""
    if not is_call(node, aten.add.Tensor) or node.kwargs:
        return False
    return all(isinstance(a, fx.Node) and sizes(a) == sizes(node) for a in node.args[:2])
