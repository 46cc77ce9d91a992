"""Training in a spec: ``model t = train(arch, on: d.train, minimise: ..., steps: n)``, and its optimisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import PlainType
from midsl.sema import tensors
from midsl.sema.arguments import Args
from midsl.sema.fits import OPTIMISERS
from midsl.sema.runs import as_part, every_row
from midsl.sema.tensors import as_tensor
from midsl.sema.values import FnV, ModelV, OptimV, RunV, Value
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


def optimiser(name: str) -> Callable[..., Value]:
    def call(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
        defaults = OPTIMISERS[name]
        args = Args(e, name, node, scope, tuple(defaults))
        return OptimV(name, {k: float(args.literal(k, float, v)) for k, v in defaults.items()})  # type: ignore[arg-type]

    return call


def train(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``train(arch, on: d, minimise: fn (r) => ..., optim: adamw(), steps: n, batch: 64, seed: s)``."""
    if any(a.name in ("keep", "until") for a in node.args):
        raise fail(
            "MI0601",
            "not implemented: checkpoints of a training",
            node.span,
            help="train once for each number of steps: `train(..., steps: 100)`",
        )
    args = Args(e, "train", node, scope, ("model", "on", "minimise", "optim", "steps", "batch", "seed"))
    model, loss_fn = args.value("model"), args.value("minimise")
    if not isinstance(model, ModelV):
        raise fail(
            "MI0301",
            "`train` starts from a model",
            args.expr("model").span,
            label=f"this is a {model.kind}",
            help="such as `train(models.toy(layers: 2), on: text, ...)`",
        )
    at = args.expr("on").span
    part = every_row(as_part(e, args.value("on"), at), "training on", at)
    if not isinstance(loss_fn, FnV) or len(loss_fn.params) != 1:
        raise fail(
            "MI0301",
            "`minimise` is a function of the run",
            args.expr("minimise").span,
            help="such as `fn (r) => mean(nll(r), over: pos)`",
        )
    optim = args.value("optim") if "optim" in args.given else OptimV("adamw", OPTIMISERS["adamw"])
    if not isinstance(optim, OptimV):
        raise fail(
            "MI0301",
            "`optim` is an optimiser",
            args.expr("optim").span,
            help="adam(...), adamw(...) or sgd(...)",
        )
    run = RunV(ir.Forward(model.node, part.node, (), 0, type=PlainType("Run"), span=node.span), model, part)
    loss = as_tensor(
        loss_fn.body(loss_fn.scope.child({loss_fn.params[0].name: run})), args.expr("minimise").span
    )
    loss = tensors.reduce("mean", loss, None, args.expr("minimise").span)
    if any(isinstance(n, ir.Draw) for n in ir.walk(loss.node)):
        raise fail(
            "MI0601",
            "not implemented: random values in what a training minimises",
            args.expr("minimise").span,
            help="a draw is a function of the example, and would be the same at every step",
        )
    options = (
        ("optim", optim.name),
        *optim.settings.items(),
        ("steps", args.literal("steps", int)),
        ("batch", args.literal("batch", int, 64)),
        ("seed", args.literal("seed", int, 0)),
    )
    for name, value in options:
        if name in ("steps", "batch") and isinstance(value, int) and value < 1:
            raise fail(
                "MI0301",
                f"`{name}` is at least 1",
                node.span,
                help=f"write a larger number, or leave `{name}` out for its default",
            )
    return e.ctx.model(
        ir.Train(model.node, part.node, loss.node, options, type=PlainType("Model"), span=node.span)
    )
