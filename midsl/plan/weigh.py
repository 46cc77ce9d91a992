"""Putting the weights that a run writes into its model, once what they are made of is there."""

from __future__ import annotations

import torch

from midsl.diagnostics.model import fail
from midsl.graph.reweigh import put
from midsl.graph.sites import ModelGraph
from midsl.plan.session import Session
from midsl.plan.steps import WeighStep


def weigh(session: Session, step: WeighStep) -> None:
    """Work out the weights and write them, in the model's own precision.

    Raises:
        MiError: MI0701 (exit code 4) for a weight that is no finite number.
    """
    engine = session.bound.engine(step.model)
    assert isinstance(engine, ModelGraph)
    for w in step.model.weights:
        old = engine.weight(w.name, w.layer)
        value = session.evaluator.grid(w.value)
        new = value.expand(dict(zip(w.axes, old.shape, strict=True))).data
        if not bool(torch.isfinite(new).all()):
            raise fail(
                "MI0701",
                f"what is written to `{w.name}` is not a finite number",
                w.value.span,
                exit_code=4,
                help="guard it: `where(isfinite(x), x, 0.0)`",
            )
        put(engine, w.name, w.layer, new)
