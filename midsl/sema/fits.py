"""``fitted(lens, loss: .., fit: {..})``: a decomposition whose parameters make a loss small."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.sema import tensors
from midsl.sema.lenses import probe, with_fit
from midsl.sema.runs import as_part, every_row, rows_at_hand
from midsl.sema.sites import index_site, read
from midsl.sema.states import bare
from midsl.sema.unroll import Unroll, need_literal, settled
from midsl.sema.values import (
    ConstV,
    FnV,
    LensV,
    OptimV,
    RangeV,
    RecordV,
    SiteV,
    TensorV,
    Value,
)
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

FIT = PlainType("Fit")
FIELDS = ("on", "optim", "tokens", "steps", "batch", "seed", "skip", "until")
_ALL = {"warmup": 0.0, "cooldown": 0.0, "clip": 0.0}
OPTIMISERS = {
    "adam": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "wd": 0.0, **_ALL},
    "adamw": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "wd": 0.01, **_ALL},
    "sgd": {"lr": 1e-2, "momentum": 0.0, "wd": 0.0, **_ALL},
}
BATCH, ROWS = 512, 16
"""Positions of a step of a fit to activations, rows of one whose loss is about runs, where none are given."""


def fitted(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """The lens with parameters fitted as the record `fit` says; as drawn, where it says nothing.

    `loss` is a function of what the site holds, a value for each position (of what is read and what is
    written, where these are two sites); or a number that depends on runs, then `on` is left out.
    """
    given: dict[str, ast.Expr] = {}
    for name, arg in zip(("lens", "loss", "fit"), node.args, strict=False):
        given[arg.name or name] = arg.value
    for name in given:
        if name not in ("lens", "loss", "fit"):
            raise fail("MI0206", f"`fitted` has no parameter `{name}`", node.span, help="lens, loss, fit")
    for name in ("lens", "loss", "fit"):
        if name not in given:
            raise fail(
                "MI0207",
                f"`fitted` needs `{name}`",
                node.span,
                label="an argument is missing",
                help="it is called `fitted(made, loss: fn (x) => ..., fit: fit)`",
            )
    made, record = e.eval(given["lens"], scope), e.eval(given["fit"], scope)
    if not isinstance(made, LensV):
        raise fail(
            "MI0301",
            "`fitted` takes a decomposition",
            given["lens"].span,
            label=f"this is a {made.kind}",
            help="the first argument is what `lens(...)` gives",
        )
    if not isinstance(record, RecordV):
        raise fail(
            "MI0301",
            "`fit` is a record",
            given["fit"].span,
            label=f"this is a {record.kind}",
            help="such as `{ on: text.train, optim: adam(lr: 1e-3), steps: 1000 }`, or `{}` for no fit",
        )
    span = node.span
    for name in record.fields:
        if name not in FIELDS:
            raise fail(
                "MI0205",
                f"a fit has no `{name}`",
                span,
                label=f"fields: {', '.join(FIELDS)}",
                help=did_you_mean(name, FIELDS) or f"fields: {', '.join(FIELDS)}",
            )
    if not record.fields:
        return made
    loss = e.eval(given["loss"], scope)
    if isinstance(loss, FnV):
        reads, each = _of_values(e, made, loss, record, span)
        options = _options(record, BATCH, span)
    else:
        if "on" in record.fields or "skip" in record.fields:
            raise fail("MI0205", "the runs of this loss say what they are on", span, help="leave `on` out")
        reads, each = (), tensors.as_tensor(loss, given["loss"].span)
        if not any(isinstance(n, ir.Forward) for n in ir.walk(each.node)):
            for name in ("batch", "seed"):
                if name in record.fields:
                    help = "leave it out: each step takes all there is"
                    raise fail("MI0205", f"a loss without runs has no `{name}`", span, help=help)
        options = _options(record, ROWS, span)
    if any(isinstance(n, ir.Reweighted) for n in ir.walk(each.node, *reads)):
        raise fail(
            "MI0601",
            "not implemented: weights that are written inside the loss of a fit",
            span,
            help="write what the weight makes: a site, with `self`",
        )
    swept = [s for n in (each.node, *reads) for s in ir.sweeps_of(n)]
    if swept:
        raise Unroll(swept[0])  # each point has a fit of its own
    number = tensors.reduce("mean", each, None, span)
    if any(isinstance(n, ir.Sweep) for n in ir.walk(number.node, *reads)):
        raise fail(
            "MI0601",
            "not implemented: a sweep inside the loss of a fit",
            span,
            label="the loss reduces over what it sweeps itself",
            help="write the terms of the loss out, with literals in the place of the swept variable",
        )
    start = [n.of for n in ir.walk(number.node) if isinstance(n, ir.Param) and isinstance(n.of, ir.Params)]
    own = [p for p in dict.fromkeys(start) if _mine(made, p)]
    if len(own) != 1:
        raise fail(
            "MI0301",
            "the loss depends on the parameters of one `params(...)` of the decomposition",
            span,
            label=f"it depends on {len(own)}",
            help="draw all tensors of a decomposition in one `params({ ... })`, and use them in the loss",
        )
    loss_node = settled(number.node)  # a fit is the same one wherever in the text it stands
    fit = ir.Fit(own[0], loss_node, reads, options, type=FIT, span=span)
    return replace(with_fit(made, own[0], fit, span), fit=fit)


def _mine(made: LensV, params: ir.Node) -> bool:
    """Whether a lens is made of these parameters."""
    code = made.encode(probe(made.source or made.at))
    nodes = (code.node, made.decode(code).node)
    return any(isinstance(n, ir.Param) and n.of == params for n in ir.walk(*nodes))


def _of_values(
    e: Elaborator, made: LensV, loss: FnV, record: RecordV, span: Span
) -> tuple[tuple[ir.Node, ...], TensorV]:
    """A loss over positions: what it reads, and its value at each."""
    if "on" not in record.fields:
        raise fail(
            "MI0207", "a fit needs data: `on:`", span, help="such as `fit: { on: text.train, steps: 100 }`"
        )
    rows = rows_at_hand(as_part(e, record.fields["on"], span), "fitting on", span)
    part = every_row(rows, "fitting on", span)
    places = [made.at] if made.source is None else [made.source, made.at]
    if len(loss.params) != len(places):
        wanted = "the site's value" if len(places) == 1 else "what is read and what is written"
        raise fail(
            "MI0301",
            f"the loss is a function of {wanted}",
            loss.span,
            help="such as `loss: fn (x) => mean(square(x - made.decode(made.encode(x))), over: d)`",
        )
    skip = _whole(record, "skip", 0, span)
    reads, seen = [], {}
    for i, place in enumerate(places):
        if skip:
            chosen = index_site(place, [("pos", RangeV(skip, None), span)], span)
            assert isinstance(chosen, SiteV)
            place = chosen
        value = read(bare(e.ctx, place.model, part, span), place, span, e.ctx)
        reads.append(value.node)
        own = tuple(a for a in value.type.axes if a.name not in ("batch", "pos"))
        t = TensorType(axes=(Axis("batch", "fit"), *own))
        seen[loss.params[i].name] = TensorV(ir.Seen(i, type=t, span=span))
    return tuple(reads), tensors.as_tensor(loss.body(loss.scope.child(seen)), loss.span)


def _whole(record: RecordV, name: str, default: int, span: Span) -> int:
    """A whole number of a fit's record: at least 1, a seed and what is skipped at least 0."""
    value = record.fields.get(name)
    if value is None:
        return default
    least = 0 if name in ("seed", "skip") else 1
    need_literal(value)
    if not (isinstance(value, ConstV) and type(value.value) is int and value.value >= least):
        raise fail(
            "MI0301",
            f"`{name}` of a fit is a whole number, at least {least}",
            span,
            label=f"this is a {value.kind}",
            help=f"such as `{name}: {max(least, 100)}`",
        )
    return value.value


def _options(record: RecordV, batch: int, span: Span) -> tuple[tuple[str, ir.Json], ...]:
    """Optimiser, steps, batch and seed, with what is usual where nothing is said."""
    optim = record.fields.get("optim", OptimV("adam", OPTIMISERS["adam"]))
    if not isinstance(optim, OptimV):
        raise fail("MI0301", "`optim` is an optimiser", span, help="adam(...), adamw(...) or sgd(...)")
    size = _whole(record, "batch", batch, span)
    steps, tokens = _whole(record, "steps", 0, span), _whole(record, "tokens", 0, span)
    if (steps == 0) == (tokens == 0):
        raise fail("MI0207", "a fit has either `steps` or `tokens`", span, help="`steps: 1000`")
    if steps == 0:
        steps = -(-tokens // size)
    until = record.fields.get("until")
    if until is not None and not (isinstance(until, ConstV) and type(until.value) in (int, float)):
        raise fail(
            "MI0301",
            "`until` is a loss to stop at",
            span,
            label=f"this is a {until.kind}",
            help="such as `until: 0.01`",
        )
    stop: tuple[tuple[str, ir.Json], ...] = ()
    if isinstance(until, ConstV):
        stop = (("until", float(until.value)),)
    return (
        ("optim", optim.name),
        *settings_of(optim),
        ("steps", steps),
        ("batch", size),
        ("seed", _whole(record, "seed", 0, span)),
        *stop,
    )


def settings_of(optim: OptimV) -> tuple[tuple[str, float], ...]:
    """What an optimiser is told; no cooldown and no clipping are not said."""
    return tuple((k, v) for k, v in optim.settings.items() if v or k not in ("cooldown", "clip"))
