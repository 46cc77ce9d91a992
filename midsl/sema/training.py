"""Training in a spec: ``model t = train(arch, on: d.train, minimise: ..., steps: n)``, and its optimisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import PlainType
from midsl.sema import tensors
from midsl.sema.arguments import Args
from midsl.sema.fits import OPTIMISERS, settings_of
from midsl.sema.runs import as_part, rows_at_hand
from midsl.sema.states import bare
from midsl.sema.tensors import as_tensor
from midsl.sema.unroll import need_literal
from midsl.sema.values import ConstV, FnV, ModelV, OptimV, Value
from midsl.sema.where import by_columns
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.context import Context
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
    part = rows_at_hand(as_part(e, args.value("on"), at), "training on", at)
    if part.node.where is not None and not by_columns(part.node.where):
        raise fail(
            "MI0323",
            "a training on rows that runs have chosen",
            at,
            label="the condition takes runs, or values over several rows",
            help="choose by columns, or train on a split",
        )
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
    if optim.settings.get("cooldown"):
        raise fail(
            "MI0601",
            "not implemented: a cooldown of a training",
            args.expr("optim").span,
            label="where it begins depends on the last step, and checkpoints are those of shorter trainings",
            help="leave `cooldown` out, or take a lower learning rate",
        )
    run = bare(e.ctx, model, part, node.span)
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
        *settings_of(optim),
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


def checkpoint(
    ctx: Context, model: ModelV, items: list[tuple[str | None, Value, Span]], span: Span
) -> ModelV:
    """``t[step: 100]``: a trained model as it was after so many steps; step 0 is what it started from."""
    node = model.node
    if not isinstance(node, ir.Train):
        raise fail(
            "MI0307",
            "a model that was not trained here has no steps",
            span,
            label="this is a Model",
            help="train it in the spec: `model t = train(m, on: d.train, ...)`, then `t[step: 100]`",
        )
    if len(items) != 1 or items[0][0] != "step":
        raise fail("MI0407", "a trained model has one axis, `step`", span, help="write `t[step: 100]`")
    _, value, at = items[0]
    need_literal(value)
    steps = dict(node.options)["steps"]
    if not (isinstance(value, ConstV) and type(value.value) is int):
        raise fail(
            "MI0301", "a step is a whole number", at, label=f"this is a {value.kind}", help="such as 100"
        )
    if not 0 <= value.value <= steps:
        raise fail(
            "MI0406",
            f"the training has no step {value.value}",
            at,
            label=f"it takes {steps} steps",
            help=f"from 0, before the first, to {steps}",
        )
    options = tuple((k, value.value if k == "steps" else v) for k, v in node.options)
    made = ir.Train(node.model, node.data, node.loss, options, type=node.type, span=node.span)
    kept = node.model if value.value == 0 else made
    if node.digest in ctx.models:
        ctx.models.setdefault(kept.digest, f"{ctx.models[node.digest]}[step: {value.value}]")
    return ctx.model(kept)
