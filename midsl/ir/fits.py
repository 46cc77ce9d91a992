"""Parameters that a spec does not write out: drawn from a seed, or fitted. Both are inputs to runs.

A fit's expressions mention the parameters as they are drawn; whoever uses the fitted ones has `Param`s of
the `Fit` in their place. What happens inside a fit is no part of the program around it, so that no pass
changes it and its cached result stays valid.
"""

from __future__ import annotations

from dataclasses import dataclass

from midsl.ir.base import Json, Node, Opaque


@dataclass(frozen=True, eq=False)
class Params(Node):
    """Tensors drawn from a seed.

    Attributes:
        drawn: for each tensor its name, how it is drawn, its axes as (name, size) pairs, and settings as
            (name, value) pairs: ``("dec", "normal", (("feature", 64), ("d", 16)), (("unit", "d"),))``.
        seed: the seed of them all.
    """

    drawn: tuple[Json, ...]
    seed: int


@dataclass(frozen=True, eq=False)
class Fit(Opaque):
    """Parameters that make a loss small.

    Attributes:
        params: what they start from.
        loss: a scalar expression in ``Param(params, ..)``. With `reads` it speaks of `Seen` values, some
            positions of the data at a time; without, of runs, some rows of their data at a time.
        reads: sites of runs on one data part.
        options: optimiser and its settings, steps, batch, seed.
    """

    params: Params
    loss: Node
    reads: tuple[Node, ...]
    options: tuple[tuple[str, Json], ...]


@dataclass(frozen=True, eq=False)
class Seen(Node):
    """In a fit's loss: what its `index`-th read holds at the positions at hand, [batch, ..]."""

    index: int


@dataclass(frozen=True, eq=False)
class Param(Node):
    """One tensor of `Params`, or of a `Fit`."""

    of: Node
    name: str
