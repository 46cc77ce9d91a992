"""`midsl show SPEC EXPRESSION` and `midsl serve`: values of a spec, asked for one at a time."""

from __future__ import annotations

import json
from pathlib import Path

import click

from midsl.cli_common import STORE, json_option, parse_params, reporting, trust_options
from midsl.reach import Trust


def show_value(
    spec: Path, expression: str, params: tuple[str, ...], experiment: str, trust: Trust, as_json: bool
) -> None:
    """Print what an expression of a spec comes to; nothing goes to a store."""
    from rich.console import Console

    from midsl.api import Session
    from midsl.plan.look import rows_json, value_json
    from midsl.show.looked import print_rows, print_value

    session = Session(trust=trust)
    given = parse_params(params)
    rows = session.rows(spec, expression, given)
    if rows is not None:
        told = rows_json(rows)
        if as_json:
            click.echo(json.dumps(told, indent=1))
            return
        for side in told["sides"]:
            print_rows(side["side"], side["tokens"], side["named"], Console())
        return
    done = session.show(spec, expression, given, experiment=experiment)
    if as_json:
        click.echo(json.dumps(value_json(done), indent=1))
        return
    sizes = dict(zip(done.value.axes, done.value.value.shape, strict=True))
    numbers = done.value.value.detach().cpu().numpy()
    print_value(done.type, sizes, done.value.labels, numbers, done.cost, Console())


@click.command()
@STORE
@trust_options
@reporting
def serve(store: Path, trust: Trust) -> None:
    """Answer questions on stdin, one JSON object a line, and keep models in memory between them.

    \b
    {"id": 1, "do": "run", "spec": "spec.mi", "params": {"seed": 1}}
    {"id": 2, "do": "show", "spec": "spec.mi", "expression": "mean(clean[z], over: batch)"}
    {"id": 3, "do": "check", "text": "language mi 1 ..."}
    {"id": 4, "do": "sql", "query": "FROM runs"}
    {"id": 5, "do": "forget"}
    {"id": 6, "do": "stop"}

    Each answer is a line of JSON with that id, and `error` (the diagnostics) where something is wrong.
    """
    import sys

    from midsl.serve import Server

    if sys.stdin.isatty():
        click.echo("midsl serve: one JSON object a line, `midsl serve --help` for an example", err=True)
    Server(store, trust).answer_all(sys.stdin, sys.stdout)


@click.command()
@click.argument("run", default="latest")
@trust_options
@STORE
@json_option
@reporting
def reproduce(run: str, trust: Trust, store: Path, as_json: bool) -> None:
    """Run a stored run again, from what the store has of it, and compare; 1 if results differ."""
    import sys

    from rich.console import Console

    from midsl.plan.again import reproduce as again
    from midsl.show.compared import print_comparison

    done = again(store, run, trust)
    same = done.comparison.same_results
    if as_json:
        click.echo(
            json.dumps(done.comparison.as_json() | {"run": done.landed.run_uuid}, indent=1, default=str)
        )
    else:
        print_comparison(done.comparison, Console())
        click.echo("reproduced: all results are the same" if same else "not reproduced: results differ")
    sys.exit(0 if same else 1)


LOOKING: tuple[click.Command, ...] = (serve, reproduce)
