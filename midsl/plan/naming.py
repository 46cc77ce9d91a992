"""Runs and rollouts as people call them, by the names of a spec."""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.ir.states import begins, step_of


def model_name(program: Program, model: ir.Node) -> str:
    """What a spec calls a model; for one with other weights, the model that has its own."""
    while isinstance(model, ir.Reweighted):
        model = model.model
    return next((name for name, n in program.models if n == model), "model")


def run_name(program: Program, run: ir.Forward) -> str:
    """Model on data, with the sites and weights that it edits; of a rollout of states, which step it is."""
    edits = _edits(tuple(e for e in run.edits if not begins(e)), run.model)
    step = step_of(run)
    return f"{_on(program, run.model, run.data)}{edits}{f', step {step}' if step else ''}"


def roll_name(program: Program, rollout: ir.Rollout) -> str:
    """As the run that it is, and how far it goes."""
    room = rollout.room.data
    return (
        f"{_on(program, rollout.model, room.part)}{_edits(rollout.edits, rollout.model)}, {room.steps} steps"
    )


def _on(program: Program, model: ir.Node, part: ir.Part) -> str:
    datas = {n.digest: name for name, n in program.datas}
    written = ""
    while isinstance(part.data, ir.Rollout):
        part, written = part.data.room.data.part, " written on"
    data = ".".join(x for x in (datas.get(part.data.digest, "data"), part.split, part.side) if x)
    return f"{model_name(program, model)} on {data}{written}"


def _edits(edits: tuple[ir.Node, ...], model: ir.Node) -> str:
    written = {e.site.name for e in edits if isinstance(e, ir.Edit)}
    while isinstance(model, ir.Reweighted):
        written |= {w.name for w in model.weights}
        model = model.model
    return f" do {{ {', '.join(sorted(written))} }}" if written else ""
