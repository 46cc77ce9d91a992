"""Backward rules in a model's graph: factors that a gradient takes for constants (``midsl.ir.backward``).

Each rule becomes operations that change no value: on the way back they ask a `Switch` whether the rule is in
force. So gradients under several sets of rules, and the plain one, share one forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, fx

from midsl.graph import walk
from midsl.graph.attention import Placed
from midsl.graph.axes import VIEWS, same, sizes
from midsl.graph.info import NO_MLP
from midsl.graph.mlp import Mlp, norm_arguments

if TYPE_CHECKING:
    from midsl.graph.expand import Rewriter
    from midsl.graph.parts import Block

aten = torch.ops.aten
EDITS = "edits"
"""The rule that right-hand sides of edits are constants: as a part, where some gradients go through them."""


class Declared(Protocol):
    """What a gradient declares: its rules, and whether it goes through what edits write."""

    @property
    def rules(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def through(self) -> bool: ...


@dataclass
class Switch:
    """The rules that a graph has, and those in force in the pass back that runs now.

    Attributes:
        parts: the parts of a model that the graph has rules for.
        on: those of them that count.
    """

    parts: frozenset[str]
    on: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, *grads: Declared) -> Switch | None:
        """A switch for all the rules of some gradients; None where there are none."""
        parts = frozenset(part for g in grads for part, _ in g.rules)
        if any(g.through for g in grads):
            parts |= {EDITS}
        return cls(parts) if parts else None

    def use(self, grad: Declared) -> None:
        """Put the rules of one gradient in force, and no others."""
        self.on = frozenset(part for part, _ in grad.rules) | ({EDITS} if not grad.through else set())

    def edits(self) -> Rule | None:
        """What stands behind the values that edits write: a constant for gradients that stop there."""
        return Rule(EDITS, self, _Constant) if EDITS in self.parts else None


@dataclass(eq=False)
class Rule:
    """An operation of the graph: its first or second argument forwards, another gradient backwards."""

    part: str
    switch: Switch
    function: type[torch.autograd.Function]

    @property
    def __name__(self) -> str:
        return f"{self.part}_rule"

    def __call__(self, *xs: Tensor) -> Tensor:
        """The value as it is, known to autograd where that listens."""
        if not torch.is_grad_enabled():
            return xs[-1]
        value: Tensor = self.function.apply(self, *xs)  # type: ignore[no-untyped-call]
        return value

    @property
    def holds(self) -> bool:
        """Whether the rule is in force."""
        return self.part in self.switch.on


class _Same(torch.autograd.Function):
    """x, as it is."""

    @staticmethod
    def forward(ctx: Any, rule: Rule, x: Tensor) -> Tensor:
        ctx.rule = rule
        return x.view_as(x)


class _Constant(_Same):
    """x, a constant under the rule."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, None if ctx.rule.holds else grads[0]


class _Ratio(torch.autograd.Function):
    """y, a function of x; under the rule x times the constant y / x. Where x is 0 that is the slope of y."""

    @staticmethod
    def forward(ctx: Any, rule: Rule, x: Tensor, y: Tensor) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward(x, y)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,) = grads
        if not ctx.rule.holds:
            return None, None, g
        x, y = ctx.saved_tensors
        there = x != 0
        ratio = y / torch.where(there, x, torch.ones_like(x))
        return None, torch.where(there, g * ratio, 0), torch.where(there, 0, g)


class _Half(_Same):
    """x, a product of two factors; under the rule each has half of its gradient."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, grads[0] / 2 if ctx.rule.holds else grads[0]


def substitute(r: Rewriter, switch: Switch) -> None:
    """Write the rules of a switch into a graph, behind every other rewrite.

    Raises:
        SiteConflict: if a part that a rule is for is not understood in this model.
    """
    if "norm" in switch.parts:
        _norms(r, switch)
    for block in r.mg.parts.blocks:
        r.layer = block.stream.layer
        if "attn" in switch.parts:
            _attention(r, switch, block)
        if {"act", "gate"} & switch.parts:
            _mlp(r, switch, block)
    r.layer = None


def _conflict(reason: str) -> Exception:
    from midsl.graph.expand import SiteConflict

    return SiteConflict(reason)


def _put(r: Rewriter, rule: Rule, *args: fx.Node) -> fx.Node:
    """Insert a rule behind the last of its arguments, whose value it has."""
    last = max(args)
    with r.graph.inserting_after(last):
        new = r.graph.call_function(rule, args)
    for known in ("val", "block"):
        if known in args[-1].meta:
            new.meta[known] = args[-1].meta[known]
    return new


def _constant(r: Rewriter, switch: Switch, part: str, user: fx.Node, at: int) -> None:
    """Make an argument of one node a constant under a rule."""
    source = user.args[at]
    assert isinstance(source, fx.Node)
    user.update_arg(at, _put(r, Rule(part, switch, _Constant), source))


def _attention(r: Rewriter, switch: Switch, block: Block) -> None:
    """What a pattern is computed from: the scores, or query and key of a fused attention."""
    found, stream = block.attn, block.stream
    if found is None:
        why = stream.why.get("attn", "its operands are not understood")
        raise _conflict(f"rule `attn`: of the attention of block {stream.layer}, {why}")
    made = r.made.get(("attn.pattern", stream.layer))
    if made is not None:
        _constant(r, switch, "attn", made.node, 0)
    elif found.fused:
        _constant(r, switch, "attn", r.at[found.core], 0)
        _constant(r, switch, "attn", r.at[found.core], 1)
    else:
        assert stream.core is not None
        _constant(r, switch, "attn", r.at[stream.core], 0)


def _norms(r: Rewriter, switch: Switch) -> None:
    """Every norm, those of queries, keys and branches included: under its root stands a constant."""
    for node in list(r.graph.nodes):
        if node.target in (aten.layer_norm.default, aten.rms_norm.default):
            r.layer = node.meta.get("block")
            _write_out(r, node)
    r.layer = None
    for node in list(r.graph.nodes):
        root = node.target in (aten.rsqrt.default, aten.sqrt.default)
        if root and same(sizes(node)[-1], 1):
            _constant(r, switch, "norm", node, 0)


def _write_out(r: Rewriter, node: fx.Node) -> None:
    """A norm in one operation, as the operations that it stands for."""
    x, shape = node.args[0], node.args[1]
    if not isinstance(shape, (list, tuple)) or len(shape) != 1:
        raise _conflict("rule `norm`: a norm goes over several axes at once")
    layer_norm = node.target is aten.layer_norm.default
    weight, bias, eps = norm_arguments(node, layer_norm)
    with r.graph.inserting_before(node):
        if layer_norm:
            x = r.emit(aten.sub.Tensor, x, r.emit(aten.mean.dim, x, [-1], True))
        square = r.emit(aten.pow.Tensor_Scalar, x, 2)
        spread = r.emit(aten.add.Tensor, r.emit(aten.mean.dim, square, [-1], True), eps)
        value = r.emit(aten.div.Tensor, x, r.emit(aten.sqrt.default, spread))
        if weight is not None:
            value = r.emit(aten.mul.Tensor, value, weight)
        if bias is not None:
            value = r.emit(aten.add.Tensor, value, bias)
    r.swap(node, value)


def _mlp(r: Rewriter, switch: Switch, block: Block) -> None:
    found, layer = block.mlp, block.stream.layer
    if found is None or found.pre is None:
        if block.stream.why.get("mlp_out") == NO_MLP:
            return
        raise _conflict(f"the MLP of block {layer} is not understood, so that no rule can be for its parts")
    end = _origin(found.post.node)
    if "act" in switch.parts:
        act = end if found.linear is None else _activated(found, end)
        pre = _before(found.pre.at, act)
        if pre is None:
            raise _conflict(f"rule `act`: the activation of block {layer} is no function of each input")
        x, y = r.at[pre], r.at[act]
        r.swap(y, _put(r, Rule("act", switch, _Ratio), x, y))
    if "gate" in switch.parts and found.linear is not None:
        r.swap(r.at[end], _put(r, Rule("gate", switch, _Half), r.at[end]))


def _origin(node: fx.Node) -> fx.Node:
    """What a view shows."""
    while node.target in VIEWS and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _activated(found: Mlp, product: fx.Node) -> fx.Node:
    """The factor of act(a) * b that is activated."""
    assert found.pre is not None
    inside = [a for a in product.args[:2] if isinstance(a, fx.Node)]
    return next(a for a in inside if found.pre.at.node in walk.ancestors(a))


def _before(pre: Placed, act: fx.Node) -> fx.Node | None:
    """The input of an activation in the shape that it takes it in."""
    node = pre.node
    while sizes(node) != sizes(act):
        views = [u for u in node.users if u.target in VIEWS]
        if len(views) != 1:
            return None
        node = views[0]
    return node
