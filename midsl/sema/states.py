"""Runs of emulators, models of states: what goes in is written, and a rollout is a chain of runs.

A run of such a model begins with an edit that nobody wrote: the site `state` is the column `state` of its
data. In ``run m on d rollout { steps: 8 }`` each step is a run of its own, which starts from what the step
before it gave out, with all edits in force. So a rollout needs nothing that runs have not; what is read of it
lies along the axis `step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, PlainType
from midsl.sema import runs
from midsl.sema.models import model_field
from midsl.sema.select import index_tensor
from midsl.sema.sites import SITE, read
from midsl.sema.tensors import stack
from midsl.sema.unroll import need_literal
from midsl.sema.values import (
    ConstV,
    EditTemplate,
    ModelV,
    PartV,
    RecordV,
    RolloutV,
    RunV,
    SiteV,
    TensorV,
    Value,
    ViewV,
)
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.context import Context
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

MOST = 256
"""The longest rollout: every walk over a plan goes down all of its steps."""


def of_states(model: ModelV, part: PartV, span: Span) -> bool:
    """Whether a run on this data is one of states; refuses data that the model cannot take (MI0517)."""
    takes = "d_state" in model.sizes
    has = part.columns.get("state") == "state"
    if has and model.sizes and not takes:
        raise fail(
            "MI0517",
            "the model takes tokens, and these are states",
            span,
            label="rows of numbers",
            help="take an emulator: `models.emulator(...)`, or one of your own",
        )
    if takes and not has:
        raise fail(
            "MI0517",
            "the model takes states, and these rows have none",
            span,
            label="no column `state`",
            help="take data of states: `states(...)` of `std.states`",
        )
    return has


def edited_by_data(ctx: Context, model: ModelV, part: PartV, span: Span) -> tuple[ir.Edit, ...]:
    """The edit that a run of an emulator begins with, if this is one: its state is that of the data."""
    if not of_states(model, part, span):
        return ()
    wide, given = model.sizes.get("d_state"), ctx.width(part, "state")
    if None not in (wide, given) and wide != given:
        raise fail(
            "MI0517",
            f"states of {given} numbers, and the model takes {wide}",
            span,
            label=f"each row has {given}",
            help="take data of the model's own states",
        )
    return (_begins(ctx, model, ctx.column(part, "state", span).node, span),)


def _begins(ctx: Context, model: ModelV, state: ir.Node, span: Span) -> ir.Edit:
    place = model_field(model, "state", span, ctx)
    assert isinstance(place, SiteV)
    return ir.Edit(place.site, state, True, type=runs.EDIT, span=span)


def bare(ctx: Context, model: ModelV, part: PartV, span: Span) -> RunV:
    """The run of a model on a part, with nothing edited."""
    edits = edited_by_data(ctx, model, part, span)
    return RunV(ir.Forward(model.node, part.node, edits, 0, type=PlainType("Run"), span=span), model, part)


def rolled(
    e: Elaborator, node: ast.Run, given: ast.Expr, scope: Scope, model: ModelV, part: PartV
) -> RolloutV:
    """One run for each step, each from the output of the one before."""
    steps = _steps(e, given, scope)
    axis = Axis("step", f"rollout:{steps}", steps)
    e.ctx.spend(steps, node.span)
    (begins,) = edited_by_data(e.ctx, model, part, node.data.span)
    output = model_field(model, "output", node.span, e.ctx)
    assert isinstance(output, SiteV)
    made: list[RunV] = []
    for k in range(steps):
        if made:
            begins = _begins(e.ctx, model, read(made[-1], output, node.span, e.ctx).node, node.span)
        run = runs.edited(e, node, scope, model, part, (begins,), (axis, k))
        run.node.digest, ir.sweeps_of(run.node)  # step by step, so that nobody goes down all of them at once
        made.append(run)
    return RolloutV(tuple(made), axis)


def _steps(e: Elaborator, given: ast.Expr, scope: Scope) -> int:
    record = e.eval(given, scope)
    assert isinstance(record, RecordV)
    for name in record.fields:
        if name != "steps":
            tokens = name in ("temperature", "seed", "stop")
            raise fail(
                "MI0205",
                f"a rollout of an emulator has no setting `{name}`",
                given.span,
                label="states are computed, not drawn" if tokens else "",
                help=did_you_mean(name, ["steps"]) or "its one setting is `steps`",
            )
    value = record.fields.get("steps")
    if value is None:
        raise fail("MI0207", "a rollout needs `steps`", given.span, help="add `steps: 16`")
    need_literal(value)
    if not isinstance(value, ConstV) or type(value.value) is not int or not 1 <= value.value <= MOST:
        raise fail(
            "MI0301",
            f"`steps` of an emulator's rollout is a whole number from 1 to {MOST}",
            given.span,
            help="how many states to compute: `rollout { steps: 16 }`",
        )
    return value.value


# ---------------------------------------------------------------- edits


def of_step(edits: Sequence[EditTemplate], step: tuple[Axis, int] | None) -> list[EditTemplate]:
    """The edits that are in force at a step: those at all, and those of it: ``x[step: 2..]``."""
    found = []
    for x in edits:
        site = x.target.at if isinstance(x.target, ViewV) else x.target
        index = site.site.index("step") if isinstance(site, SiteV) else None
        if index is None:
            found.append(x)
            continue
        assert isinstance(site, SiteV)
        if step is None:  # refused where the site meets its run
            found.append(x)
        elif step[1] in chosen(index, step[0], x.span):
            plain = _without(site)
            at = replace(x.target, at=plain) if isinstance(x.target, ViewV) else plain
            found.append(replace(x, target=at))
    return found


def then(edit: ir.Edit, begins: Sequence[ir.Edit]) -> ir.Edit:
    """An edit as it stands after what a run begins with: at that place it comes second, `self` or not."""
    return replace(edit, absolute=edit.absolute and all(edit.site.name != x.site.name for x in begins))


def at_step(ctx: Context, value: Value, run: RunV, span: Span) -> Value:
    """What an edit writes at its run's step: of a rollout, and of values along `step`, those of that step."""
    if isinstance(value, RolloutV):
        if run.step is None:
            raise fail(
                "MI0408",
                "a rollout has a value for each step, and this run is one step",
                span,
                label="the step of which run?",
                help="read one step: `r[x[step: 3]]`",
            )
        if not run.step[0].same_as(value.axis):
            raise fail(
                "MI0303",
                "the two rollouts have not as many steps",
                span,
                label=f"{value.axis.size} steps, and {run.step[0].size} here",
                help="give both the same `steps`",
            )
        return value.runs[run.step[1]]
    if isinstance(value, TensorV) and run.step is not None:
        axis = value.type.axis("step")
        if axis is not None and axis.same_as(run.step[0]):
            return _at(value, axis, run.step[1], span, ctx)
    return value


def _without(site: SiteV) -> SiteV:
    select = tuple((a, i) for a, i in site.site.select if a != "step")
    s = site.site
    return replace(site, site=ir.Site(s.model, s.name, select, s.minus, type=SITE, span=s.span))


def chosen(index: ir.Node, axis: Axis, span: Span) -> list[int]:
    """The steps that a selection names (MI0406 for one that is not there)."""
    size = axis.size or 0
    if isinstance(index, ir.Slice):
        return list(range(size))[index.lo : index.hi : index.step]
    assert isinstance(index, ir.Const)
    every = index.value if isinstance(index.value, tuple) else (index.value,)
    steps = [i for i in every if isinstance(i, int)]
    for i in steps:
        if not 0 <= i < size:
            raise fail(
                "MI0406",
                f"the rollout has no step {i}",
                span,
                label=f"it has {size}",
                help=f"from 0, which starts from the data, to {size - 1}",
            )
    return steps


# ---------------------------------------------------------------- reads


def read_steps(ctx: Context, rollout: RolloutV, site: Value | None, one: Reader, span: Span) -> TensorV:
    """What `one` reads of a run, for each step of a rollout, or for those that a site names."""
    at = list(range(len(rollout.runs)))
    single = False
    place = site.at if isinstance(site, ViewV) else site
    if isinstance(place, SiteV) and (index := place.site.index("step")) is not None:
        at = chosen(index, rollout.axis, span)
        single = isinstance(index, ir.Const) and not isinstance(index.value, tuple)
        plain = _without(place)
        site = replace(site, at=plain) if isinstance(site, ViewV) else plain
    ctx.spend(len(at), span)
    values = [one(rollout.runs[k], site) for k in at]
    if single:
        return values[0]
    axis = rollout.axis
    if len(at) < len(rollout.runs):
        axis = replace(axis, owner=f"{axis.owner}{at}", size=len(at), labels=tuple(at))
    return stack(values, axis, span)


Reader = Callable[[RunV, Value | None], TensorV]


def _at(value: TensorV, axis: Axis, k: int, span: Span, ctx: Context) -> TensorV:
    """One step of a value; of what is stacked step by step, that one and nothing of the others."""
    node = value.node
    if isinstance(node, ir.Apply) and node.op == "stack" and dict(node.attrs)["axis"] == axis.name:
        return TensorV(node.args[k], value.site)
    return index_tensor(value, [("step", ConstV(k), span)], span, ctx)
