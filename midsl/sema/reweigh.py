"""Weights in `do`: ``do { m.blocks[3].mlp.W_out := self + outer }`` runs the model with another weight.

The run is one of another model, `ir.Reweighted`, and all else of it, its other edits, its gradients, what it
writes on, is as of any model. So a swept weight is worked out at each point: each is a model of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import PlainType
from midsl.sema import tensors
from midsl.sema.unroll import Unroll
from midsl.sema.values import EditTemplate, ModelV, RunV, SiteV, TensorV
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator

Key = tuple[str, int | None]


def weights_in(node: ir.Node) -> tuple[TensorV, ...]:
    """The places that an expression is: a weight, a part of one, or the same one of several layers."""
    if isinstance(node, ir.Apply) and node.op == "stack" and all(isinstance(a, ir.Weight) for a in node.args):
        return tuple(TensorV(a) for a in node.args)
    return (TensorV(node),) if weight_in(node) is not None else ()


def weight_in(node: ir.Node) -> ir.Weight | None:
    """The weight that an expression is, or is a part of by selections alone."""
    while isinstance(node, ir.Select):
        node = node.arg
    return node if isinstance(node, ir.Weight) else None


def reweighted(e: Elaborator, model: ModelV, given: Sequence[EditTemplate]) -> ModelV:
    """The model with the weights that edits write; itself where they write none."""
    now: dict[Key, TensorV] = {}
    axes: dict[Key, tuple[str, ...]] = {}
    whole: set[Key] = set()
    for template in given:
        target = template.target
        if not isinstance(target, TensorV):
            continue
        weight = weight_in(target.node)
        assert weight is not None
        key = (weight.name, weight.layer)
        axes[key] = weight.tensor_type.names
        _check(e, weight, model, template.span)
        before = now.get(key, TensorV(weight))
        here = _instead(target.node, before.node)
        value = _value(e, template, here)
        own = isinstance(target.node, ir.Weight)
        uses = any(n == before.node for n in ir.walk(value.node))
        if not uses and own and key in whole:
            raise fail(
                "MI0405",
                f"`{weight.name}` is set twice",
                template.span,
                label="set again here",
                help="leave one out, or let the second use `self`",
            )
        if own and not uses:
            whole.add(key)
        now[key] = value if own else _into(before, target.node, value, template.span)
    if not now:
        return model
    edits = tuple(
        ir.WeightEdit(
            name, layer, axes[name, layer], value.node, type=PlainType("Edit"), span=value.node.span
        )
        for (name, layer), value in now.items()
    )
    return replace(model, node=ir.Reweighted(model.node, edits, type=model.node.type, span=model.node.span))


def _instead(place: ir.Node, node: ir.Node) -> TensorV:
    """A weight, or a part of it, of something else in the place of the weight."""
    return TensorV(ir.rewrite(place, lambda n: node if isinstance(n, ir.Weight) else n))


def _value(e: Elaborator, template: EditTemplate, here: TensorV) -> TensorV:
    from midsl.sema.runs import check_fit

    span = template.value.span
    value = e.eval(template.value, template.scope.child({"self": here}))
    if isinstance(value, (RunV, SiteV)):
        raise fail(
            "MI0408",
            f"a {value.kind} is no weight",
            span,
            label="its values are of rows of data",
            help="reduce over `batch` and `pos` first: `mean(r[site], over: [batch, pos])`",
        )
    tensor = tensors.as_tensor(value, span)
    layers = tensor.type.axis("layer")
    weight = weight_in(here.node)
    if layers is not None and weight is not None and weight.layer is not None:  # one of a value for each
        index = ir.Const(weight.layer, span=span)
        t = tensors.select_type(tensor.type, layers, index, (), span)
        tensor = TensorV(ir.Select(tensor.node, layers, index, type=t, span=span))
    check_fit(tensor, here.type, span, "weight")
    swept = ir.sweeps_of(tensor.node)
    if swept:
        raise Unroll(swept[0])  # each point is a model of its own
    return tensor


def _into(whole: TensorV, place: ir.Node, value: TensorV, span: Span) -> TensorV:
    """A weight with another value where selections are."""
    if not isinstance(place, ir.Select):
        return value
    inner = _instead(place.arg, whole.node)
    axis = inner.type.axis(place.axis.name)
    index = place.index
    if isinstance(index, ir.Coord):
        raise Unroll(index.sweep)
    known = isinstance(index, ir.Const) and axis is not None and axis.size is not None
    if not known or value.type.axis(place.axis.name) is not None:
        raise fail(
            "MI0404",
            "this part of a weight cannot be written",
            span,
            label=f"along `{place.axis.name}` it is one index, or several that get one value",
            help="write the whole weight, with `where` for what stays as it is",
        )
    assert isinstance(index, ir.Const) and axis is not None and axis.size is not None
    chosen = index.value if isinstance(index.value, tuple) else (index.value,)
    there = tensors.stack([tensors.const(i in chosen, span) for i in range(axis.size)], axis, span)
    return _into(whole, place.arg, tensors.apply("where", (there, value, inner), span), span)


def _check(e: Elaborator, weight: ir.Weight, model: ModelV, span: Span) -> None:
    if ir.start_of(weight.model) != ir.start_of(model.node):
        raise fail(
            "MI0411",
            "this weight belongs to another model than the run",
            span,
            label="a weight of another model",
            help="write a weight of the model that runs",
        )
    info = e.ctx.facts.info(model.node)
    if info is not None and info.engine != "graph":
        raise fail(
            "MI0404",
            "the weights of this model cannot be written",
            span,
            label=info.why,
            help="edit what its modules give: `midsl sites` lists them",
        )
