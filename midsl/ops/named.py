"""Tensors whose axes have names, the only kind of value that operations see.

Values combine by axis name, so an operation never needs to know which other axes (examples, sweep
points, heads) happen to be along: that is what makes batching over them legal. Nothing here gives a
name a meaning; ``"@"`` (the executor's flat axis of sweep points) is a name like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class NT:
    """A tensor and the names of its axes, in order.

    >>> NT(torch.zeros(2, 3), ("batch", "pos")).size("pos")
    3
    """

    data: torch.Tensor
    axes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.axes)) != len(self.axes):
            raise ValueError(f"an axis is named twice: {self.axes}")
        if self.data.dim() != len(self.axes):
            raise ValueError(f"{self.data.dim()} dimensions, but axes {self.axes}")

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes by axis name, in order."""
        return dict(zip(self.axes, self.data.shape, strict=True))

    def size(self, axis: str) -> int:
        """Return the size of one axis."""
        return self.data.shape[self.dim(axis)]

    def dim(self, axis: str) -> int:
        """Return the position of one axis.

        Raises:
            ValueError: if there is no such axis.
        """
        if axis not in self.axes:
            raise ValueError(f"no axis {axis!r} among {self.axes}")
        return self.axes.index(axis)

    def permute_to(self, axes: Sequence[str]) -> NT:
        """Return the same values with the same axes in another order.

        Raises:
            ValueError: if the names are not the same names.
        """
        order = tuple(axes)
        if order == self.axes:
            return self
        if sorted(order) != sorted(self.axes):
            raise ValueError(f"axes {self.axes} cannot be put in the order {order}")
        return NT(self.data.permute([self.axes.index(a) for a in order]), order)

    def expand(self, sizes: Mapping[str, int]) -> NT:
        """Return a view with exactly the axes of `sizes`, in its order, repeated along those it lacks.

        Raises:
            ValueError: if an axis of this tensor is missing from `sizes`, or of another size.
        """
        for axis, size in self.sizes.items():
            if sizes.get(axis) != size:
                raise ValueError(f"axis {axis!r}: {size} against {sizes.get(axis)}")
        data = _spread(self, tuple(sizes))
        return NT(data.expand(tuple(sizes.values())), tuple(sizes))


def _spread(x: NT, axes: tuple[str, ...]) -> torch.Tensor:
    """The tensor with its axes in the order of `axes`, size 1 where it lacks one."""
    data = x.data.permute([x.axes.index(a) for a in axes if a in x.axes])
    for i, a in enumerate(axes):
        if a not in x.axes:
            data = data.unsqueeze(i)
    return data


def joint_sizes(*nts: NT) -> dict[str, int]:
    """Return the union of axes with sizes, in order of first appearance.

    Raises:
        ValueError: naming the axis whose sizes disagree.
    """
    sizes: dict[str, int] = {}
    for x in nts:
        for axis, size in x.sizes.items():
            if sizes.setdefault(axis, size) != size:
                raise ValueError(f"axis {axis!r}: {sizes[axis]} against {size}")
    return sizes


def align(*nts: NT) -> tuple[tuple[torch.Tensor, ...], tuple[str, ...]]:
    """Return tensors that broadcast against each other, and the union of their axes.

    An axis that a tensor lacks has size 1. Scalars stay of rank 0, where torch lets them take the
    precision of what they meet: a literal must not turn float32 into float64.

    Raises:
        ValueError: naming the axis whose sizes disagree.
    """
    axes = tuple(joint_sizes(*nts))
    return tuple(x.data if not x.axes else _spread(x, axes) for x in nts), axes


def as_axes(over: str | Sequence[str]) -> tuple[str, ...]:
    """Return the attribute `over` as a tuple: one axis name, or several."""
    return (over,) if isinstance(over, str) else tuple(over)
