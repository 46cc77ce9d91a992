"""Choosing the points of a computed sweep: the top of a score, ties to the lowest coordinates."""

from __future__ import annotations

from itertools import product

import torch

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.plan.session import Session


def choose_points(session: Session, sweep: ir.Sweep) -> None:
    """Evaluate the score of a `Top` domain and record its points, highest first."""
    assert isinstance(sweep.domain, ir.Top)
    score = sweep.domain.score
    value = session.evaluator.grid(score).permute_to(score.tensor_type.names)
    flat = value.data.reshape(-1).to(torch.float64)
    if not bool(torch.isfinite(flat).all()):
        raise fail("MI0701", "a score that is ranked is not a finite number", score.span, exit_code=4)
    order = torch.sort(-flat, stable=True).indices[: sweep.domain.k].tolist()
    ranges = []
    for axis, size in zip(score.tensor_type.axes, value.data.shape, strict=True):
        ranges.append(tuple(axis.labels) if axis.labels is not None else tuple(range(size)))
    places = list(product(*ranges))
    session.evaluator.domains.points[sweep.digest] = tuple(places[i] for i in order)
