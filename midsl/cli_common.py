"""What every command shares: how it reports errors, and what it suggests."""

from __future__ import annotations

import difflib
import json
import shlex
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from midsl.reach import trusting

F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """Suggests the command that was meant."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as err:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            if near and "mean" not in err.message:
                raise click.UsageError(f"{err.message} Did you mean {near[0]!r}?", ctx) from None
            raise


def reporting(f: F) -> F:
    """Print diagnostics instead of tracebacks, and leave with their exit code."""

    @wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        from midsl.diagnostics.model import Diagnostic, MiError

        as_json = bool(kwargs.get("as_json"))
        try:
            return f(*args, **kwargs)
        except MiError as err:
            show_diagnostics(list(err.diagnostics), as_json)
            sys.exit(err.exit_code)
        except KeyboardInterrupt:
            again = shlex.join(["midsl", *sys.argv[1:]])
            click.echo(f"interrupted; what is finished is kept. To go on: {again}", err=True)
            sys.exit(130)
        except (click.ClickException, click.exceptions.Exit, SystemExit, BrokenPipeError):
            raise
        except Exception as err:
            import traceback

            trace = "" if as_json else traceback.format_exc()
            click.echo(trace, err=True, nl=False)
            show_diagnostics(
                [
                    Diagnostic(
                        "MI0901",
                        f"internal error: {err!r}",
                        help="this is a bug of midsl; please report it with the spec",
                    )
                ],
                as_json,
            )
            sys.exit(1)

    return wrapper  # type: ignore[return-value]


def show_diagnostics(items: list[Any], as_json: bool) -> None:
    """Diagnostics as text on stderr, or as JSON on stdout."""
    from midsl.diagnostics.render import render_json, render_text

    if not items:
        return
    if as_json:
        click.echo(json.dumps({"diagnostics": render_json(items)}, indent=1))
    else:
        color = sys.stderr.isatty()
        click.echo(render_text(items, color=color), err=True, nl=False)


def json_option(f: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(f)


def spec_options(f: F) -> F:
    """What every command that compiles a spec takes."""
    f = click.option(
        "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter of the spec."
    )(f)
    return json_option(trust_options(f))


def trust_options(f: F) -> F:
    """`--trust` and `--allow`, which the command gets as one `trust`."""

    @wraps(f)
    def wrapper(*args: Any, trust: bool, allow: tuple[Path, ...], **kwargs: Any) -> Any:
        return f(*args, trust=trusting(trust, allow), **kwargs)

    made = click.option(
        "--trust",
        is_flag=True,
        help="Let the spec run Python outside the standard library, and code of models, and read any file.",
    )(wrapper)
    return click.option(
        "--allow",
        multiple=True,
        type=click.Path(path_type=Path, exists=True),
        metavar="PATH",
        help="Let the spec read this file or folder, too.",
    )(made)  # type: ignore[return-value]


STORE = click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path("midsl-results"),
    show_default=True,
    help="Folder of the results store.",
)


def parse_params(pairs: tuple[str, ...]) -> dict[str, str]:
    """``-p name=value`` pairs as a dictionary."""
    found = {}
    for pair in pairs:
        name, sep, value = pair.partition("=")
        if not sep or not name:
            raise click.UsageError(f"-p {pair}: write NAME=VALUE")
        found[name] = value
    return found
