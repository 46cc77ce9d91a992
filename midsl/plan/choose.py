"""Choosing the points of a computed sweep: the top of a score, or where a condition holds."""

from __future__ import annotations

import math
from itertools import product

import torch

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.plan.domains import is_dense
from midsl.plan.session import Session


def choose_points(session: Session, sweep: ir.Sweep) -> None:
    """Evaluate the score of a `Top` domain and record its points.

    Raises:
        MiError: MI0701 for a score that is no number, MI0402 where nothing is chosen (exit code 4).
    """
    assert isinstance(sweep.domain, ir.Top)
    score, k, first = sweep.domain.score, sweep.domain.k, len(sweep.domain.first)
    value = session.evaluator.grid(score).permute_to(sweep.domain.order)
    flat = value.data.reshape(-1)
    if k is None:
        chosen = flat.nonzero().reshape(-1).tolist()
        if not chosen:
            raise fail(
                "MI0402",
                f"`where` holds at no point of the sweep over `{', '.join(sweep.columns)}`",
                score.span,
                label=f"false at all {len(flat)} points",
                exit_code=4,
                help="loosen the condition, or leave it out",
            )
    else:
        flat = flat.to(torch.float64)
        if not bool(torch.isfinite(flat).all()):
            raise fail(
                "MI0701",
                "a score that is ranked is not a finite number",
                score.span,
                exit_code=4,
                help="guard what is ranked: `where(isfinite(x), x, 0.0)`",
            )
        groups = flat.reshape(math.prod(value.data.shape[:first]), -1)
        best = torch.sort(-groups, stable=True).indices[:, :k]
        chosen = (best + torch.arange(len(groups))[:, None] * groups.shape[1]).reshape(-1).tolist()
    places = list(product(*(_coords(session, score, a, n) for a, n in value.sizes.items())))
    points = tuple(tuple(c for part in places[i] for c in part) for i in chosen)
    session.evaluator.domains.points[sweep.digest] = points


def _coords(session: Session, score: ir.Node, name: str, size: int) -> list[tuple[ir.Scalar, ...]]:
    """What the indices along an axis stand for: of a ragged sweep all coordinates of each point."""
    axis = score.tensor_type.axis(name)
    assert axis is not None
    for sweep in ir.sweeps_of(score):
        if axis in sweep.axes and not is_dense(sweep):
            return list(session.evaluator.domains.points[sweep.digest])
    return [(x,) for x in (axis.labels if axis.labels is not None else range(size))]
