"""Runs and rollouts as people call them, by the names of a spec."""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.ir.states import begins, step_of


def run_name(program: Program, run: ir.Forward) -> str:
    """Model on data, with the sites that it edits; of a rollout of states, which step it is."""
    edits = tuple(e for e in run.edits if not begins(e))
    step = step_of(run)
    return f"{_on(program, run.model, run.data)}{_edits(edits)}{f', step {step}' if step else ''}"


def roll_name(program: Program, rollout: ir.Rollout) -> str:
    """As the run that it is, and how far it goes."""
    room = rollout.room.data
    return f"{_on(program, rollout.model, room.part)}{_edits(rollout.edits)}, {room.steps} steps"


def _on(program: Program, model: ir.Node, part: ir.Part) -> str:
    models = {n.digest: name for name, n in program.models}
    datas = {n.digest: name for name, n in program.datas}
    written = ""
    while isinstance(part.data, ir.Rollout):
        part, written = part.data.room.data.part, " written on"
    data = ".".join(x for x in (datas.get(part.data.digest, "data"), part.split, part.side) if x)
    return f"{models.get(model.digest, 'model')} on {data}{written}"


def _edits(edits: tuple[ir.Node, ...]) -> str:
    sites = sorted({e.site.name for e in edits if isinstance(e, ir.Edit)})
    return f" do {{ {', '.join(sites)} }}" if sites else ""
