"""`midsl reproduce`: a stored run once more, from what the store has of it, and what came out otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from midsl.diagnostics.model import fail
from midsl.plan.driver import compile_source, selected
from midsl.plan.handed import Handed
from midsl.plan.record import Landed, land_run
from midsl.reach import NO_TRUST, Trust
from midsl.sema.given import Given
from midsl.source import SourceFile
from midsl.store.compare import Comparison, compare
from midsl.store.db import Store
from midsl.store.runs import find_run


@dataclass(frozen=True)
class Reproduced:
    """The new run, and both compared."""

    landed: Landed
    comparison: Comparison


def reproduce(store: Path, run: str, trust: Trust = NO_TRUST, top: int = 5) -> Reproduced:
    """Run a stored run again, with its spec, its imports, its parameters and its passes, and nothing reused.

    Models and data are those that are there now, in the folder where the spec was; what differs in them is
    told by the comparison. The new run goes to the same store.

    Raises:
        MiError: MI0807 if there is no such run, or it was of objects in memory; else as a run.
    """
    with Store(store).reading() as (con, _):
        found = find_run(con, run)
        env, params = found.environment, {k: str(v) for k, v in found.params.items()}
        uuid, path, text = found.row["run_uuid"], Path(found.row["spec_path"]), found.source
    if env.get("bound"):
        raise fail(
            "MI0807",
            f"run {uuid} was of objects in memory: {', '.join(env['bound'])}",
            help="run it again from Python, with the same `bind`, and compare with `midsl diff`",
        )
    folder = path.parent if path.is_absolute() else Path.cwd()
    if not folder.is_dir():
        raise fail(
            "MI0807",
            f"the folder of its spec is gone: {folder}",
            help="its data and models were found from there",
        )
    source = SourceFile(str(path), text, path if path.is_absolute() else None)
    handed = Handed(Given(files=dict(env.get("imports", {}))))
    off = [*env.get("off", []), "reuse"]
    wanted = env.get("experiments", [])
    compiled = compile_source(
        source,
        folder,
        params,
        off,
        trust,
        compile=str(env.get("compile", "never")),
        handed=handed,
        narrow=partial(selected, select=wanted) if wanted else None,
        limit=int(env.get("limit", 0)),
    )
    landed = land_run(compiled, store, params, ["reproduce", uuid])
    with Store(store).reading() as (con, _):
        done = compare(find_run(con, uuid), find_run(con, landed.run_uuid), top)
    return Reproduced(landed, done)
