"""`midsl cache`: what can always be made again, how large it is, and how to bound it."""

from __future__ import annotations

import json
import re
from datetime import datetime

import click

from midsl.cli_common import json_option, reporting

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Size(click.ParamType[int]):
    """Bytes, with a unit if one is given: ``500MB``, ``2G``."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", str(value).strip().lower())
        if found is None:
            self.fail(f"{value!r} is no size: write 500MB or 2G", param, ctx)
        return int(float(found[1]) * UNITS[found[2]])


@click.group()
def cache() -> None:
    """Look at the cache, and bound it: trained models, fits, compiled segments, model tables."""


@cache.command("ls")
@json_option
@reporting
def ls_cache(as_json: bool) -> None:
    """List what is in the cache, by kind."""
    from rich.console import Console

    from midsl.cachedir import cache_dir, entries
    from midsl.show.table import print_table

    every = entries()
    if as_json:
        told = [
            {"kind": e.kind, "path": str(e.paths[0]), "bytes": e.bytes, "used": _when(e.used)} for e in every
        ]
        total = sum(e.bytes for e in every)
        click.echo(json.dumps({"folder": str(cache_dir()), "bytes": total, "entries": told}, indent=1))
        return
    kinds = {kind: [e for e in every if e.kind == kind] for kind in sorted({e.kind for e in every})}
    rows = [
        (kind, len(of), round(sum(e.bytes for e in of) / 1e6, 3), _when(max(e.used for e in of)))
        for kind, of in kinds.items()
    ]
    print_table(["kind", "entries", "MB", "last used"], rows, Console(), None)
    click.echo(f"{sum(e.bytes for e in every) / 1e6:.1f} MB in {cache_dir()}")


@cache.command()
@click.option("--size", type=Size(), default="10GB", show_default=True, help="What the cache may take.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; print what would go.")
@json_option
@reporting
def gc(size: int, dry_run: bool, as_json: bool) -> None:
    """Remove what has been unused longest until the rest is within a size."""
    from midsl.cachedir import collect, entries

    gone = collect(size, dry=dry_run)
    left = sum(e.bytes for e in entries()) - (sum(e.bytes for e in gone) if dry_run else 0)
    if as_json:
        told = [{"kind": e.kind, "path": str(e.paths[0]), "bytes": e.bytes} for e in gone]
        click.echo(json.dumps({"removed": told, "bytes": left, "within": left <= size}, indent=1))
        return
    for e in gone:
        click.echo(f"{'would remove' if dry_run else 'removed'} {e.kind} {e.name} ({e.bytes / 1e6:.1f} MB)")
    click.echo(f"{left / 1e6:.1f} MB stay")
    if left > size:
        click.echo("what was used in the last ten minutes is not removed", err=True)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
