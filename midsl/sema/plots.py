"""Plots: pictures of reports, held to what their rows have before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.plots import PLOTS, text_axis
from midsl.ir.program import key_columns, left_axes
from midsl.ir.types import PlainType
from midsl.sema.values import PoisonError
from midsl.source import Span
from midsl.syntax import ast

SINK = PlainType("Sink")


def elaborate_plot(
    experiment: str, stmt: ast.Plot, reports: Mapping[str, ir.Report], declared: Collection[str]
) -> ir.Plot:
    """A plot of one of an experiment's reports; `declared` are those that were refused, too."""
    call = stmt.value
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        raise fail(
            "MI0301",
            "a plot is written `plot kind(value, x: axis, ...)`",
            stmt.span,
            help="such as `plot heatmap(effect, x: head, y: layer)`",
        )
    kind = call.func.id
    if kind not in PLOTS:
        known = f"kinds: {', '.join(PLOTS)}"
        raise fail(
            "MI0201",
            f"unknown plot kind `{kind}`",
            call.func.span,
            label=known,
            help=did_you_mean(kind, PLOTS) or "such as `plot heatmap(effect, x: head, y: layer)`",
        )
    first = call.args[0] if call.args else None
    name = _named(first.value) if first is not None and first.name is None else ""
    name = f"{name}_edges.weight" if kind == "graph" and f"{name}_edges.weight" in reports else name
    if first is None or name not in reports:
        _need_column(kind, name, reports, stmt.span)
        if name.partition(".")[0].removesuffix("_edges").removesuffix("_nodes") in declared:
            raise PoisonError  # that report was refused already
        raise fail(
            "MI0312",
            "a plot shows a report of this experiment",
            stmt.span,
            help="report the value first, then `plot " + kind + "(name, x: axis)`",
        )
    report = reports[name]
    known_channels = PLOTS[kind]
    columns = key_columns(report)
    channels = []
    for arg in call.args[1:]:
        if arg.name is None or arg.name not in known_channels:
            raise fail(
                "MI0206",
                f"`{kind}` has no channel `{arg.name or '?'}`",
                arg.span,
                label=f"channels: {', '.join(known_channels)}",
                help=did_you_mean(arg.name or "", known_channels)
                or f"such as `{known_channels[0]}: {(*columns, 'value')[0]}`",
            )
        column = arg.value.id if isinstance(arg.value, ast.Name) else ""
        if column not in (*columns, "value"):
            raise fail(
                "MI0302",
                f"the report has no column `{column or arg.value.span.text}`",
                arg.value.span,
                label=f"columns: {', '.join(columns)}",
                help=did_you_mean(column, columns) or f"columns: {', '.join((*columns, 'value'))}",
            )
        channels.append((arg.name, column))
    _has_axes(kind, report, dict(channels), first.span)
    return ir.Plot(experiment, kind, report, tuple(channels), type=SINK, span=stmt.span)


def _named(node: ast.Expr) -> str:
    """The report that is named: `effect`, or a column of a table, `quality.l0`."""
    if isinstance(node, ast.Field) and isinstance(node.base, ast.Name):
        return f"{node.base.id}.{node.name}"
    return node.id if isinstance(node, ast.Name) else ""


def _need_column(kind: str, name: str, reports: Mapping[str, ir.Report], span: Span) -> None:
    """MI0312 where a table is named, and not which of its columns."""
    tables = (f"{name}.", f"{name}_edges.", f"{name}_nodes.")
    columns = [r for r in reports if name and r.startswith(tables)]
    if columns and "." not in name:
        raise fail(
            "MI0312",
            f"a {kind} shows one column of a table",
            span,
            label=f"`{name}` has {', '.join(columns)}",
            help=f"such as `plot {kind}({columns[0]})`",
        )


def _has_axes(kind: str, report: ir.Report, channels: dict[str, str], span: Span) -> None:
    """Whether a report has what a kind of plot goes along."""
    if kind == "tokens":
        _has_text(report, channels, span)
    elif kind == "graph":
        _has_ends(report, channels, span)
    elif kind != "histogram" and not key_columns(report):
        raise fail(
            "MI0302",
            f"a single value has no axis for a {kind}",
            span,
            label="this report is one row",
            help="keep an axis of it, or show several numbers in a `histogram`",
        )
    elif kind == "heatmap" and "value" in (channels.get("x"), channels.get("y")):
        raise fail(
            "MI0302",
            "a heatmap goes along axes, and its colour is the value",
            span,
            label=f"its axes: {', '.join(key_columns(report))}",
            help="write `scatter` or `hist2d` for values along an axis of the picture",
        )


def _has_ends(report: ir.Report, channels: dict[str, str], span: Span) -> None:
    """Whether each row of a report is an edge."""
    columns = key_columns(report)
    if "src" not in columns or "dst" not in columns:
        raise fail(
            "MI0302",
            "a plot of a graph shows edges between `src` and `dst`",
            span,
            label=f"its rows are by {', '.join(columns) or 'nothing'}",
            help="report a graph first: `report g = graph(effect)`, then `plot graph(g)`",
        )
    others = [c for c in columns if c not in ("src", "dst", *channels.values())]
    if others:
        raise fail(
            "MI0302",
            f"a plot of a graph has no place for {', '.join(f'`{c}`' for c in others)}",
            span,
            label="there would be several edges between two nodes",
            help=f"draw one picture for each: `facet: {others[0]}`",
        )


def _has_text(report: ir.Report, channels: dict[str, str], span: Span) -> None:
    """Whether each row of a report stands at one token of one example."""
    places = {a.name: a for a in left_axes(report)}
    along = text_axis(key_columns(report), channels)
    if (
        "batch" not in places
        or along not in ("pos", "key_pos")
        or along not in places
        or (places[along].span not in ("", "predicted"))
    ):
        raise fail(
            "MI0302",
            "a plot of tokens shows a value at each position of each example",
            span,
            label=f"its rows are by {', '.join(key_columns(report)) or 'nothing'}",
            help="report a value before it is taken over batch and pos, such as `nll(run m on d)`",
        )
    others = [c for c in key_columns(report) if c not in ("example", along, *channels.values())]
    if others:
        raise fail(
            "MI0302",
            f"a plot of tokens has no place for {', '.join(f'`{c}`' for c in others)}",
            span,
            label="there would be several values at one token",
            help=f"draw one picture for each: `facet: {others[0]}`",
        )
