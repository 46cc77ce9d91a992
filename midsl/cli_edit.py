"""Commands that work on the text of specs: `fmt`, `fix`, `lsp`. Those that compile and run stand apart."""

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


@click.command()
@FILES
@click.option("--dry-run", is_flag=True, help="Change nothing; print what would change.")
@json_option
@reporting
def fix(files: tuple[Path, ...], dry_run: bool, as_json: bool) -> None:
    """Put in the fixes of what `midsl check` finds, where no choice is left."""
    from midsl.diagnostics.model import Diagnostic, MiError
    from midsl.diagnostics.render import render_json
    from midsl.ide.fix import fix_source
    from midsl.reach import Reach, working_in
    from midsl.sema.check import read_source

    told: list[dict[str, object]] = []
    left: list[Diagnostic] = []
    for path in files:
        try:
            source = read_source(path)
        except MiError as err:
            left += err.diagnostics
            continue
        with working_in(Reach(path.resolve().parent)):
            done = fix_source(source)
        left += done.left
        told.append({"file": str(path), "changed": done.text != source.text, "fixes": done.fixes})
        if not as_json:
            for f in done.fixes:
                click.echo(f"{path}:{f['line']}:{f['col']}: {f['code']}: `{f['old']}` -> `{f['new']}`")
        if dry_run:
            if not as_json:
                click.echo(done.diff(str(path)), nl=False)
        elif done.text != source.text:
            path.write_text(done.text, encoding="utf-8")
    if as_json:
        click.echo(json.dumps({"files": told, "diagnostics": render_json(left)}, indent=1))
    else:
        show_diagnostics(left, False)
    sys.exit(2 if any(d.severity == "error" for d in left) else 0)


@click.command()
@reporting
def lsp() -> None:
    """Serve editors: the Language Server Protocol on stdin and stdout."""
    try:
        from midsl.ide.server import make_server
    except ModuleNotFoundError as err:
        if err.name not in ("pygls", "lsprotocol"):
            raise
        raise click.UsageError('the language server needs pygls: pip install "midsl[lsp]"') from None
    make_server().start_io()


EDITING: tuple[click.Command, ...] = (fmt, fix, lsp)
