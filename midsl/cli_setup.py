"""Commands about this machine and about beginnings: `doctor`, `new`, `completion`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from midsl.cli_common import STORE, json_option, reporting


@click.command()
@STORE
@json_option
@reporting
def doctor(store: Path, as_json: bool) -> None:
    """Look at torch, the compiler, memory, cache, store, hub and extras, and say what to do."""
    from dataclasses import asdict

    from midsl.show.doctor import examine

    found = examine(store)
    if as_json:
        click.echo(json.dumps([asdict(f) for f in found], indent=1))
    else:
        for f in found:
            click.echo(f"{f.state:8} {f.what:11} {f.found}")
            if f.do:
                click.echo(f"{'':20} {f.do}")
    sys.exit(4 if any(f.state == "broken" for f in found) else 0)


@click.command()
@click.argument("template", default="")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The file; default `TEMPLATE.mi`.")
@json_option
@reporting
def new(template: str, out: Path | None, as_json: bool) -> None:
    """Begin a spec from a template; without one, list them."""
    from midsl.diagnostics.suggest import did_you_mean
    from midsl.resources import resource_dir
    from midsl.store.lock import write_text

    found = {p.stem: p.read_text(encoding="utf-8") for p in sorted(resource_dir("examples").glob("*.mi"))}
    about = {name: _first(text) for name, text in found.items()}
    if not template:
        if as_json:
            click.echo(json.dumps(about, indent=1))
        else:
            for name, says in about.items():
                click.echo(f"{name:18} {says}")
        return
    if template not in found:
        hint = did_you_mean(template, found) or f"templates: {', '.join(found)}"
        raise click.UsageError(f"there is no template {template!r}; {hint}")
    file = out or Path(f"{template}.mi")
    if file.exists():
        raise click.UsageError(f"{file} is there already: give another name with -o")
    write_text(file, found[template])
    click.echo(json.dumps({"file": str(file)}) if as_json else f"{file}: midsl check {file}")


def _first(text: str) -> str:
    """The first sentence of a spec's own comment."""
    lines = [line.removeprefix("##").strip() for line in text.splitlines() if line.startswith("##")]
    said = " ".join(lines)
    end = min((said.index(m) + 1 for m in ("? ", ". ") if m in said), default=len(said))
    return said[:end]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
@reporting
def completion(shell: str, as_json: bool) -> None:
    """Print what makes a shell complete `midsl`: `eval "$(midsl completion bash)"`."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    root = click.get_current_context().find_root().command
    script = made(root, {}, "midsl", "_MIDSL_COMPLETE").source()
    click.echo(json.dumps({"shell": shell, "script": script}) if as_json else script)


SETUP: tuple[click.Command, ...] = (doctor, new, completion)
