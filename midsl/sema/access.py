"""What stands behind a dot or in brackets of runs and data, and sites by their full names."""

from __future__ import annotations

from dataclasses import replace

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.sema.context import Context
from midsl.sema.edgeedits import read_edge
from midsl.sema.edges import EdgesV
from midsl.sema.lensfamily import read_family
from midsl.sema.models import blocks_field, model_field
from midsl.sema.select import index_tensor
from midsl.sema.sites import index_blocks, read
from midsl.sema.states import read_steps
from midsl.sema.unions import read_members
from midsl.sema.values import (
    BlocksV,
    ConstV,
    DataV,
    FamilyV,
    ModelV,
    RolloutV,
    RunV,
    SitesV,
    SiteV,
    TensorV,
    Value,
    ViewV,
)
from midsl.sema.views import read_view
from midsl.source import Span
from midsl.syntax import ast


def run_field(ctx: Context, run: RunV, name: str, span: Span) -> Value:
    """``r.logits`` or, of an emulator, ``r.output``; ``r.data``; of a rollout: ``r.tokens``, ``r.text``."""
    if name == "data":
        return run.part
    if name in ("logits", "output"):
        site = model_field(run.model, name, span, ctx)
        assert isinstance(site, SiteV)
        return read(run, site, span, ctx)
    if name in ("tokens", "text"):
        if not isinstance(run.part.node.data, ir.Rollout):
            raise fail(
                "MI0205",
                f"only a rollout has `.{name}`",
                span,
                label="this run emits nothing",
                help="the tokens it ran on are `r.data.tokens`",
            )
        if name == "text":
            return ctx.column(run.part, "text", span)
        tokens = TensorV(ctx.column(run.part, "tokens", span).node)
        return index_tensor(tokens, [("pos", ctx.column(run.part, "new", span), span)], span, ctx)
    raise fail(
        "MI0205",
        f"a run has no field `{name}`",
        span,
        label="a run has logits, data, and `r[site]`",
        help=did_you_mean(name, ["logits", "data"]) or "read a place of it: `r[m.blocks[0].resid_post]`",
    )


def rollout_field(ctx: Context, rollout: RolloutV, name: str, span: Span) -> Value:
    """``r.output``, one for each step, and ``r.data`` of a rollout of states."""
    first = rollout.runs[0]
    if name == "data":
        return first.part
    if name == "output":
        return index_rollout(ctx, rollout, model_field(first.model, name, span, ctx), span)
    raise fail(
        "MI0205",
        f"a rollout of states has no field `{name}`",
        span,
        label="it has output, data, and `r[site]`",
        help=did_you_mean(name, ["output", "data"]) or "what it gives out are states: `r.output`",
    )


def index_rollout(ctx: Context, rollout: RolloutV, site: Value | None, span: Span) -> TensorV:
    """``r[site]`` of a rollout of states: one for each step."""
    return read_steps(ctx, rollout, site, lambda run, at: _read_at(ctx, run, at, span), span)


def data_field(ctx: Context, data: DataV, name: str, span: Span, at: Span) -> Value:
    """``d.clean``, ``d.train``, ``d.end``."""
    if name in data.splits and not data.split:
        split = DataV(data.node, data.sides, data.splits, data.columns, name)
        if data.where is None:
            return split
        if data.again is None:
            raise fail(
                "MI0323",
                "a split of rows that were chosen among all rows",
                span,
                label="the condition takes runs, or values over several rows",
                help=f"choose among those of the split: `data known = d.{name} where ...`",
            )
        return data.again(split)
    if name in data.sides:
        return ctx.part(data, name, span)
    if name in data.columns or name in ("tokens", "next"):
        part = ctx.part(data, data.sides[0] if data.sides else "", span)
        return ctx.column(part, name, span)
    known = [*data.splits, *data.sides, *data.columns]
    raise fail(
        "MI0506",
        f"the data has no `{name}`",
        at,
        label=f"it has {', '.join(known)}",
        help=did_you_mean(name, known) or "name one of these, or build the data with that column",
    )


def index_run(ctx: Context, run: RunV | RolloutV, node: ast.Index, site: Value | None) -> Value:
    """``r[site]``; `site` is None where the brackets hold anything but one value."""
    if site is None:
        raise fail(
            "MI0307",
            "a run is indexed by one site",
            node.span,
            help="write `r[site]`, and select along axes of the site: `r[z[head: 3]]`",
        )
    model = run.runs[0].model if isinstance(run, RolloutV) else run.model
    if isinstance(site, ConstV) and isinstance(site.value, str):
        site = site_by_name(ctx, model, site.value, node.items[0].span)
    if not isinstance(site, (SiteV, SitesV, ViewV, FamilyV, EdgesV)):
        raise fail(
            "MI0410",
            "a run is indexed by a site",
            node.items[0].span,
            label=f"this is a {site.kind}",
            help="such as `r[m.blocks[0].resid_post]`, or `r.logits`",
        )
    if isinstance(run, RolloutV):
        return index_rollout(ctx, run, site, node.span)
    return _read_at(ctx, run, site, node.span)


def _read_at(ctx: Context, run: RunV, site: Value | None, span: Span) -> TensorV:
    if isinstance(site, ViewV):
        return replace(read_view(run, site, span, ctx), seen=(run, site))
    if isinstance(site, FamilyV):
        return read_family(run, site, span, ctx)
    if isinstance(site, EdgesV):
        return read_edge(run, site, span, ctx)
    if isinstance(site, SitesV) or (isinstance(site, SiteV) and site.site.minus):
        return read_members(run, site, span, ctx)
    assert isinstance(site, SiteV)
    return read(run, site, span, ctx)


def site_by_name(ctx: Context, model: ModelV, name: str, span: Span) -> Value:
    """A site by TransformerLens' full spelling: ``blocks.5.attn.hook_z``."""
    parts = [p.removeprefix("hook_") for p in name.split(".")]
    if parts[0] != "blocks":
        found = model_field(model, parts[0], span, ctx)
        for p in parts[1:]:
            found = _below(ctx, found, p, span)
        return found
    if len(parts) < 3 or not parts[1].isdigit():
        raise fail("MI0401", f'"{name}" is not a site', span, help='such as "blocks.5.attn.hook_z"')
    value: Value = index_blocks(BlocksV(model), [(None, ConstV(int(parts[1])), span)], span)
    for p in parts[2:]:
        value = _below(ctx, value, p, span)
    return value


def _below(ctx: Context, value: Value, name: str, span: Span) -> Value:
    if not isinstance(value, BlocksV):
        raise fail("MI0401", f"there is no site below `{name}`", span, help="`midsl sites` lists the names")
    return blocks_field(value, name, span, ctx)
