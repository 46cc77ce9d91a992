"""Where a written value is what stands there already: told of expressions, and of inputs that are the same.

Put the run without edits in the place of all other runs that a value reads: if the value is then `self`, it
is `self` at every row up to which the inputs are the same, for models that do not look ahead. Sums are
compared term by term; what goes across rows, or is no sum, product or read, is not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from midsl.ir import nodes as ir
from midsl.ir.crossing import crosses_rows
from midsl.ir.types import TensorType


@dataclass(frozen=True)
class Others:
    """What must be the same as in a base run for a written value to be the base run's own.

    Attributes:
        parts: other inputs, up to the position.
        places: columns of positions, by row.
    """

    parts: frozenset[ir.Part] = frozenset()
    places: frozenset[tuple[ir.Column, ir.Column]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.parts or self.places)

    def __or__(self, other: Others) -> Others:
        return Others(self.parts | other.parts, self.places | other.places)


def others_of(edit: ir.Edit, base: ir.Forward) -> Others | None:
    """The other inputs that a written value comes of, if it is the base run's own where those are the same.

    None where that is not known.
    """
    if base.edits:
        return None
    found = _Alike(base).written(edit)
    return None if found is None else replace(found, parts=found.parts - {base.data})


@dataclass
class _Alike:
    """What is the same in other runs as in a run without edits, where their inputs are the same."""

    base: ir.Forward
    runs: dict[str, Others | None] = field(default_factory=dict)

    def run(self, run: ir.Forward) -> Others | None:
        """The inputs that a run comes of, those of its edits too; None if it may differ anyway."""
        if run.digest not in self.runs:
            own = Others(frozenset({run.data})) if run.model == self.base.model else None
            self.runs[run.digest] = _all([own, *map(self.written, run.edits)])
        return self.runs[run.digest]

    def written(self, edit: ir.Edit) -> Others | None:
        """The inputs that what is written comes of; None if it may be other than what stands there."""
        value, site = edit.value, edit.site
        if isinstance(value, ir.Read):
            return _all([_places(value.site, site), self.run(value.run)])
        inside = _inside(value)
        if not all(map(_by_row, inside)) or not _leaves(self._here(value, {}), site):
            return None
        return _all([self.run(n.run) for n in inside if isinstance(n, ir.Read)])

    def _here(self, node: ir.Node, memo: dict[str, ir.Node]) -> ir.Node:
        """A value with the base run in the place of all others."""
        if isinstance(node, ir.Read):
            return ir.Read(self.base, node.site, type=node.type, span=node.span)
        if node.digest not in memo:
            memo[node.digest] = node.map_children(lambda c: self._here(c, memo))
        return memo[node.digest]


def _all(found: Sequence[Others | None]) -> Others | None:
    """All together; None if one is not known."""
    together = Others()
    for one in found:
        if one is None:
            return None
        together |= one
    return together


def _places(of: ir.Site, at: ir.Site) -> Others | None:
    """What must be the same for two sites to be one place; None if they are not."""
    mine, theirs = at.index("pos"), of.index("pos")
    if isinstance(mine, ir.Column) and isinstance(theirs, ir.Column) and mine.name == theirs.name:
        single = isinstance(mine.type, TensorType) and isinstance(theirs.type, TensorType)
        rest = [tuple(x for x in s.select if x[0] != "pos") for s in (of, at)]
        if single and mine != theirs and of.name == at.name and rest[0] == rest[1]:
            return Others(places=frozenset({(mine, theirs)}))
    return Others() if (of.name, of.select) == (at.name, at.select) else None


def _inside(value: ir.Node) -> list[ir.Node]:
    """The nodes of a value, each once; not those of the runs that it reads."""
    found: dict[str, ir.Node] = {}
    stack = [value]
    while stack:
        node = stack.pop()
        if node.digest in found:
            continue
        found[node.digest] = node
        if not isinstance(node, (ir.Read, ir.Coord)):
            stack.extend(node.children)
    return list(found.values())


def _by_row(node: ir.Node) -> bool:
    """Whether a value at a row is made of its parts at that row alone."""
    if isinstance(node, ir.Read):
        return node.site.index("pos") is None and "key_pos" not in node.tensor_type.names
    known = (ir.Apply, ir.Reduce, ir.Select, ir.Self, ir.Const, ir.Coord, ir.Weight, ir.Param)
    return isinstance(node, known) and not crosses_rows(node)


def _leaves(value: ir.Node, site: ir.Site) -> bool:
    """Whether a value is what stands at a site: `self`, or the base run's, and what adds nothing."""
    left = _terms_left(value)
    if len(left) != 1:
        return False
    ((node, times),) = left
    here = isinstance(node, ir.Read) and (node.site.name, node.site.select) == (site.name, site.select)
    return times == 1 and (here or isinstance(node, ir.Self))


def _nothing(node: ir.Node) -> bool:
    """Whether a value is zero whatever it is made of."""
    if isinstance(node, ir.Apply) and node.op in ("add", "sub", "neg"):
        return not _terms_left(node)
    if isinstance(node, ir.Apply):
        some = any if node.op in ("mul", "dot") else all
        return node.op in ("mul", "dot", "rename") and some(map(_nothing, node.args))
    if isinstance(node, ir.Reduce):
        return node.op == "sum" and _nothing(node.arg)  # the mean of no element is not zero
    return isinstance(node, ir.Select) and _nothing(node.arg)


def _terms_left(value: ir.Node) -> list[tuple[ir.Node, int]]:
    """The terms of a sum that do not cancel and may be other than zero, and how often each counts."""
    times: Counter[ir.Node] = Counter()
    stack = [(value, 1)]
    while stack:
        node, sign = stack.pop()
        if isinstance(node, ir.Apply) and node.op in ("add", "sub", "neg"):
            last = -sign if node.op != "add" else sign
            stack += [(node.args[-1], last), *((a, sign) for a in node.args[:-1])]
        else:
            times[node] += sign
    return [(node, n) for node, n in times.items() if n and not _nothing(node)]
