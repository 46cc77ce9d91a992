"""What `midsl run` prints when it is done: reports, pictures, claims, and what to ask next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from midsl.show.heatmap import print_heatmap
from midsl.show.plain import Text
from midsl.show.table import number, print_table
from midsl.store.rows import CheckRow, ResultTable, Viewed
from midsl.store.views import name_in_sql, view_name
from midsl.store.wide import WideTable, side_by_side

SMALL, TOP = 20, 10
DEFAULT_STORE = Path("midsl-results")


@dataclass(frozen=True, eq=False)
class PlotOf:
    """A `plot` of a spec: its kind, the report it shows, and channel -> column."""

    kind: str
    table: ResultTable
    channels: Mapping[str, str] = field(default_factory=dict)


def sql_command(sql: str, store: Path = DEFAULT_STORE) -> str:
    """Return the command line that asks a store.

    >>> sql_command("SELECT 1")
    'midsl sql "SELECT 1"'
    """
    quoted = f'"{sql}"' if not set('"$`\\!') & set(sql) else shlex.quote(sql)
    where = "" if store == DEFAULT_STORE else f"--store {shlex.quote(str(store))} "
    return f"midsl sql {where}{quoted}"


def sql_hint(tables: Sequence[ResultTable], spec: str, store: Path = DEFAULT_STORE) -> str:
    """Return the question to ask next: about the first report that has more than one row, else the first."""
    if not tables:
        return ""
    table = next((t for t in tables if len(t) > 1), tables[0])
    name, _, column = table.report.partition(".")
    sql = f"SELECT * FROM {view_name(spec, table.experiment, name)}"
    by = name_in_sql(column) if column else "value"
    return sql_command(f"{sql} ORDER BY {by} DESC LIMIT 5" if len(table) > 1 else sql, store)


def heading(table: ResultTable) -> str:
    """Return a report's title line: name, a single value, unit, how many data rows values are over.

    The rows left out are those that could not be used at all; `n` may be larger than their number
    where a value is over positions too.
    """
    words = [table.title]
    if not table.keys and len(table) == 1:
        words[0] += " = - (no row to take it over)" if np.isnan(table.value[0]) else f" = {_single(table)}"
    if table.unit:
        words.append(f"[{table.unit}]")
    if len(table):
        low, high = int(table.n.min()), int(table.n.max())
        n = f"n = {low}" if low == high else f"n = {low}..{high}"
        left_out = table.n_total is not None and high < table.n_total
        words.append(f"{n} of {table.n_total}" if left_out else n)
    return "  ".join(words)


def _single(table: ResultTable) -> str:
    se = "" if np.isnan(table.se[0]) else f" ± {number(float(table.se[0]), 2)}"
    return number(float(table.value[0])) + se


def render_results(
    tables: Sequence[ResultTable],
    checks: Sequence[CheckRow],
    plots: Sequence[PlotOf],
    console: Console,
    hint: str = "",
    *,
    spec: str = "",
    store: Path = DEFAULT_STORE,
) -> None:
    """Print the results of a run.

    Args:
        plots: heatmaps are drawn under their report; other kinds are named (they are in the run's
            artifacts).
        hint: the last line, as `sql_hint` makes it.
        spec, store: what the commands that show the rest need.
    """
    for table in side_by_side(tables):
        if isinstance(table, WideTable):
            _render_wide(table, console, spec, store)
        else:
            _render_report(table, console, spec, store)
        columns = list(table.parts.values()) if isinstance(table, WideTable) else [table]
        for plot in plots:
            if any(plot.table is t for t in columns):
                _render_plot(plot, console, spec, store)
        console.print()
    for plot in plots:
        if not any(plot.table is table for table in tables):
            _print_heading(plot.table, console)
            _render_plot(plot, console, spec, store)
            console.print()
    for check in checks:
        _render_check(check, console)
    if checks:
        failed = sum(not c.passed for c in checks)
        hold = "agree" if checks[0].kind == "verify" else "expects hold"
        held = f"{len(checks) - failed} of {len(checks)} {hold}"
        console.print(Text(held, style="bold red" if failed else "green"))
    if hint:
        console.print(Text(f"ask next: {hint}", style="dim"), soft_wrap=True)


def render_views(views: Sequence[Viewed], console: Console) -> None:
    """Print what the `view`s of a run showed."""
    for v in views:
        console.print(Text(f"{v.experiment}: {v.title}", style="bold"))
        print_table(v.columns, v.rows, console)
        console.print()


def _render_report(table: ResultTable, console: Console, spec: str, store: Path) -> None:
    _print_heading(table, console)
    if not table.keys and len(table) == 1:
        return
    columns = [*table.keys, "value"]
    if len(table) and table.n.min() != table.n.max():
        columns.append("n")
    if not np.isnan(table.se).all():
        columns.append("se")
    chosen = [table.columns.index(c) for c in columns]
    picked = np.arange(len(table))
    if len(table) > SMALL:
        size = np.where(np.isnan(table.value), -1.0, np.abs(table.value))
        picked = np.argsort(-size, kind="stable")[:TOP]
    rows = [[row[i] for i in chosen] for row in table.rows(int(i) for i in picked)]
    print_table(columns, rows, console, limit=None)
    if len(table) > SMALL:
        name = view_name(spec, table.experiment, table.report)
        ask = sql_command(f"SELECT * FROM {name}", store)
        line = f"the {TOP} largest by size of {len(table)} rows; all of them: {ask}"
        console.print(Text(line, style="dim"), soft_wrap=True)


def _render_wide(table: WideTable, console: Console, spec: str, store: Path) -> None:
    """A table of several columns; the rest of each, its n and se, is in the store."""
    units = [f"{c} [{t.unit}]" if t.unit else c for c, t in table.parts.items()]
    console.print(Text(f"{table.title}  {', '.join(units)}", style="bold"), soft_wrap=True)
    picked = np.arange(len(table))
    if len(table) > SMALL:
        size = np.nan_to_num(np.abs(table.first.value), nan=-1.0)
        picked = np.argsort(-size, kind="stable")[:TOP]
    print_table(table.columns, table.rows(int(i) for i in picked), console, limit=None)
    if len(table) > SMALL:
        ask = sql_command(f"SELECT * FROM {view_name(spec, table.experiment, table.name)}", store)
        line = (
            f"the {TOP} largest by size of {next(iter(table.parts))} of {len(table)} rows; all of them: {ask}"
        )
        console.print(Text(line, style="dim"), soft_wrap=True)


def _render_plot(plot: PlotOf, console: Console, spec: str, store: Path) -> None:
    title = f"{plot.kind} of {plot.table.title}"
    if plot.kind != "heatmap":
        console.print(Text(f"{title}: Vega-Lite, in the run's artifacts", style="dim"))
        return
    name = view_name(spec, plot.table.experiment, plot.table.report)
    console.print()
    print_heatmap(
        plot.table,
        console,
        plot.channels.get("x"),
        plot.channels.get("y"),
        see_all=sql_command(f"SELECT * FROM {name}", store),
    )


def _render_check(check: CheckRow, console: Console) -> None:
    good, bad = ("✓", "✗") if console.encoding.startswith("utf") else ("ok", "FAILED")
    line = Text(f"{good if check.passed else bad} ", style="green" if check.passed else "bold red")
    word = "expect " if check.kind == "expect" else ""
    line.append(f"{word}{check.text}", style="default")
    if check.observed:
        line.append(f"  ({check.observed})", style="dim")
    console.print(line, soft_wrap=True)
    if not check.passed:
        said = f"  {check.experiment}, line {check.line}" + (f": {check.message}" if check.message else "")
        console.print(Text(said), soft_wrap=True)


def _print_heading(table: ResultTable, console: Console) -> None:
    text = heading(table)
    if not console.encoding.startswith("utf"):
        text = text.replace("±", "+-")
    console.print(Text(text, style="bold"), soft_wrap=True)
