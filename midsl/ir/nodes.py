"""The typed logical IR: frozen nodes, equal when their content is equal.

A node's `digest` hashes its kind, its attributes and its children's digests; equality and hashing
go by digest, so a dict keyed by nodes *is* common-subexpression elimination. What must not take
part in identity (spans, names of bindings) is not in a node. The one exception is
`Forward.origin`, the occurrence of a `run` in the text, which pass `cse` erases.

Reading order: leaves, then sites and runs, then tensor expressions, then sweeps, then sinks.

Semantics in one paragraph: `Forward` runs a model over one data part with edits. `Read` is the value
of a site in a run, after the run's edits. Tensor nodes combine values by axis name. A `Sweep`
binds one point at a time of its domain; `Coord(sweep, i)` is the i-th coordinate of that point, so
any expression that mentions it has one value per point, and carries the sweep's axes in its type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from midsl.ir.base import Json as Json
from midsl.ir.base import Node as Node
from midsl.ir.base import Opaque as Opaque
from midsl.ir.base import Scalar as Scalar
from midsl.ir.base import encode
from midsl.ir.base import fold as fold
from midsl.ir.base import rewrite as rewrite
from midsl.ir.base import walk as walk
from midsl.ir.fits import Fit as Fit
from midsl.ir.fits import Param as Param
from midsl.ir.fits import Params as Params
from midsl.ir.fits import Seen as Seen
from midsl.ir.models import Model as Model
from midsl.ir.models import Reweighted as Reweighted
from midsl.ir.models import Train as Train
from midsl.ir.models import Weight as Weight
from midsl.ir.models import WeightEdit as WeightEdit
from midsl.ir.models import start_of as start_of
from midsl.ir.rollouts import Rollout as Rollout
from midsl.ir.rollouts import Room as Room
from midsl.ir.sinks import Expect as Expect
from midsl.ir.sinks import Plot as Plot
from midsl.ir.sinks import Report as Report
from midsl.ir.sinks import Save as Save
from midsl.ir.sinks import View as View
from midsl.ir.sweeps import Coord as Coord
from midsl.ir.sweeps import Family as Family
from midsl.ir.sweeps import Points as Points
from midsl.ir.sweeps import Sweep as Sweep
from midsl.ir.sweeps import Top as Top
from midsl.ir.sweeps import Union as Union
from midsl.ir.sweeps import points_of as points_of
from midsl.ir.types import BOOL, INT, SCALAR, Axis, TensorType

# ---------------------------------------------------------------- leaves


@dataclass(frozen=True, eq=False)
class Const(Node):
    """A literal: number, truth value, string, or a tuple of them (a list: one anonymous axis).

    The type follows from the value where it may: equal literals are one node wherever they stand.
    """

    value: Json

    def __post_init__(self) -> None:
        found = {bool: BOOL, int: INT, float: SCALAR}.get(type(self.value))
        if found is not None and not isinstance(self.type, TensorType):
            object.__setattr__(self, "type", found)


@dataclass(frozen=True, eq=False)
class Tokenizer(Node):
    """The tokenizer of a model."""

    model: Node


@dataclass(frozen=True, eq=False)
class Data(Node):
    """A data set by recipe, as `Model`."""

    ref: str
    args: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class Extern(Node):
    """Anything else that trusted Python builds from literals (a tokenizer), by recipe, as `Model`."""

    ref: str
    args: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class Part(Node):
    """What a run runs on: one side (`clean`, `corrupt`, or "" if there is one) of one split ("" = all).

    `where` (Bool[batch], of the same rows without it) says which rows count, and `chosen` is its name: passes
    may write a condition otherwise, and it chooses the same rows.
    """

    data: Node
    side: str = ""
    split: str = ""
    where: Node | None = None
    chosen: str = ""

    @property
    def owner(self) -> str:
        """What the part's `pos` belongs to, and its `batch`, unless it is made of another part's rows."""
        name = self.data.name if isinstance(self.data, (Room, Rollout)) else self.data.digest
        return f"{name}/{self.split}" + (f"/{self.chosen}" if self.chosen else "")

    @property
    def rows(self) -> Part:
        """The part that its `batch` is of: of rows written on, that of the prompts."""
        if isinstance(self.data, Room):
            return self.data.part.rows  # type: ignore[no-any-return]
        return self.data.room.rows if isinstance(self.data, Rollout) else self


@dataclass(frozen=True, eq=False)
class Column(Node):
    """A column of a part: tokens, positions, spans, labels or numbers, one per row.

    ``name == "tokens"`` is the token at each [batch, pos].
    """

    part: Node
    name: str


@dataclass(frozen=True, eq=False)
class Member(Node):
    """Which rows a column gives a label: Bool[batch]; without `label` of each label: Bool[batch, group].

    The labels of the axis `group` are all that the column has, on any side of the data.
    """

    column: Column
    label: Scalar = None


# ---------------------------------------------------------------- sites, edits, runs


@dataclass(frozen=True, eq=False)
class Whole(Node):
    """Selects all of an axis, which stays an axis of the value."""


@dataclass(frozen=True, eq=False)
class Star(Node):
    """``*``: all of an axis, as members of a family."""


@dataclass(frozen=True, eq=False)
class Slice(Node):
    """``lo..hi by step`` with literal ends; negative ends count from the end of the row; hi excluded.

    On `pos` the ends are per example (a row of 5 real tokens has ``..-1`` = 0..4).
    """

    lo: int | None
    hi: int | None
    step: int = 1


@dataclass(frozen=True, eq=False)
class Site(Node):
    """A place in a model: a named activation and a selection along some of its axes.

    Attributes:
        model: the model.
        name: the site's name without its block: ``attn.z``, ``resid_post``, ``embed``, ``logits``.
        select: pairs (axis name, index) in canonical order, for the axes that are selected; for a
            site inside blocks the first is always ``layer``. An index is `Const` (an int, or a tuple
            of ints: selects jointly and the axis stays), `Slice`, `Star`, `Column` (a Pos or Span or
            Token column of the run's part) or `Coord`.
        minus: sites whose members are left out of a starred family (`except(family, set)`): a member
            goes if some `minus` site has the same name and equal indices wherever both name one.

    The value of a site has axes: the `Star`red ones in order, then `batch`, then the site's own axes
    that are not selected by a single index.
    """

    model: Node
    name: str
    select: tuple[tuple[str, Node], ...] = ()
    minus: tuple[Site, ...] = ()

    def index(self, axis: str) -> Node | None:
        """The index that selects along an axis, or None where the axis is whole."""
        return dict(self.select).get(axis)


@dataclass(frozen=True, eq=False)
class Self(Node):
    """The value that arrives at the edited site, upstream edits included; same type as the site.

    Its axes are part of its identity: what edits at places of unlike axes make of it are not one node.
    """

    def _content(self) -> list[str]:
        axes = self.type.axes if isinstance(self.type, TensorType) else ()
        return [encode(axes)]


@dataclass(frozen=True, eq=False)
class Edit(Node):
    """``site := value``. `absolute` is false when the value mentions `Self`.

    `value` broadcasts to the site by axis name. Of several edits at one address the absolute one
    applies first, then those with `Self` in the order of the run's `edits`.
    """

    site: Site
    value: Node
    absolute: bool = True


@dataclass(frozen=True, eq=False)
class Forward(Node):
    """A run of `model` on `data` with `edits`; `origin` numbers its occurrence in the text (cse: 0)."""

    model: Node
    data: Part
    edits: tuple[Edit, ...] = ()
    origin: int = 0


@dataclass(frozen=True, eq=False)
class Read(Node):
    """The value of a site in a run, after all its edits."""

    run: Forward
    site: Site


@dataclass(frozen=True, eq=False)
class Grad(Node):
    """The gradient of a scalar (per sweep point) with respect to the post-edit value of a site in a run.

    `scalar` may have axes: one gradient for each of its entries, which share the forward pass. `batch` is
    the rows' own: each row's gradient of its own entry, where rows do not meet in the scalar. Right-hand
    sides of edits are constants unless `through`; `rules` are (part, rule) pairs of ``midsl.ir.backward``.
    The type is that of ``Read(run, site)`` with the axes of the scalar.
    """

    scalar: Node
    run: Forward
    site: Site
    rules: tuple[tuple[str, str], ...] = ()
    through: bool = False

    @property
    def entries(self) -> tuple[Axis, ...]:
        """The axes of the scalar that one pass back cannot serve together: not `batch`, and not swept."""
        swept = {(a.name, a.owner) for s in sweeps_of(self.scalar) for a in s.axes}
        axes = self.scalar.tensor_type.axes
        return tuple(a for a in axes if a.name != "batch" and (a.name, a.owner) not in swept)

    @property
    def values(self) -> tuple[Node, ...]:
        """The expressions that it is of."""
        return (self.scalar,)


@dataclass(frozen=True, eq=False)
class Jvp(Grad):
    """What a small step along a direction changes: the gradient of each entry of `scalar`, times `along`.

    `along` broadcasts to the site. Axes that it has and the site has not are directions beside each other:
    one forward pass carries all of them, each with the changes that it makes. The type has the axes of
    `scalar`, and those.
    """

    along: Node = field(kw_only=True)
    seen: Read = field(kw_only=True)
    """The site as it is read."""

    @property
    def values(self) -> tuple[Node, ...]:
        """What changes, and the direction."""
        return (self.scalar, self.along)

    @property
    def directions(self) -> tuple[Axis, ...]:
        """The axes of `along` that are not the site's, nor swept."""
        taken = {(a.name, a.owner) for a in self.scalar.tensor_type.axes}
        taken |= {(a.name, a.owner) for s in sweeps_of(self) for a in s.axes}
        return tuple(a for a in self.tensor_type.axes if (a.name, a.owner) not in taken)


@dataclass(frozen=True, eq=False)
class Given(Node):
    """In the map of a `Pullback`: its argument."""


@dataclass(frozen=True, eq=False)
class Pullback(Node):
    """A gradient carried back through a map: the product of its Jacobian at `at` (transposed) with `by`.

    `of` is the map, as an expression of a `Given`; `at` has the axes of that, `by` those of `of`. What either
    has besides is mapped over: the map is one of each row, position and point. The result has the axes of
    `at`, and those that only `by` has.
    """

    of: Node
    at: Node
    by: Node

    @property
    def over(self) -> frozenset[str]:
        """The axes that the map's result has, and its argument has not."""
        swept = {a.name for s in sweeps_of(self.of) for a in s.axes}
        return frozenset(self.of.tensor_type.names) - set(self.at.tensor_type.names) - swept


# ---------------------------------------------------------------- tensor expressions


@dataclass(frozen=True, eq=False)
class Apply(Node):
    """An operation of ``midsl.ops`` over its arguments; axes combine by name.

    `lay_out` and `spread` go over axes of sweeps as reductions do, and bind them.

    `op` is the operation's registered name, `attrs` its static arguments (axis names, numbers).
    """

    op: str
    args: tuple[Node, ...]
    attrs: tuple[tuple[str, Json], ...] = ()

    @property
    def over(self) -> tuple[str, ...]:
        """The axes that it goes along."""
        names = dict(self.attrs).get("over", ())
        return names if isinstance(names, tuple) else (names,)  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Reduce(Node):
    """`op` in mean sum max min count any all std var, over `axes`; padding never counts.

    `axes` may be the argument's own axes or axes of a sweep it depends on. `where` is a Bool that
    keeps elements (same lifting).
    """

    op: str
    arg: Node
    axes: tuple[Axis, ...]
    where: Node | None = None


@dataclass(frozen=True, eq=False)
class Select(Node):
    """Index one axis: by `Const` int (axis goes; a label where the axis has labels), tuple or `Slice`
    (axis stays), `Column` (one index per row: axis goes; a Span column: axis stays), or `Coord`."""

    arg: Node
    axis: Axis
    index: Node


@dataclass(frozen=True, eq=False)
class Draw(Node):
    """Random numbers: a function of seed, stream and the coordinates along `axes`, and of nothing else.

    Attributes:
        kind: "normal", "uniform" (on [0, 1)), or "permutation" of the rows: which row goes to each place.
        seed: a `Const`, or the `Coord` of a sweep over seeds.
        stream: which of the draws of a seed this is.
        axes: those that draws differ along; a batch counts by the numbers of its examples.
        labels: of each axis its coordinates, where they are not 0, 1, ...
        part: the data that `batch` and `pos` belong to.
        within: a column of it; a permutation keeps to rows that are equal in it.
    """

    kind: str
    seed: Node
    stream: str
    axes: tuple[Axis, ...]
    labels: tuple[Json, ...] = ()
    part: Node | None = None
    within: Node | None = None


# ---------------------------------------------------------------- what an expression depends on


_SWEEPS: dict[str, tuple[Sweep, ...]] = {}


def sweeps_of(node: Node) -> tuple[Sweep, ...]:
    """The sweep variables a node depends on, in order of first use; reductions over them bind them."""
    return fold(node, _SWEEPS, _sweeps_of)


def _sweeps_of(node: Node) -> tuple[Sweep, ...]:
    found: dict[str, Sweep] = {}
    if isinstance(node, Coord):
        found[node.sweep.digest] = node.sweep
    elif not isinstance(node, Sweep):  # a computed domain's own dependencies are not the variable's
        for child in node.children:
            for s in _SWEEPS[child.digest]:
                found[s.digest] = s
    if isinstance(node, Union):
        bound = {k.digest for k in node.kinds}
        found = {d: s for d, s in {node.sweep.digest: node.sweep, **found}.items() if d not in bound}
    elif isinstance(node, Reduce):
        gone = {(a.name, a.owner) for a in node.axes}
        found = {d: s for d, s in found.items() if not all((a.name, a.owner) in gone for a in s.axes)}
    elif isinstance(node, Apply) and node.op == "lay_out":
        found = {d: s for d, s in found.items() if not all(a.name in node.over for a in s.axes)}
    elif isinstance(node, Apply) and node.op == "spread":
        left = {(a.name, a.owner) for a in node.tensor_type.axes}
        found = {d: s for d, s in found.items() if any((a.name, a.owner) in left for a in s.axes)}
    return tuple(found.values())


def sweeps_below(node: Node) -> tuple[Sweep, ...]:
    """Every sweep anywhere under a node, bound or free."""
    return tuple(n for n in walk(node) if isinstance(n, Sweep))
