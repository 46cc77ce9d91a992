"""Names of nodes by template: ``"a{layer}.h{head}"`` with axes, or columns of a sweep, in braces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.sema.arguments import Args
from midsl.sema.values import TensorV

EDGE = "edge"
"""The axis of a set of edges (see ``midsl.sema.edgegates``)."""
_BRACES = re.compile(r"\{(\w+)\}")


def fields_of(template: str) -> list[str]:
    """What stands in braces, in order.

    >>> fields_of("a{layer}.h{head}")
    ['layer', 'head']
    """
    return list(dict.fromkeys(_BRACES.findall(template)))


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with something in the place of its braces; all else of it is text.

    >>> filled("a{layer}.h{head}{", {"layer": "0", "head": "11"})
    'a0.h11{'
    """
    return _BRACES.sub(lambda m: values[m.group(1)], template)


def pattern(template: str) -> re.Pattern[str]:
    """What a name that a template makes looks like.

    >>> pattern("a{layer}.h{head}").fullmatch("a0.h11").groupdict()
    {'layer': '0', 'head': '11'}
    """
    parts = _BRACES.split(template)
    seen: set[str] = set()
    text = ""
    for i, part in enumerate(parts):
        if i % 2 == 0:
            text += re.escape(part)
        elif part in seen:
            text += f"(?P={part})"
        else:
            seen.add(part)
            text += f"(?P<{part}>[^<>]+?)"
    return re.compile(text)


@dataclass(frozen=True)
class End:
    """One end of the entries of a tensor: the axes that tell its nodes apart, and their names.

    `names` has the name at each place along `axes`, row-major; None if a length is not known yet.
    """

    axes: tuple[Axis, ...]
    names: tuple[str, ...] | None

    @property
    def every(self) -> tuple[str, ...]:
        assert self.names is not None
        return self.names

    def moved(self, name: str, to: Axis) -> End:
        """The same with another axis in the place of one."""
        return replace(self, axes=tuple(to if a.name == name else a for a in self.axes))

    def along(self, axes: Sequence[Axis]) -> list[str]:
        """The names at each place along more axes, row-major."""
        sizes = [a.size or 0 for a in axes]
        found = []
        for at in product(*(range(n) for n in sizes)):
            here = {a.name: i for a, i in zip(axes, at, strict=True)}
            flat = 0
            for a in self.axes:
                flat = flat * (a.size or 0) + here[a.name]
            found.append(self.every[flat])
        return found


def end_of(w: TensorV, template: str, args: Args, param: str) -> End:
    """The nodes that a template names, of a tensor's axes and of the columns of its sweeps."""
    span = args.expr(param).span if param in args.given else args.expr("w").span
    columns: dict[str, tuple[Axis, tuple[str, ...] | None]] = {}
    for axis in w.type.axes:
        columns[str(axis)] = columns[axis.name] = (axis, _coordinates(axis))
        if axis.name == EDGE and axis.labels is not None:  # of a set of edges, by their names
            for side, end in enumerate(("src", "dst")):
                columns[end] = (axis, tuple(str(n).split("->")[side] for n in axis.labels))
    for sweep in ir.sweeps_of(w.node):
        known = sweep.domain.points if isinstance(sweep.domain, ir.Points) else None
        for i, c in enumerate(sweep.columns):
            ragged = len(sweep.axes) != len(sweep.columns)
            along = w.type.axis((sweep.axes[0] if ragged else sweep.axes[i]).name)
            if along is None or not (ragged or known):
                continue
            axis = along
            labels = None
            if known is not None:
                values = [p[i] for p in known] if ragged else list(dict.fromkeys(p[i] for p in known))
                labels = tuple(_text(v) for v in values)
                axis = replace(axis, size=len(values))
            columns[c] = (axis, labels)
    axes: list[Axis] = []
    found: list[tuple[str, int, tuple[str, ...] | None]] = []
    for name in fields_of(template):
        if name not in columns:
            have = [n for n in columns if "@" not in n]
            raise fail(
                "MI0302",
                f"there is no axis `{name}` to name nodes by",
                span,
                label=f"`{param}` is {template}",
                help=did_you_mean(name, have)
                or (
                    f"name some of {', '.join(have)}" if have else 'this is one number: `from: "a", to: "b"`'
                ),
            )
        axis, labels = columns[name]
        if axis.name in ("batch", "pos", "key_pos"):
            raise fail(
                "MI0301",
                f"`{name}` has another length in each row, and a graph has its nodes before anything runs",
                span,
                label="an axis of the data",
                help="take positions one by one: `[x[pos: p] for p in 0..4]` has an axis `p`",
            )
        if axis.name not in [a.name for a in axes]:
            axes.append(axis)
        found.append((name, [a.name for a in axes].index(axis.name), labels))
    if any(labels is None for _, _, labels in found):
        return End(tuple(axes), None)
    names = []
    for at in product(*(range(a.size or 0) for a in axes)):
        names.append(filled(template, {n: labels[at[i]] for n, i, labels in found if labels is not None}))
    return End(tuple(axes), tuple(names))


def _coordinates(axis: Axis) -> tuple[str, ...] | None:
    if axis.labels is not None:
        return tuple(map(_text, axis.labels))
    return None if axis.size is None else tuple(map(str, range(axis.size)))


def _text(value: ir.Scalar) -> str:
    return "" if value is None else str(value)
