"""Where units are largest, in the oracle: what the operation says, or the plan's choice where it is as good.

Two places may be equal but for rounding, and which of them a plan finds first depends on the shapes that it
computes in. So a choice that is given is looked at, place by place, and taken if no better one was left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.crossing import pass_of
from midsl.ops.contexts import axes_of, found_at, laid_out
from midsl.ops.named import NT
from midsl.ops.registry import apply_op
from midsl.oracle.sites import Point

if TYPE_CHECKING:
    from midsl.oracle.interp import Oracle


def found(o: Oracle, node: ir.Apply, x: NT, mask: NT | None, point: Point) -> NT:
    """What a pass over the rows tells; the choice that was made, if one is given, and it is right.

    Raises:
        MiError: MI0704 if places were chosen that are not the best, within the oracle's tolerance.
    """
    attrs = dict(node.attrs)
    given = o.chosen.get(pass_of(node))
    if given is None:
        return apply_op("contexts", [x], attrs, mask)
    data, real, rest, length = laid_out(x, mask)
    k, window, above = int(attrs["k"]), int(attrs["window"]), float(attrs["above"])  # type: ignore[arg-type]
    at = given(point).permute_to((*rest, "rank")).data
    slack = o.domains.tolerance * float(data.abs().amax()) if data.numel() else 0.0
    flat = zip(*(t.reshape(-1, t.shape[-1]).numpy() for t in (data, real, at)), strict=True)
    for values, counts, places in flat:
        if not _best(values, counts, places[places >= 0], k, above, slack):
            raise fail("MI0704", "the plan's choice is not where the value is largest", node.span)
    whole = found_at(at, data, real, length, window, above)
    gives, start = str(attrs["gives"]), int(attrs["start"])  # type: ignore[arg-type]
    return NT(whole.give(gives, length, start), (*rest, *axes_of(gives)))


def _best(x: np.ndarray, real: np.ndarray, at: np.ndarray, k: int, above: float, slack: float) -> bool:
    """Whether places are different ones that count, in order, and none that is greater was left out."""
    if len(set(at.tolist())) < len(at) or not real[at].all():
        return False
    left = real.copy()
    left[at] = False
    mine, others = x[at], x[left]
    enough = others.max(initial=-np.inf)
    return bool(
        np.all(mine > above - slack)
        and np.all(mine[:-1] >= mine[1:] - slack)
        and enough <= (mine[-1] if len(at) == k else above) + slack
    )
