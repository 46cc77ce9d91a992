"""Commands about libraries: `test` runs them, `doc` tells of them, `export-lens` and `export-graph` write."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from midsl.cli_common import STORE, json_option, parse_params, reporting, show_diagnostics, spec_options
from midsl.reach import Trust


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("-k", "word", default="", metavar="TEXT", help="Only blocks with this in their titles.")
@click.option("--verify", is_flag=True, help="Compare each with the float64 oracle, too.")
@spec_options
@reporting
def test(
    files: tuple[Path, ...],
    word: str,
    verify: bool,
    params: tuple[str, ...],
    trust: Trust,
    as_json: bool,
) -> None:
    """Run the `test` blocks of files; without one, those of the standard library."""
    from rich.console import Console

    from midsl.diagnostics.render import render_json
    from midsl.plan.selftest import library, run_tests
    from midsl.show.tested import print_test

    console = Console(highlight=False)
    told = []
    given = parse_params(params)
    for path in files or library():
        one = run_tests(path, word, trust, verify, given)
        told.append(one)
        if as_json:
            continue
        if one.done or one.diagnostics:
            console.print(str(path), soft_wrap=True)
        show_diagnostics(one.diagnostics, False)
        for t in one.done:
            print_test(t.title, t.checks, [v.name for v in t.verdicts if not v.agrees], console)
    done = [(f.path, t) for f in told for t in f.done]
    held = sum(t.passed for _, t in done)
    if as_json:
        tests = [
            {
                "file": str(path),
                "title": t.title,
                "passed": t.passed,
                "expects": [
                    {"text": c.text, "passed": c.passed, "observed": c.observed, "line": c.line}
                    for c in t.checks
                ],
                "verified": [{"name": v.name, "error": v.error, "agrees": v.agrees} for v in t.verdicts],
            }
            for path, t in done
        ]
        diagnostics = render_json([d for f in told for d in f.diagnostics])
        click.echo(json.dumps({"tests": tests, "diagnostics": diagnostics}, indent=1))
    elif done:
        click.echo(f"{held} of {len(done)} tests hold")
    elif not any(f.code for f in told):
        click.echo(f"no test has {word!r} in its title" if word else "there are no tests", err=True)
    refused = max((f.code for f in told), default=0)
    sys.exit(refused or (2 if not done else 0 if held == len(done) else 3))


@click.command()
@click.argument("name", default="")
@click.option(
    "--site", type=click.Path(path_type=Path), help="Write all there is as HTML pages into a folder."
)
@json_option
@reporting
def doc(name: str, site: Path | None, as_json: bool) -> None:
    """Tell of a module, a function, a site or a code: `midsl doc logit_diff`."""
    from midsl.ide.docs import contents, look_up

    if site is not None:
        from midsl.ide.site import write_site

        if name:
            raise click.UsageError("--site writes every page: leave the name out")
        if site.is_dir() and any(site.iterdir()) and not (site / "index.html").exists():
            raise click.UsageError(f"{site} is not empty, and holds no site: give another folder")
        written = write_site(site)
        told = {"folder": str(site), "pages": len(written)}
        click.echo(json.dumps(told) if as_json else f"{len(written)} pages: {written[0]}")
        return
    pages = look_up(name) if name else [contents()]
    if as_json:
        click.echo(json.dumps([p.as_json() for p in pages], indent=1))
    else:
        click.echo("\n".join(p.as_text() for p in pages), nl=False)


FORMATS = ("saelens", "sparsify", "dictionary_learning", "circuit_tracer", "gemma_scope", "tuned_lens")
_SETS = ("circuit_tracer", "tuned_lens")  # folders that hold one for each layer, and take another in


@click.command("export-lens")
@click.argument("spec", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--format", "format", type=click.Choice(FORMATS), required=True, help="Whose format.")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@spec_options
@reporting
def export_lens(
    spec: Path,
    name: str,
    format: str,
    folder: Path,
    force: bool,
    params: tuple[str, ...],
    trust: Trust,
    as_json: bool,
) -> None:
    """Write a decomposition that a spec binds, fitted or not, for another package to read."""
    from midsl.plan.export_lens import export_lens as write

    if folder.is_dir() and any(folder.iterdir()) and format not in _SETS and not force:
        raise click.UsageError(f"{folder} is not empty; --force writes over what is there")
    parts = write(spec, name, format, folder, parse_params(params), trust)
    if as_json:
        tensors = {n: list(t.shape) for n, t in parts.tensors.items()}
        told = {"folder": str(folder), "format": format, "kind": parts.kind, "hook": parts.hook}
        click.echo(json.dumps({**told, "hook_out": parts.hook_out, "tensors": tensors}, indent=1))
    else:
        click.echo(f"wrote {name} ({parts.kind}, {parts.hook}) to {folder}")


GRAPHS = ("neuronpedia", "circuit_tracer", "mib", "graphml")


@click.command("export-graph")
@click.argument("run")
@click.argument("name", metavar="EXPERIMENT.GRAPH")
@click.option("--format", "format", type=click.Choice(GRAPHS), required=True, help="Whose format.")
@click.option("--to", "file", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option(
    "--at", multiple=True, metavar="COLUMN=VALUE", help="Which, of a graph for each point of a sweep."
)
@click.option(
    "--about",
    type=click.Path(path_type=Path),
    help="A JSON file of what the format says besides the graph: slug, scan, prompt, cfg, ..",
)
@click.option("--force", is_flag=True, help="Write over what is there.")
@STORE
@json_option
@reporting
def export_graph(
    run: str,
    name: str,
    format: str,
    file: Path,
    at: tuple[str, ...],
    about: Path | None,
    force: bool,
    store: Path,
    as_json: bool,
) -> None:
    """Write a graph that a run reported, for another package to read; runs are named as for `midsl show`."""
    from midsl.plan.export_graph import export_graph as write

    if file.exists() and not force:
        raise click.UsageError(f"{file} is there; --force writes over it")
    made = write(store, run, name, format, file, parse_params(at), about)
    told = {"file": str(file), "format": format, "nodes": len(made.names), "edges": len(made.src)}
    click.echo(
        json.dumps(told, indent=1) if as_json else f"wrote {told['nodes']} nodes, {told['edges']} edges"
    )


LIBRARY: tuple[click.Command, ...] = (test, doc, export_lens, export_graph)
