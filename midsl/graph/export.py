"""From a module to a clean graph: torch.export, unlifted, with what is not arithmetic removed.

The exported graph is what everything after runs, so it must give the module's own logits bit for
bit, for any batch and length. Cleaning therefore removes only nodes that compute nothing: input
guards, metadata assertions, inactive dropout, aliases and casts to the dtype a tensor already has.
"""

from __future__ import annotations

import copy
import io
import logging
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten

_ASSERTIONS = {
    aten._assert_tensor_metadata.default,
    aten._assert_scalar.default,
    aten._assert_async.msg,
    aten.sym_constrain_range.default,
    aten.sym_constrain_range_for_size.default,
}
_ALIASES = {aten.alias.default, aten.detach.default, aten.detach_.default, aten.lift_fresh_copy.default}
_CASTS = {
    aten.to.dtype,
    aten.to.device,
    aten.to.dtype_layout,
    aten.to.other,
    aten._to_copy.default,
    aten.type_as.default,
}
_LOW = (torch.float32, torch.float16, torch.bfloat16)
LONGEST = 1 << 20
"""The longest row a graph accepts where the model itself sets no limit."""
LONGEST_COMPARED = 2048
"""Longest row on which a graph is compared with its model."""
LENGTHS = "midsl_lengths"
"""Key in a graph module's `meta`: the row lengths to compare graph and model on."""
TIED = "midsl_tied"
"""Key in a graph module's `meta`: second names of parameters, and what the model calls them."""


class ExportFailed(Exception):
    """The module cannot become a graph; `reason` is one sentence for `explain`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Lift(TorchFunctionMode):
    """While it is on, whoever asks for a float of 32 bits or fewer is given float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16):
            func = torch.Tensor.double

        def lift(x: Any) -> Any:
            return torch.float64 if isinstance(x, torch.dtype) and x in _LOW else x

        return func(*tree_map(lift, args), **tree_map(lift, kwargs or {}))


@contextmanager
def _lifting(on: bool) -> Iterator[None]:
    if not on:
        yield
        return
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Lift():
            yield
    finally:
        torch.set_default_dtype(default)


def export_graph(
    forward: nn.Module, example_vocab: int, max_pos: int | None, *, lift: bool = False
) -> fx.GraphModule:
    """Return the graph of ``forward(input_ids, attention_mask) -> logits`` for any batch and length.

    Shapes: both inputs int64 [batch, pos], rows padded on the right; logits [batch, pos, vocab].
    Parameters and buffers are the module's own tensors (with `lift`: float64 copies of them).

    Args:
        forward: the module; it is put into eval mode.
        example_vocab: token ids of the example are below it.
        max_pos: the longest row the model takes, or None.
        lift: export in float64, with every cast to a smaller float lifted too.

    Raises:
        ExportFailed: where torch.export cannot trace the module, or a dimension is not dynamic.
    """
    forward.eval()
    if lift:
        forward = copy.deepcopy(forward).double()
    with torch.no_grad(), _lifting(lift):
        module, lengths = _traced(forward, example_vocab, max_pos or LONGEST)
    gm = _plain(module)
    gm.meta[LENGTHS] = lengths
    clean(gm)
    if lift:
        _assert_lifted(gm)
    return gm


def _traced(forward: nn.Module, vocab: int, longest: int) -> tuple[fx.GraphModule, tuple[int, ...]]:
    """Trace the module, and say on rows of which lengths the graph should be compared with it."""
    usual = max(2, min(5, longest))
    checked = min(7, longest)
    try:
        return _trace(forward, vocab, usual, Dim("pos", min=1, max=longest)), (checked,)
    except ExportFailed as e:
        # Two kinds of module are fine for all rows they accept, but not for every length: a table of
        # max_pos rows makes the longest row a special case of slicing (which the graph, without guards,
        # computes all the same), and a classifier at a position needs rows that have it.
        if longest > LONGEST_COMPARED:
            raise
        if isinstance(e.__cause__, IndexError):
            return _trace(forward, vocab, longest, Dim.DYNAMIC), (longest,)
        if "Constraints violated" in str(e.__cause__) and "specialized" not in e.reason:
            return _trace(forward, vocab, usual, Dim.DYNAMIC), (checked, longest)
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """torch prints the half-made graph of a module that it refuses; the reason is in its exception."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _trace(forward: nn.Module, vocab: int, length: int, pos: Any) -> fx.GraphModule:
    device = next((t.device for t in forward.parameters()), torch.device("cpu"))
    ids = torch.arange(2 * length, device=device).reshape(2, length) % max(vocab, 1)
    dims = {0: Dim("batch", min=1, max=1 << 30), 1: pos}
    inputs = (ids, torch.ones_like(ids))
    try:
        with _quiet():
            module = torch.export.export(forward, inputs, dynamic_shapes=[dims, dims], strict=False).module()
    except Exception as e:  # torch.export raises many unrelated classes; all of them mean the same here
        lines = [line.strip() for line in str(e).splitlines() if line.strip()] or ["no message"]
        detail = next((line[2:] for line in lines[1:] if line.startswith("- ")), lines[0])
        raise ExportFailed(f"torch.export refused it: {type(e).__name__}: {detail[:300]}") from e
    assert isinstance(module, fx.GraphModule)
    return module


def _plain(module: fx.GraphModule) -> fx.GraphModule:
    """Rebuild the exported module without input checks and pytrees: two tensors in, one out."""
    graph = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    placeholders = 0
    for node in module.graph.nodes:
        if node.op == "call_module":  # only the guards are calls; without users, they compute nothing
            if node.users:
                raise ExportFailed(f"the graph calls a submodule, {node.target}")
            continue
        if node.op == "output":
            outputs = [n for n in node.all_input_nodes]
            if len(outputs) != 1:
                raise ExportFailed(f"the module returns {len(outputs)} tensors instead of its logits")
            graph.output(env[outputs[0]])
            continue
        placeholders += node.op == "placeholder"
        env[node] = graph.node_copy(node, lambda n: env[n])
    if placeholders != 2:
        raise ExportFailed(f"the module takes {placeholders} tensors, not ids and mask")
    ids = next(n for n in graph.nodes if n.op == "placeholder")
    shape = ids.meta["val"].shape
    for axis, size in zip(("batch", "pos"), shape, strict=True):
        if not isinstance(size, torch.SymInt):
            raise ExportFailed(f"its {axis} axis is not dynamic: the trace fixed it to {size}")
    plain = fx.GraphModule(module, graph)
    plain.eval()
    return plain


def _same_dtype(node: fx.Node) -> bool:
    source = node.args[0]
    if not isinstance(source, fx.Node):
        return False
    before, after = source.meta.get("val"), node.meta.get("val")
    return (
        isinstance(before, torch.Tensor)
        and isinstance(after, torch.Tensor)
        and before.dtype == after.dtype
        and before.device == after.device
        and before.shape == after.shape
    )


def _computes_nothing(node: fx.Node) -> bool:
    if node.target in _ALIASES:
        return True
    if node.target is aten.dropout.default:
        return node.args[2] is False
    return node.target in _CASTS and _same_dtype(node)


def clean(gm: fx.GraphModule) -> None:
    """Remove from the graph, in place, every node that computes nothing; make mutation functional."""
    for node in list(gm.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in _ASSERTIONS:
            gm.graph.erase_node(node)
        elif _computes_nothing(node):
            node.replace_all_uses_with(node.args[0])
            gm.graph.erase_node(node)
        else:
            _make_functional(node)
    _split_tied(gm)
    gm.graph.eliminate_dead_code()
    gm.graph.lint()
    gm.recompile()


def _make_functional(node: fx.Node) -> None:
    """Replace an in-place operation by its functional twin; later readers of the target see the result."""
    op = node.target
    if not isinstance(op, torch._ops.OpOverload) or not op._schema.is_mutable:
        return
    name = op._schema.name.split("::")[1]
    packet = getattr(aten, name[:-1], None) if name.endswith("_") else None
    twin = getattr(packet, op._overloadname, None) if packet is not None else None
    target = node.args[0]
    if twin is None or not isinstance(target, fx.Node) or target.op in ("placeholder", "get_attr"):
        raise ExportFailed(f"the module writes into a tensor in place ({op})")
    node.target = twin
    order = {n: i for i, n in enumerate(node.graph.nodes)}
    target.replace_all_uses_with(node, delete_user_cb=lambda user: order[user] > order[node])


def _split_tied(gm: fx.GraphModule) -> None:
    """Give the embedding its own name for a tied table, so that an edit of W_U leaves W_E alone."""
    for node in list(gm.graph.nodes):
        if node.op != "get_attr":
            continue
        lookups = [u for u in node.users if u.target is aten.embedding.default and u.args[0] is node]
        if lookups and len(lookups) < len(node.users):
            name = f"{node.name}_embedding"
            gm.register_parameter(name, gm.get_parameter(str(node.target)))
            gm.meta.setdefault(TIED, {})[name] = str(node.target)
            with gm.graph.inserting_after(node):
                own = gm.graph.create_node("get_attr", name, name=name)
            own.meta = dict(node.meta)
            for user in lookups:
                user.replace_input_with(node, own)


def _assert_lifted(gm: fx.GraphModule) -> None:
    for node in gm.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.dtype in _LOW:
            raise ExportFailed(f"the float64 graph still computes {node.name} in {value.dtype}")


def module_path(node: fx.Node) -> str:
    """Return the path of the innermost module that computed a node; "" at the top."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]).split("@")[0] for entry in stack.values()]
    named = [p for p in paths if p and not p.startswith("_")]
    return named[-1] if named else ""


def is_call(node: object, *ops: Callable[..., Any]) -> bool:
    """Whether a node calls one of these functions."""
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in ops


def is_getitem(node: object) -> bool:
    """Whether a node picks one of several results."""
    return is_call(node, operator.getitem)
