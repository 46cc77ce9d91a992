"""Where a run is differentiated: what stands in its graph behind the values that derivatives are taken at.

A `Leaf` makes gradients stop at a value, so that they can be asked for there. A `Pushed` adds nothing to it,
but that nothing changes along a direction (see ``midsl.plan.directions``).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from midsl.plan.keys import Key


class Leaf:
    """Something that gradients are taken with respect to."""

    __name__ = "leaf"
    leaf = per_lane = True  # lanes must not share what they differ by

    def __call__(self, x: Tensor) -> Tensor:
        """The value, known to autograd."""
        if x.is_meta or x.requires_grad:
            return x
        return x.detach().requires_grad_(True)


@dataclass(eq=False)
class Pushed:
    """A value and what it changes by: zeros, of which tangents are known while directions are pushed on."""

    key: Key
    by: Tensor | None = None
    __name__: str = "pushed"
    leaf: bool = True
    per_lane: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """The value itself, where nothing is pushed."""
        return x if self.by is None else x + self.by.to(x.dtype).reshape(x.shape)
