"""What names stand for while a spec is elaborated.

Elaboration is evaluation at compile time: functions, records, models, sites and runs are values of
the elaborator and disappear; what is left is IR. Each class here is one kind of such value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from midsl.graph.info import SiteRow
from midsl.ir import nodes as ir
from midsl.ir.crossing import is_single
from midsl.ir.types import Axis, TensorType
from midsl.source import NO_SPAN, Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.edges import EdgesV


class Value:
    """Base of elaborated values; `kind` is what messages call it."""

    kind = "value"


@dataclass(frozen=True)
class ConstV(Value):
    """A number, truth value or string known now."""

    value: int | float | str | bool

    @property
    def kind(self) -> str:  # type: ignore[override]
        names = {bool: "Bool", int: "Int", float: "Float", str: "String"}
        return names[type(self.value)]


@dataclass(frozen=True)
class ListV(Value):
    """A list; one that a comprehension made lies along the `axis` of its variable."""

    items: tuple[Value, ...]
    axis: Axis | None = None
    kind = "list"


@dataclass(frozen=True)
class FamilyV(ListV):
    """What there is of each member of a family of lenses, along the family's axis."""

    axis: Axis = field(default=Axis(""))
    kind = "family"


@dataclass(frozen=True)
class RecordV(Value):
    fields: Mapping[str, Value]
    kind = "record"


@dataclass(frozen=True)
class GraphV(RecordV):
    """Two tables over one set of nodes: `edges` along `src` and `dst`, `nodes` along `node`.

    `axis` is the nodes': its labels are their names, None while there are sizes that are not known.
    """

    axis: Axis = field(default=Axis("node"))
    kind = "Graph"


@dataclass(frozen=True)
class RangeV(Value):
    """A range of integers or positions; ends may be open."""

    lo: int | None
    hi: int | None
    step: int = 1
    kind = "range"


@dataclass(frozen=True)
class TensorV(Value):
    """A tensor expression; `site` is the starred site its family axes come from, if just one.

    `seen` is the run and the view that it was read from, where it is what a lens shows there.
    """

    node: ir.Node
    site: SiteV | None = None
    seen: tuple[RunV, ViewV] | None = None

    @property
    def type(self) -> TensorType:
        return self.node.tensor_type

    @property
    def kind(self) -> str:  # type: ignore[override]
        return str(self.node.type)


@dataclass(frozen=True)
class LateV(Value):
    """``.name``: a column of whatever data the run is on."""

    name: str
    span: Span = field(default=NO_SPAN, compare=False)
    """Where it was written: what a metric of the library makes of it is the spec's matter."""
    kind = "late-bound column"


@dataclass(frozen=True)
class ColumnV(Value):
    """A column of one data part; `column_kind` in token pos span label number state."""

    node: ir.Column
    column_kind: str

    @property
    def kind(self) -> str:  # type: ignore[override]
        return f"{self.column_kind} column"


@dataclass(frozen=True)
class ModelV(Value):
    node: ir.Node
    owner: str
    sizes: Mapping[str, int]
    kind = "Model"


@dataclass(frozen=True)
class BlocksV(Value):
    """``m.blocks``, or one selection of it, or a path below it (``m.blocks[*].attn``)."""

    model: ModelV
    layer: ir.Node | None = None
    path: str = ""
    kind = "blocks"


@dataclass(frozen=True)
class ModulesV(Value):
    """``m.module``, and ``m.module["path"]`` once `path` is known."""

    model: ModelV
    path: str | None = None
    kind = "module"


@dataclass(frozen=True)
class SiteV(Value):
    """A site with its selections; late-bound columns in it are `Late` nodes until it meets a run."""

    model: ModelV
    site: ir.Site
    row: SiteRow
    joint: bool = False
    """Whether a lens is over all members of the family."""
    kind = "Site"

    @property
    def stars(self) -> tuple[str, ...]:
        return tuple(a for a, i in self.site.select if isinstance(i, ir.Star))

    @property
    def together(self) -> tuple[str, ...]:
        """The axes that a value has beside those of one place: starred ones, and several layers."""
        return tuple(
            a
            for a, i in self.site.select
            if isinstance(i, ir.Star) or (a == "layer" and not isinstance(i, ir.Coord) and not is_single(i))
        )


@dataclass(frozen=True)
class SitesV(Value):
    """A union of sites (``a | b``, a list of sites): its members are swept one at a time."""

    members: tuple[SiteV, ...]
    kind = "Sites"


@dataclass(frozen=True)
class DataV(Value):
    """A data set: its sides, splits and columns by kind (as declared, or as found once bound)."""

    node: ir.Node
    sides: tuple[str, ...]
    splits: tuple[str, ...]
    columns: Mapping[str, str]
    split: str = ""
    where: ir.Node | None = None
    """Which rows count, if not all do."""
    again: Callable[[DataV], Value] | None = field(default=None, compare=False)
    """Chooses rows of another split by the same condition, where it says of each row by itself."""
    kind = "Data"


@dataclass(frozen=True)
class PartV(Value):
    node: ir.Part
    columns: Mapping[str, str]
    name: str
    kind = "Data"


@dataclass(frozen=True)
class RunV(Value):
    node: ir.Forward
    model: ModelV
    part: PartV
    puts: tuple[Put, ...] = ()
    """What its edits make of lenses."""
    edges: bool = False
    """Whether it edits edges."""
    step: tuple[Axis, int] | None = None
    """Which step of a rollout of states it is."""
    kind = "Run"


@dataclass(frozen=True)
class RolloutV(Value):
    """A rollout of states: a run for each step, and the axis along which values of them lie."""

    runs: tuple[RunV, ...]
    axis: Axis
    kind = "Run"


@dataclass(frozen=True)
class EditTemplate:
    """``target := value`` before it meets a run: the value is elaborated with `self` known."""

    target: SiteV | ViewV | EdgesV | TensorV
    value: ast.Expr
    scope: Any
    span: Span


@dataclass(frozen=True)
class EditsV(Value):
    edits: tuple[EditTemplate, ...]
    kind = "Edits"


@dataclass(frozen=True)
class FnV(Value):
    """A function written in `.mi`: a `fn` declaration or a lambda, with the scope it was written in."""

    name: str
    params: tuple[ast.FnParam, ...]
    body: Callable[[Any], Value]
    scope: Any
    span: Span
    docs: str = ""
    generics: tuple[str, ...] = ()
    returns: ast.Type | None = None
    """What it gives, where that is written: a lambda does not say."""
    kind = "function"


@dataclass(frozen=True)
class ExternV(Value):
    """An `extern fn`: builds a Model, Data or Tokenizer node from its arguments."""

    decl: ast.Fn
    scope: Any
    trusted: bool
    kind = "function"


@dataclass(frozen=True)
class BuiltinV(Value):
    """A function of the elaborator itself."""

    name: str
    call: Callable[..., Value]
    kind = "function"


@dataclass(frozen=True)
class TokenizerV(Value):
    node: ir.Node
    kind = "Tokenizer"


@dataclass(frozen=True)
class AxisV(Value):
    """An axis that a type of a parameter names: the `d` of ``fn f[d](at: Site[d])``."""

    axis: Axis
    kind = "Axis"


@dataclass(frozen=True)
class TypeV(Value):
    """What an alias stands for: ``type Scores = Float[layer, head]``, with the scope it was written in."""

    type: ast.Type
    scope: Any
    kind = "type"


@dataclass(frozen=True)
class DrawnV(Value):
    """How a tensor of parameters is drawn: ``normal([feature, d], unit: d)``."""

    how: str
    axes: tuple[Axis | str, ...] = ()
    settings: tuple[tuple[str, ir.Json], ...] = ()
    kind = "initial value"


Map = Callable[[TensorV], TensorV]


@dataclass(frozen=True)
class LensV(Value):
    """A decomposition.

    Attributes:
        at: the site that it writes, and reads unless `source` is another one.
        encode, decode: plain maps of values, from the site's axes to `code` and back.
        code: the axis of the code; None if a code is one number.
        key: equal for lenses that do the same.
        shows: what else it exposes, such as `decoder`.
        fit: what its parameters came from, if they are fitted.
    """

    at: SiteV
    encode: Map
    decode: Map
    code: Axis | None
    key: str
    shows: Mapping[str, Value] = field(default_factory=dict)
    source: SiteV | None = None
    fit: ir.Fit | None = None
    kind = "Lens"


@dataclass(frozen=True)
class ViewV(Value):
    """``lens.code`` or ``lens.error`` as a place: `at` is the site under it, `index` selects of the code."""

    lens: LensV
    part: str
    at: SiteV
    index: ir.Node | None = None
    kind = "Site"


@dataclass(frozen=True)
class Put:
    """What a run's edits make of a lens at a place: the code and the error, in terms of `self`."""

    lens: LensV
    at: ir.Site
    edit: ir.Edit
    code: ir.Node
    error: ir.Node


@dataclass(frozen=True)
class LensesV(Value):
    """Labelled lenses to sweep over (``split(v, by: W)``)."""

    members: Mapping[str, LensV]
    kind = "Lenses"


@dataclass(frozen=True)
class TopV(Value):
    """``top_sites`` / ``top_index``: a domain computed while running."""

    node: ir.Top
    site: SiteV | None
    kind = "computed selection"


@dataclass(frozen=True)
class SpaceV(Value):
    """An imported module."""

    name: str
    members: Mapping[str, Callable[[], Value]]
    functions: Mapping[str, FnV] = field(default_factory=dict)
    """Those of its members that are functions written in `.mi`."""
    kind = "module"


@dataclass(frozen=True)
class OptimV(Value):
    """An optimiser with its settings."""

    name: str
    settings: Mapping[str, float]
    kind = "optimiser"


@dataclass(frozen=True, eq=False)
class Late(ir.Node):
    """A late-bound column inside a site's selection; gone once the site meets a run."""

    name: str


@dataclass(frozen=True)
class VariousV(Value):
    """One thing for each point of a sweep, where it is no tensor: models of several seeds."""

    sweep: ir.Sweep
    what: str

    @property
    def kind(self) -> str:  # type: ignore[override]
        return f"{self.what} for each `{self.sweep.name}`"


@dataclass(frozen=True)
class ControlsV(Value):
    """The controls of an experiment: by the name that each replaces, its value for an expression."""

    under: Mapping[str, Callable[[ast.Expr], Value]]
    kind = "controls"


@dataclass
class Poison(Value):
    """Stands for what was refused already, so that nothing more is said about it."""

    kind = "refused"


class PoisonError(Exception):
    """Raised where a refused value is used; says nothing."""
