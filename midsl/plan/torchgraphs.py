"""``explain --torch``: the functions that segments are compiled to, and why some runs have none."""

from __future__ import annotations

from typing import Any

from midsl.plan.compiling import Class, classes_of, worth
from midsl.plan.driver import Compiled
from midsl.plan.explain import Shapes
from midsl.plan.rowed import Rowed
from midsl.plan.session import Session


def torch_graphs(compiled: Compiled) -> dict[str, Any]:
    """The classes of segments of a plan, and the runs that go uncompiled, with the reason."""
    session = Session(compiled.plan, Shapes(compiled.binder), compiled.optimised.program.roots)
    apart: list[dict[str, str]] = []
    runs: list[Rowed] = []
    for step in compiled.plan.runs:
        why = ""
        if not session.known(step):
            why = "its rows are known only while the plan runs"
        elif session.idle(step):
            continue
        else:
            lowered = session.prepare(step).lowered
            if isinstance(lowered, Rowed):
                runs.append(lowered)
                continue
            why = "gradients are taken in it" if step.grads else "it goes by whole rows"
        apart.append({"run": step.name, "why": why})
    mode = compiled.compile_mode
    found = classes_of(runs) if mode != "never" or compiled.optimised.schedule.compile else {}
    paying = worth(found)
    return {
        "mode": mode,
        "functions": [_told(key, c, mode, key in paying) for key, c in found.items()],
        "uncompiled": apart,
    }


def _told(key: str, c: Class, mode: str, pays: bool) -> dict[str, Any]:
    taken = mode == "always" or (mode == "auto" and pays)
    if mode != "auto":
        why = f"--compile {mode}"
    elif pays:
        why = f"saves about {c.seconds:.1f} s, costs about {c.cost:.1f} s"
    else:
        why = f"would save about {c.seconds:.2g} s, and compiling costs about {c.cost:.1f} s"
    return {
        "key": key,
        "compiled": taken,
        "why": why,
        "segments": c.members,
        "rows": c.rows,
        "inputs": len(c.segment.inputs),
        "outputs": len(c.segment.outputs),
        "dynamic": "the number of rows",
        "breaks": 0,  # compiled with fullgraph: a break is an error
        "kept": c.before,
        "operations": c.segment.text,
    }


def torch_text(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"--compile {found['mode']}: {len(found['functions'])} functions"]
    for f in found["functions"]:
        state = "compiled" if f["compiled"] else "not compiled"
        lines.append(
            f"{f['key']}  {f['segments']} segments, {f['rows']:,} rows, {f['inputs']} inputs, "
            f"{f['outputs']} outputs, no graph breaks; {state}: {f['why']}"
        )
        lines += [f"    {op}" for op in f["operations"]]
    lines += [f"uncompiled  {a['run']}: {a['why']}" for a in found["uncompiled"]]
    return "\n".join(lines)
