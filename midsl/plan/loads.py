"""What a plan begins with: models that are loaded or trained, decompositions that are fitted."""

from __future__ import annotations

from collections.abc import Sequence

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.plan.naming import model_name
from midsl.plan.steps import FitStep, LoadStep, Step, TrainStep


def fits_of(*roots: ir.Node) -> list[ir.Fit]:
    """The fits that expressions need, those that others are made of first."""
    found: dict[str, ir.Fit] = {}

    def go(*nodes: ir.Node) -> None:
        for n in ir.walk(*nodes):
            if isinstance(n, ir.Fit) and n.digest not in found:
                go(n.loss, *n.reads)
                found[n.digest] = n

    go(*roots)
    return list(found.values())


def loads(program: Program, models: Sequence[ir.Node]) -> list[Step]:
    """Models in the order in which runs need them, then fits with the models of their losses."""
    found: dict[str, Step] = {}

    def need(model: ir.Node) -> None:
        while isinstance(model, ir.Reweighted):
            model = model.model
        if model.digest in found:
            return
        name = model_name(program, model)
        if isinstance(model, ir.Train):
            found[model.digest] = TrainStep(model, name)
        else:
            found[model.digest] = LoadStep(model, name)

    for model in models:
        need(model)
    fits = {n.digest: name for name, n in program.fits}
    asked = [n for x in program.experiments for n in x.roots]
    for fit in fits_of(*asked):
        for n in ir.walk(fit.loss, *fit.reads):
            if isinstance(n, ir.Forward):
                need(n.model)
        found[fit.digest] = FitStep(fit, fits.get(fit.digest, "decomposition"))
    return list(found.values())
