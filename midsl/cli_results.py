"""Commands about what runs left: `sql`, `ls`, `show`, `diff`, `export`, `report`. None runs anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midsl.cli_common import STORE, json_option, reporting, show_diagnostics, trust_options
from midsl.diagnostics.model import Diagnostic
from midsl.reach import Trust

if TYPE_CHECKING:
    from midsl.store.export import Format
    from midsl.store.trackers import Tracker

TRACKERS = ("mlflow", "wandb")


@click.command()
@click.argument("query")
@STORE
@json_option
@reporting
def sql(query: str, store: Path, as_json: bool) -> None:
    """Ask the results store in SQL (read-only)."""
    from rich.console import Console

    from midsl.show.table import print_table
    from midsl.store.db import Store

    result = Store(store).query(query)
    if result.notes:
        show_diagnostics(list(result.notes), False)
    if as_json:
        click.echo(
            json.dumps(
                [dict(zip(result.columns, row, strict=True)) for row in result.rows], indent=1, default=str
            )
        )
    else:
        print_table(result.columns, result.rows, Console(), see_all=f'midsl sql --json "{query}"')


@click.command()
@STORE
@json_option
@reporting
def ls(store: Path, as_json: bool) -> None:
    """List the runs in a results store."""
    from rich.console import Console

    from midsl.show.table import print_table
    from midsl.store.db import Store

    runs = Store(store).runs()
    if as_json:
        click.echo(json.dumps(runs, indent=1, default=str))
    elif not runs:
        click.echo("no runs yet")
    else:
        print_table(list(runs[0]), [tuple(r.values()) for r in runs], Console(), limit=None)


@click.command()
@click.argument("run", default="latest")
@click.argument("expression", default="")
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="With a spec: set a parameter of it."
)
@click.option("--experiment", default="", help="With a spec: whose names, if not the first experiment's.")
@trust_options
@STORE
@json_option
@reporting
def show(
    run: str,
    expression: str,
    params: tuple[str, ...],
    experiment: str,
    trust: Trust,
    store: Path,
    as_json: bool,
) -> None:
    """Show a run: its number, its id, its spec (`quickstart`, `quickstart~1`), or the latest.

    With the path of a spec and an expression, `midsl show spec.mi 'mean(clean[z], over: batch)'`: what that
    comes to, its type and axes, a corner of its numbers, and what it took; of data, the tokens of its rows.
    """
    if expression:
        from midsl.cli_look import show_value

        return show_value(Path(run), expression, params, experiment, trust, as_json)
    if params or experiment or trust:
        raise click.UsageError("-p, --experiment, --trust and --allow are for `midsl show SPEC EXPRESSION`")
    from rich.console import Console

    from midsl.show.stored import print_run, run_json
    from midsl.store.db import Store
    from midsl.store.runs import find_run

    with Store(store).reading() as (con, notes):
        show_diagnostics(notes, False)
        found = find_run(con, run)
        if as_json:
            click.echo(json.dumps(run_json(found), indent=1, default=str))
        else:
            print_run(found, Console(), store)


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--top", type=click.IntRange(min=0), default=5, show_default=True, help="Rows to tell of each report."
)
@STORE
@json_option
@reporting
def diff(a: str, b: str, top: int, store: Path, as_json: bool) -> None:
    """Compare two runs: their specs, what they ran with, and their results, joined on axes."""
    from rich.console import Console

    from midsl.show.compared import print_comparison
    from midsl.store.compare import compare
    from midsl.store.db import Store
    from midsl.store.runs import find_run

    with Store(store).reading() as (con, notes):
        show_diagnostics(notes, False)
        done = compare(find_run(con, a), find_run(con, b), top)
    if as_json:
        click.echo(json.dumps(done.as_json(), indent=1, default=str))
    else:
        print_comparison(done, Console())


@click.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(["parquet", "csv", "arrow", *TRACKERS]))
@click.argument("reports", nargs=-1, metavar="[EXPERIMENT.REPORT]...")
@click.option("--run", default="latest", show_default=True, help="Whose reports; see `midsl show`.")
@click.option("--sql", "query", help="Export the answer to this question, not reports.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for reports, default `.`; with --sql the file, default `answer.FORMAT`.",
)
@STORE
@json_option
@reporting
def export(
    form: Format | Tracker,
    reports: tuple[str, ...],
    run: str,
    query: str | None,
    out: Path | None,
    store: Path,
    as_json: bool,
) -> None:
    """Write reports as Parquet, CSV or Arrow files: all of a run, or those that are named.

    `mlflow` and `wandb` write the run as these packages keep runs, into the folder `-o`; nothing is sent.
    """
    from midsl.store.db import Store
    from midsl.store.export import export_query, export_reports
    from midsl.store.runs import find_run
    from midsl.store.trackers import export_tracked

    if query is not None and form in TRACKERS:
        raise click.UsageError(f"--sql is for files: {form} takes a run")
    if query is not None and (reports or run != "latest"):
        raise click.UsageError("--sql asks the whole store: leave out reports and --run")
    if form == "mlflow" or form == "wandb":
        with Store(store).reading() as (con, _):
            files = [export_tracked(find_run(con, run), form, out or Path(f"midsl-{form}"), reports)]
    elif query is not None:
        files = [export_query(Store(store), form, query, out or Path(f"answer.{form}"))]
    else:
        files = export_reports(Store(store), form, out or Path(), run, reports)
    if as_json:
        click.echo(json.dumps({"files": [str(f) for f in files]}, indent=1))
    else:
        for file in files:
            click.echo(file)


@click.command()
@click.argument("run", default="latest")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The file; default `SPEC-ID.html`.")
@STORE
@json_option
@reporting
def report(run: str, out: Path | None, store: Path, as_json: bool) -> None:
    """Write a run as one page of HTML that fetches nothing; runs are named as for `midsl show`."""
    from midsl.ide.pygments_lexer import highlight_styles, highlighted
    from midsl.show.page import page
    from midsl.show.svg import can_draw
    from midsl.store.db import Store
    from midsl.store.lock import write_text
    from midsl.store.runs import find_run

    with Store(store).reading() as (con, notes):
        show_diagnostics(notes, False)
        found = find_run(con, run)
        text = page(found, highlighted, highlight_styles())
        file = out or Path(f"{found.row['spec_name']}-{found.row['run_uuid'][-8:]}.html")
        undrawn = bool(found.plots) and not can_draw()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    if undrawn:
        show_diagnostics([not_drawn()], False)
    click.echo(json.dumps({"file": str(file), "drawn": not undrawn}, indent=1) if as_json else file)


def not_drawn() -> Diagnostic:
    """The warning that a page has no pictures."""
    return Diagnostic(
        "MI0808",
        "plots are not drawn: that needs vl-convert-python",
        help='pip install "midsl[plot]", and write the page again',
        severity="warning",
    )


RESULTS: tuple[click.Command, ...] = (sql, ls, show, diff, export, report)
