"""Commands that work on the text of specs: `fmt`. They stand apart from those that compile and run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from midsl.cli_common import json_option, reporting, show_diagnostics

FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.command()
@FILES
@click.option("--check", is_flag=True, help="Change nothing; leave with 1 if a file is not formatted.")
@click.option("--stdout", "to_stdout", is_flag=True, help="Print the formatted text, change nothing.")
@click.option("--edition", type=int, help="Rewrite to this edition of the language.")
@json_option
@reporting
def fmt(files: tuple[Path, ...], check: bool, to_stdout: bool, edition: int | None, as_json: bool) -> None:
    """Set specs in the canonical layout, comments kept."""
    from midsl.diagnostics.model import Diagnostic, MiError, fail
    from midsl.diagnostics.render import render_json
    from midsl.sema.check import read_source
    from midsl.syntax.fmt import format_source
    from midsl.syntax.parse import EDITIONS

    if check and to_stdout:
        raise click.UsageError("--check and --stdout are two ways to change nothing: give one of them")
    if edition is not None and edition not in EDITIONS:
        known = ", ".join(map(str, EDITIONS))
        raise fail("MI0104", f"unknown edition `{edition}`", help=f"this midsl knows edition {known}")
    told: list[dict[str, object]] = []
    errors: list[Diagnostic] = []
    for path in files:
        try:
            source = read_source(path)
            text = format_source(source)
        except MiError as err:
            errors += err.diagnostics
            continue
        changed = text != source.text
        told.append({"file": str(path), "changed": changed} | ({"text": text} if to_stdout else {}))
        if to_stdout:
            if not as_json:
                click.echo(text, nl=False)
        elif changed:
            if not check:
                path.write_text(text, encoding="utf-8")
            if not as_json:
                click.echo(f"{'would change' if check else 'formatted'} {path}")
    if as_json:
        click.echo(json.dumps({"files": told, "diagnostics": render_json(errors)}, indent=1))
    else:
        show_diagnostics(errors, False)
    sys.exit(2 if errors else int(check and any(f["changed"] for f in told)))


EDITING: tuple[click.Command, ...] = (fmt,)
