"""Which parts of a fit's loss are about a sparse code, and go by `midsl.fit.sparse`.

The loss is what the spec says. Where it writes a code by a decoder, and the code is the k largest of what an
encoder reads (``top_mask``) or what of it is above thresholds (the straight-through form of
``std.decomp.jumprelu``), and is used for nothing else, the two products and what stands between them are
worked out together. The sums are the same, in another order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from midsl.fit.sparse import JumpWritten, TopWritten
from midsl.ir import nodes as ir
from midsl.ops.named import NT
from midsl.plan.evaluate import Env, Evaluator

LEAST = 1 << 18
"""Entries of the code of one step below which nothing is gained."""

Fast = Callable[["LossEvaluator", Env, dict[str, NT]], NT]


@dataclass(frozen=True)
class Reading:
    """What is read of x: [batch, feature], by an encoder and a bias."""

    x: ir.Node
    enc: ir.Node
    bias: ir.Node | None
    d: str


@dataclass
class LossEvaluator(Evaluator):
    """Evaluates a loss; `fast` has the nodes that are worked out in a way of their own."""

    fast: dict[str, Fast] = field(default_factory=dict)

    def _eval(self, node: ir.Node, env: Env, memo: dict[str, NT]) -> NT:
        found = self.fast.get(node.digest)
        return found(self, env, memo) if found is not None else super()._eval(node, env, memo)

    def matrix(self, node: ir.Node, axes: tuple[str, str], env: Env, memo: dict[str, NT]) -> torch.Tensor:
        """A value along two axes, in that order."""
        return self.eval(node, env, memo).permute_to(axes).data.contiguous()

    def vector(self, node: ir.Node, env: Env, memo: dict[str, NT]) -> torch.Tensor:
        """A value along one axis."""
        return self.eval(node, env, memo).data.contiguous()

    def read(
        self, read: Reading, feature: str, env: Env, memo: dict[str, NT]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """x, the encoder and the bias."""
        return (
            self.matrix(read.x, ("batch", read.d), env, memo),
            self.matrix(read.enc, (feature, read.d), env, memo),
            None if read.bias is None else self.vector(read.bias, env, memo),
        )


def sparse_parts(loss: ir.Node, batch: int) -> dict[str, Fast]:
    """The nodes of a loss that are worked out sparsely, and how."""
    uses = Counter(c.digest for n in ir.walk(loss) for c in n.children)
    found: dict[str, Fast] = {}
    for node in ir.walk(loss):
        if not isinstance(node, ir.Apply) or node.op != "dot" or len(node.over) != 1:
            continue
        for code, dec in (node.args, node.args[::-1]):
            found |= _top(node, code, dec, uses, batch) or _jump(loss, node, code, dec, uses, batch)
    return found


def _matrix(node: ir.Node, *axes: str) -> bool:
    return sorted(node.tensor_type.names) == sorted(axes)


def _plain(node: ir.Node) -> ir.Node:
    """A node without a factor of 1."""
    if isinstance(node, ir.Apply) and node.op == "mul" and _is(node.args[1], 1):
        return _plain(node.args[0])
    return node


def _is(node: ir.Node, value: float) -> bool:
    return isinstance(node, ir.Const) and not isinstance(node.value, bool) and node.value == value


def _reading(node: ir.Node, feature: str) -> Reading | None:
    """``x enc + b_enc``, x along `batch` and one axis more."""
    bias: ir.Node | None = None
    node = _plain(node)
    if isinstance(node, ir.Apply) and node.op == "add":
        node, bias = node.args
        bias = None if _is(bias, 0) else bias
    if not (isinstance(node, ir.Apply) and node.op == "dot" and len(node.over) == 1):
        return None
    (x, enc), (d,) = node.args, node.over
    right = _matrix(x, "batch", d) and _matrix(enc, feature, d) and (bias is None or _matrix(bias, feature))
    return Reading(x, enc, bias, d) if right else None


def _width(node: ir.Node, feature: str) -> int:
    axis = node.tensor_type.axis(feature)
    return (axis.size or 0) if axis is not None else 0


def _top(node: ir.Apply, code: ir.Node, dec: ir.Node, uses: Counter[str], batch: int) -> dict[str, Fast]:
    """``dot(top_mask(relu(..), k, over: feature), dec, over: feature)``."""
    (feature,) = node.over
    if not (isinstance(code, ir.Apply) and code.op == "top_mask" and code.over == (feature,)):
        return {}
    attrs, (inner,) = dict(code.attrs), code.args
    read = _reading(inner.args[0], feature) if isinstance(inner, ir.Apply) and inner.op == "relu" else None
    rest = [a for a in dec.tensor_type.names if a != feature]
    alone = uses[code.digest] == 1 and uses[inner.digest] == 1
    if read is None or attrs.get("per") or len(rest) != 1 or not alone:
        return {}
    k, size = attrs["k"], _width(dec, feature)
    if not isinstance(k, int) or not 0 < k <= size or size * batch < LEAST:
        return {}

    def fast(e: LossEvaluator, env: Env, memo: dict[str, NT]) -> NT:
        given = e.read(read, feature, env, memo)
        weights = e.matrix(dec, (feature, rest[0]), env, memo)
        written = TopWritten.apply(*given, weights, k)  # type: ignore[no-untyped-call]
        return NT(written, ("batch", rest[0]))

    return {node.digest: fast}


def _apply(node: ir.Node, op: str) -> tuple[ir.Node, ...]:
    """The arguments of an operation; none if it is another."""
    return node.args if isinstance(node, ir.Apply) and node.op == op else ()


def _jump(
    loss: ir.Node, node: ir.Apply, code: ir.Node, dec: ir.Node, uses: Counter[str], batch: int
) -> dict[str, Fast]:
    """``dot(code, dec)`` where ``code = relu(read) * stop(on) + stop(threshold) * (on - stop(on))`` and

    ``on = step(stop(read) - threshold, width)``; beside it ``sum(on, over: feature)``.
    """
    (feature,) = node.over
    found = _jumping(code)
    if found is None or uses[code.digest] != 1:
        return {}
    value, threshold, on, width = found
    read = _reading(value, feature)
    rest = [a for a in dec.tensor_type.names if a != feature]
    if read is None or len(rest) != 1 or not _matrix(threshold, feature):
        return {}
    if _width(dec, feature) * batch < LEAST:
        return {}
    counts = [n for n in ir.walk(loss) if isinstance(n, ir.Reduce) and n.arg == on]
    whole = [n for n in counts if n.op == "sum" and _axes(n) == (feature,) and n.where is None]
    inside = {n.digest for n in ir.walk(code)}
    outside = [n for n in ir.walk(loss) if n.digest not in inside and on in n.children and n not in whole]
    if outside:
        return {}
    key = f"jump:{node.digest}"

    def both(e: LossEvaluator, env: Env, memo: dict[str, NT]) -> tuple[NT, NT]:
        if key not in memo:
            given = e.read(read, feature, env, memo)
            limit = e.vector(threshold, env, memo)
            weights = e.matrix(dec, (feature, rest[0]), env, memo)
            written, count = JumpWritten.apply(*given, limit, weights, width)  # type: ignore[no-untyped-call]
            memo[key], memo[key + ":count"] = NT(written, ("batch", rest[0])), NT(count, ("batch",))
        return memo[key], memo[key + ":count"]

    fast: dict[str, Fast] = {node.digest: lambda e, env, memo: both(e, env, memo)[0]}
    return fast | {n.digest: lambda e, env, memo: both(e, env, memo)[1] for n in whole}


def _axes(node: ir.Reduce) -> tuple[str, ...]:
    return tuple(a if isinstance(a, str) else a.name for a in node.axes)


def _jumping(code: ir.Node) -> tuple[ir.Node, ir.Node, ir.Apply, float] | None:
    """What is read, the threshold, whether an entry is on, and the width of the ramp."""
    for first, second in _both(code, "add"):
        for kept, held in _both(first, "mul"):
            for read, on in zip(_apply(kept, "relu"), _apply(held, "stop_gradient"), strict=False):
                shifted = _apply(on.args[0], "sub") if isinstance(on, ir.Apply) and on.op == "step" else ()
                if not shifted or _apply(shifted[0], "stop_gradient") != (read,):
                    continue
                assert isinstance(on, ir.Apply)
                for a, b in _both(second, "mul"):
                    if _apply(a, "stop_gradient") == shifted[1:] and _apply(b, "sub") == (on, held):
                        return read, shifted[1], on, float(dict(on.attrs)["width"])  # type: ignore[arg-type]
    return None


def _both(node: ir.Node, op: str) -> tuple[tuple[ir.Node, ir.Node], ...]:
    """The two arguments of an operation, in either order."""
    args = _apply(node, op)
    return ((args[0], args[1]), (args[1], args[0])) if len(args) == 2 else ()
