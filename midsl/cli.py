"""The command line: options and printing, no logic. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midsl import __version__
from midsl.cli_cache import cache
from midsl.cli_common import (
    STORE,
    Commands,
    F,
    parse_params,
    reporting,
    show_diagnostics,
    spec_options,
)
from midsl.cli_edit import EDITING
from midsl.cli_library import LIBRARY
from midsl.cli_look import LOOKING
from midsl.cli_results import RESULTS
from midsl.cli_setup import SETUP
from midsl.reach import Trust

if TYPE_CHECKING:
    from midsl.plan.driver import Compiled

PASSES = (
    "fold_constants",
    "simplify",
    "read_self",
    "cse",
    "dce",
    "push_selects",
    "fuse_captures",
    "batch_sweeps",
    "stage",
    "cut_cones",
    "share_prefix",
    "narrow_positions",
    "drop_dead_lanes",
    "chunk",
    "schedule",
    "compile_segments",
    "reuse",
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="midsl")
def main() -> None:
    """midsl: mechanistic-interpretability experiments as specs that compile and run."""


def pass_options(f: F) -> F:
    """One ``--no-<pass>`` for each pass that may be left out, and how segments are compiled."""
    f = click.option(
        "--compile",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Run stretches of operations as compiled functions: where that pays, always, or never.",
    )(f)
    for name in reversed(PASSES):
        f = click.option(
            f"--no-{name.replace('_', '-')}", f"no_{name}", is_flag=True, help=f"Leave out pass {name}."
        )(f)
    return f


def switched_off(options: dict[str, Any]) -> list[str]:
    return [p for p in PASSES if options.pop(f"no_{p}")]


SPEC = click.argument("spec", type=click.Path(path_type=Path))


@main.command()
@SPEC
@spec_options
@click.option("--sarif", is_flag=True, help="Print the diagnostics as SARIF 2.1.0 on stdout.")
@reporting
def check(spec: Path, params: tuple[str, ...], trust: Trust, as_json: bool, sarif: bool) -> None:
    """Check a spec without loading a model."""
    from midsl.diagnostics.model import MiError
    from midsl.reach import Reach, working_in
    from midsl.sema.check import check_source, read_source
    from midsl.sema.filefacts import FileFacts
    from midsl.sema.summary import lines, summarise

    if sarif and as_json:
        raise click.UsageError("--json and --sarif are two forms of one answer: give one of them")
    try:
        source = read_source(spec)
        given = parse_params(params)
        with working_in(Reach(spec.resolve().parent, trust, given)):
            checked = check_source(source, FileFacts(), given, trust)
    except MiError as err:
        if not sarif:
            raise
        print_sarif(err.diagnostics)
        sys.exit(err.exit_code)
    if sarif:
        print_sarif(checked.bag)
    elif as_json:
        click.echo(json.dumps(told(checked.bag) | {"experiments": summarise(checked)}, indent=1))
    else:
        show_diagnostics(list(checked.bag), False)
        if not checked.bag.errors:
            for line in lines(summarise(checked)).values():
                click.echo(line)
    sys.exit(2 if checked.bag.errors else 0)


def print_sarif(diagnostics: Any) -> None:
    from midsl.diagnostics.sarif import render_sarif

    click.echo(json.dumps(render_sarif(diagnostics), indent=1))


@main.command()
@SPEC
@spec_options
@pass_options
@click.option("--dump", type=click.Choice(["ir"]), help="Print a stage of the compile.")
@click.option(
    "--after", type=click.Choice(["expand_sites", *PASSES]), help="Print the IR as this pass leaves it."
)
@click.option("--torch", "graphs", is_flag=True, help="Show the segments that may run as compiled functions.")
@STORE
@reporting
def explain(
    spec: Path,
    params: tuple[str, ...],
    trust: Trust,
    as_json: bool,
    dump: str | None,
    after: str | None,
    graphs: bool,
    store: Path,
    **options: Any,
) -> None:
    """Show the steps of a plan, why, and what they will cost."""
    from midsl.plan.driver import compile_spec, ir_text

    off = switched_off(options)
    if after in off:
        raise click.UsageError(f"--after {after}: that pass is left out")
    compiled = compile_spec(spec, parse_params(params), off, trust, compile=options["compile"])
    if dump == "ir" or after is not None:
        text = ir_text(compiled, after)
        click.echo(json.dumps({"ir": text} | told(compiled.bag), indent=1) if as_json else text, nl=as_json)
        return
    if graphs:
        from midsl.plan.torchgraphs import torch_graphs, torch_text

        found = torch_graphs(compiled)
        show_warnings(compiled.bag, as_json)
        click.echo(json.dumps(found | told(compiled.bag), indent=1) if as_json else torch_text(found))
        return
    show_warnings(compiled.bag, as_json)
    told_plan(compiled, store, as_json)


def told_plan(compiled: Compiled, store: Path, as_json: bool) -> None:
    """Print a plan and what it will cost, with what a store has of it already."""
    from midsl.plan.explain import explain as explain_plan
    from midsl.plan.numerics import model_numerics
    from midsl.plan.reuse import reuse_from

    reused = reuse_from(store, compiled, model_numerics(compiled))
    done = explain_plan(reused.compiled, reused.states)
    click.echo(json.dumps(done.as_json() | told(compiled.bag), indent=1) if as_json else done.as_text())


def show_warnings(bag: Any, as_json: bool) -> None:
    if not as_json:
        show_diagnostics(list(bag), False)


def told(bag: Any) -> dict[str, Any]:
    """Warnings as an entry of a command's JSON."""
    from midsl.diagnostics.render import render_json

    return {"diagnostics": render_json(list(bag))}


@main.command()
@SPEC
@spec_options
@pass_options
@click.option("--select", multiple=True, metavar="EXPERIMENT", help="Only this experiment; may be repeated.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=None,
    help="Only the first rows of each data set that nothing is trained or fitted on: a quick try.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan, as `explain` does; run and write nothing.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes for experiments that are not in the store yet.",
)
@STORE
@reporting
def run(
    spec: Path,
    params: tuple[str, ...],
    trust: Trust,
    as_json: bool,
    select: tuple[str, ...],
    limit: int | None,
    dry_run: bool,
    jobs: int,
    store: Path,
    **options: Any,
) -> None:
    """Run a spec; rows land in the results store."""
    from midsl.plan.driver import compile_spec
    from midsl.plan.record import run_and_store

    off = switched_off(options)
    if jobs > 1 and ("reuse" in off or select or limit):
        raise click.UsageError("--jobs goes with neither --select, --limit nor --no-reuse")
    compiled = compile_spec(
        spec, parse_params(params), off, trust, compile=options["compile"], select=select, limit=limit or 0
    )
    show_warnings(compiled.bag, as_json)
    if dry_run:
        told_plan(compiled, store, as_json)
        return
    if jobs > 1 and len(compiled.program.experiments) > 1:
        from midsl.plan.jobs import run_apart

        words = [str(spec), *(w for p in params for w in ("-p", p)), "--compile", options["compile"]]
        words += trust.words()
        words += [f"--no-{p.replace('_', '-')}" for p in off]
        failed = run_apart(compiled, jobs, words, store.resolve())
        if failed:
            click.echo(f"{failed} processes failed; what they did not finish is run here", err=True)
    code = run_and_store(compiled, store, parse_params(params), sys.argv[1:], as_json)
    sys.exit(code)


@main.command()
@SPEC
@spec_options
@pass_options
@click.option(
    "--points",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Points of each sweep to check.",
)
@click.option("--exact", is_flag=True, help="Check every point.")
@STORE
@reporting
def verify(
    spec: Path,
    params: tuple[str, ...],
    trust: Trust,
    as_json: bool,
    points: int,
    exact: bool,
    store: Path,
    **options: Any,
) -> None:
    """Compare the plan with the float64 oracle; what was found goes to `checks` of the store."""
    from midsl.plan.driver import compile_spec
    from midsl.plan.verified import store_verification
    from midsl.plan.verify import TOLERANCE
    from midsl.plan.verify import verify as verify_plan

    off = switched_off(options)
    compiled = compile_spec(spec, parse_params(params), off, trust, compile=options["compile"])
    done = verify_plan(compiled, None if exact else points)
    run = store_verification(compiled, done, store, parse_params(params), sys.argv[1:])
    if as_json:
        rows = [
            {"name": v.name, "rows": v.rows, "error": v.error, "own_error": v.own_error, "agrees": v.agrees}
            for v in done.verdicts
        ]
        summary = {
            "run": run,
            "agrees": done.agrees,
            "worst": done.worst,
            "reports": rows,
            "sampled": done.sampled,
        }
        click.echo(json.dumps(summary | told(compiled.bag), indent=1))
    else:
        show_warnings(compiled.bag, as_json)
        for v in done.verdicts:
            mark = "agrees" if v.agrees else "DIFFERS"
            click.echo(
                f"{mark:8} {v.name}  {v.rows} rows, float64 {v.error:.1e}, own precision {v.own_error:.1e}"
            )
        for name, (some, every) in done.sampled.items():
            click.echo(f"sampled  {some} of {every} points of `{name}` (--exact checks all)")
        click.echo(f"largest relative error {done.worst:.1e} (tolerance {TOLERANCE:.0e})")
    sys.exit(0 if done.agrees else 1)


@main.command()
@SPEC
@click.argument("site", default="")
@spec_options
@reporting
def sites(spec: Path, site: str, params: tuple[str, ...], trust: Trust, as_json: bool) -> None:
    """List the sites of a spec's models: `midsl sites spec.mi 'm.blocks[*].attn.z'`."""
    from midsl.plan.listing import list_sites, sites_text

    rows = list_sites(spec, site, parse_params(params), trust)
    click.echo(json.dumps(rows, indent=1) if as_json else sites_text(rows))


for command in (*EDITING, *LIBRARY, *RESULTS, *LOOKING, *SETUP, cache):
    main.add_command(command)

if __name__ == "__main__":
    main()
