"""Axes of written types: which axis of a value each name stands for, and what becomes of the others.

One law, the same as for operations: a type names axes, and what it stands on is lifted over those that it
does not name. An argument may have more axes than its parameter names; a result then has those of the
arguments, too. A binding has the axes that its type names, and those of the sweeps around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from midsl.diagnostics.suggest import did_you_mean
from midsl.ir.types import Axis
from midsl.sema.typenames import written
from midsl.sema.values import ConstV
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.scope import Scope


class Mismatch(Exception):
    """Why a value is not of a type; `of_kind` where it is another thing altogether."""

    def __init__(self, why: str, help: str = "", of_kind: bool = False) -> None:
        super().__init__(why)
        self.why, self.help, self.of_kind = why, help, of_kind


@dataclass
class Signature:
    """What the written types of one call, or of one binding, agree on.

    Attributes:
        scope: where aliases and named sizes are looked up.
        variables: names that stand for whatever axis an argument has there.
        axes: what a name stands for so far.
        sizes: lengths that were given a name (``d=n``), so far.
        lifted: axes beyond those that are written, which arguments brought.
        is_open: whether values may bring more axes.
        sure: whether a value without a unit has none; a stand-in of a parameter may have any.
        calls: the calls that are being worked out, the innermost last.
    """

    scope: Scope
    variables: tuple[str, ...] = ()
    axes: dict[str, Axis] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    lifted: list[Axis] = field(default_factory=list)
    is_open: bool = False
    sure: bool = True
    calls: Sequence[Span] = ()

    def later(self, lifted: Sequence[Axis], is_open: bool) -> Signature:
        """The same for a value that is made later: what it agrees on it agrees on by itself."""
        more = [*self.lifted, *lifted]
        return replace(self, axes=dict(self.axes), sizes=dict(self.sizes), lifted=more, is_open=is_open)


def agree(t: ast.TypeRef, found: Sequence[Axis], s: Signature, swept: Sequence[Axis] = ()) -> None:
    """Each written axis is there, and no more than may be."""
    left = list(found)
    wanted = [a for a in t.axes if not a.rest]
    for a in wanted:
        if a.name not in s.variables or a.name in s.axes:
            take(a, left, s)
    free = [a for a in wanted if a.name in s.variables and a.name not in s.axes]
    own = [a for a in left if not any(a.same_as(x) for x in swept)]
    own = left if s.is_open and len(own) < len(free) else own  # a sweep's only where it has no other
    if len(own) < len(free):
        raise Mismatch(f"there is no axis for `{free[0].name}`", "give it a value with more axes")
    for a, axis in zip(free, own[len(own) - len(free) :], strict=True):
        s.axes[a.name] = axis
        left.remove(axis)
        length(a, axis, s)
    if s.is_open or any(a.rest for a in t.axes):
        s.lifted += [a for a in left if a not in s.lifted]
        return
    extra = [a for a in left if not any(_is(a, x) for x in (*swept, *s.lifted))]
    if extra:
        names = [str(a) for a in extra]
        more = (*t.axes, *(ast.AxisRef(n) for n in names))
        raise Mismatch(
            f"it also has {listed(names)}",
            f"reduce it (`mean(x, over: {_over(names)})`), select along it, or write "
            f"`{written(replace(t, axes=more, columns=()))}`",
        )


def _is(axis: Axis, brought: Axis) -> bool:
    """Whether an axis is one that was brought; a site names axes of the data before it has any."""
    return axis.same_as(brought) or (not brought.owner and brought.name == axis.name)


def take(a: ast.AxisRef, left: list[Axis], s: Signature) -> None:
    """Find a written axis among those that are left, and take it out."""
    known = s.axes.get(a.name)
    name = known.name if known is not None else a.name
    axis = next((x for x in left if x.name == name), None) or next((x for x in left if str(x) == name), None)
    if axis is None:
        names = [str(x) for x in left]
        stands = f" (`{a.name}`)" if name != a.name else ""
        raise Mismatch(f"it has no axis `{name}`{stands}", did_you_mean(a.name, names))
    if known is not None and known.owner and axis.owner and known.owner != axis.owner:
        where = f"{known.owner[:8]} before, and of {axis.owner[:8]} here"
        raise Mismatch(
            f"its `{name}` is another one: of {where}",
            "take both from one model and one data set, or name their axes apart with axis variables",
        )
    s.axes[a.name] = axis
    left.remove(axis)
    length(a, axis, s)


def length(a: ast.AxisRef, axis: Axis, s: Signature) -> None:
    """``d=16`` is a length; ``d=n`` that of a parameter, or whatever `n` was before."""
    if a.size is None or axis.size is None:
        return
    wanted, said = a.size, f"{a.size}"
    if isinstance(wanted, str):
        bound = s.scope.find(wanted)
        if isinstance(bound, ConstV) and type(bound.value) is int:
            wanted = bound.value
        else:
            wanted = s.sizes.setdefault(wanted, axis.size)
        said = f"`{a.size}`, which is {wanted}"
    if wanted != axis.size:
        help = f"write `{a.name}={axis.size}`, or leave the length out"
        raise Mismatch(f"its `{axis}` is {axis.size} long, not {said}", help)


def listed(names: Sequence[str]) -> str:
    """Axes as a sentence has them."""
    several = len(names) > 1
    return f"the ax{'es' if several else 'is'} {', '.join(f'`{n}`' for n in names)}"


def _over(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"
