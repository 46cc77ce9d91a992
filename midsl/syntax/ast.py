"""The syntax tree: what was written, nothing resolved.

Nodes are frozen dataclasses; `span` takes no part in equality, so ``parse(fmt(x)) == parse(x)``
can be asked directly. Tuples, never lists. Documentation comments (``##``) hang on declarations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal

from midsl.source import NO_SPAN, SourceFile, Span


@dataclass(frozen=True, kw_only=True)
class Node:
    """Base of every tree node."""

    span: Span = field(default=NO_SPAN, compare=False, repr=False)


# ---------------------------------------------------------------- expressions


class Expr(Node):
    """Base of expressions."""


@dataclass(frozen=True)
class Name(Expr):
    id: str


@dataclass(frozen=True)
class SelfRef(Expr):
    """``self``: the value that arrives at the edited site."""


@dataclass(frozen=True)
class Literal_(Expr):
    """An integer, a float, a string or a truth value."""

    value: int | float | str | bool


@dataclass(frozen=True)
class ListExpr(Expr):
    items: tuple[Expr, ...]


@dataclass(frozen=True)
class Comprehension(Expr):
    """``[item for var in source if where]``."""

    item: Expr
    var: str
    source: Expr
    where: Expr | None = None


@dataclass(frozen=True)
class Record(Expr):
    """``{ name: expr, ... }``."""

    fields: tuple[tuple[str, Expr], ...]


@dataclass(frozen=True)
class Field(Expr):
    """``base.name``; `name_span` is the name alone."""

    base: Expr
    name: str
    name_span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True)
class LateColumn(Expr):
    """``.name``: that column of whatever data the run is on."""

    name: str


@dataclass(frozen=True)
class Arg(Node):
    """One argument of a call; `name` is None for a positional one."""

    name: str | None
    value: Expr


@dataclass(frozen=True)
class Call(Expr):
    func: Expr
    args: tuple[Arg, ...]


@dataclass(frozen=True)
class Item(Node):
    """One selection in brackets: ``head: 3``, ``*``, ``1..4``; `axis` is None where not named."""

    axis: str | None
    value: Expr


@dataclass(frozen=True)
class Index(Expr):
    base: Expr
    items: tuple[Item, ...]


@dataclass(frozen=True)
class All(Expr):
    """``*`` in a selection."""


@dataclass(frozen=True)
class Range(Expr):
    """``lo..hi``, ``lo..=hi``, ``lo..``, ``..hi``, with an optional ``by step``."""

    lo: Expr | None
    hi: Expr | None
    inclusive: bool = False
    step: Expr | None = None


@dataclass(frozen=True)
class Unary(Expr):
    op: Literal["-", "+", "not"]
    operand: Expr


@dataclass(frozen=True)
class Binary(Expr):
    """Arithmetic, ``and or in``, and site union ``|``."""

    op: Literal["+", "-", "*", "/", "%", "**", "and", "or", "in", "|"]
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Compare(Expr):
    """``a < b`` and friends; ``a ~= b within tol`` keeps its tolerance here."""

    op: Literal["==", "!=", "<=", ">=", "<", ">", "~="]
    left: Expr
    right: Expr
    within: Expr | None = None


@dataclass(frozen=True)
class Cond(Expr):
    test: Expr
    then: Expr
    other: Expr


@dataclass(frozen=True)
class Lambda(Expr):
    params: tuple[str, ...]
    body: Expr


@dataclass(frozen=True)
class Set(Node):
    """``site := value`` inside ``do { }``."""

    target: Expr
    value: Expr


@dataclass(frozen=True)
class Edits(Expr):
    """``do { ... }``: a value; an item that is an expression must itself be edits."""

    items: tuple[Set | Expr, ...]


@dataclass(frozen=True)
class Run(Expr):
    """``run model on data [rollout {...}] [do {...}]``."""

    model: Expr
    data: Expr
    rollout: Record | None = None
    edits: Expr | None = None


# ---------------------------------------------------------------- types


class Type(Node):
    """Base of written types."""


@dataclass(frozen=True)
class AxisRef(Node):
    """One axis in a type: a name, ``name=size``, or ``*rest``."""

    name: str
    size: int | str | None = None
    rest: bool = False


@dataclass(frozen=True)
class TypeRef(Type):
    """``Float[batch, pos]<logit>``, ``Data[clean]{ io: Token[batch] }``, ``Sites[head] of Site[batch]``."""

    name: str
    axes: tuple[AxisRef, ...] = ()
    columns: tuple[tuple[str, Type], ...] = ()
    unit: str | None = None
    of: Type | None = None


@dataclass(frozen=True)
class FnType(Type):
    params: tuple[Type, ...]
    returns: Type


@dataclass(frozen=True)
class RecordType(Type):
    fields: tuple[tuple[str, Type], ...]


# ---------------------------------------------------------------- statements and declarations

Role = Literal["let", "model", "data", "site", "decomposition", "basis", "metric", "control"]


@dataclass(frozen=True)
class Binding(Node):
    """``role name [: type] = expr [where cond]``."""

    role: Role
    name: str
    value: Expr
    type: Type | None = None
    where: Expr | None = None
    docs: str = field(default="", compare=False)
    name_span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True)
class SweepClause(Node):
    """``name in source [as prefix]``."""

    name: str
    source: Expr
    prefix: str | None = None


@dataclass(frozen=True)
class Sweep(Node):
    clauses: tuple[SweepClause, ...]
    where: Expr | None = None


@dataclass(frozen=True)
class Report(Node):
    """``report name [= expr] [where cond]``; without `value` it reports the binding of that name."""

    name: str
    value: Expr | None = None
    where: Expr | None = None
    docs: str = field(default="", compare=False)


@dataclass(frozen=True)
class Expect(Node):
    """``expect condition [, "message"]``."""

    condition: Expr
    message: str | None = None


@dataclass(frozen=True)
class Plot(Node):
    """``plot kind(args)``; `value` is the call."""

    value: Expr


@dataclass(frozen=True)
class Save(Node):
    """``save expr [as "name"]``."""

    value: Expr
    name: str | None = None


@dataclass(frozen=True)
class View(Node):
    """``view expr``: rows of data, what they say, or a value, shown with the results and in no table."""

    value: Expr


@dataclass(frozen=True)
class Plan(Node):
    """``plan { ... }``: hints to the planner."""

    value: Record


Stmt = Binding | Sweep | Report | Expect | Plot | Save | View | Plan


@dataclass(frozen=True)
class Param(Node):
    """``param name: type = default``."""

    name: str
    type: Type
    value: Expr | None
    docs: str = field(default="", compare=False)


@dataclass(frozen=True)
class AxisDecl(Node):
    names: tuple[str, ...]


@dataclass(frozen=True)
class Alias(Node):
    name: str
    type: Type


@dataclass(frozen=True)
class FnParam(Node):
    """``name: type [= default]``."""

    name: str
    type: Type
    default: Expr | None = None


@dataclass(frozen=True)
class Fn(Node):
    """A function: `body` is its expression (after `bindings`), or `extern` names its Python."""

    name: str
    generics: tuple[str, ...]
    params: tuple[FnParam, ...]
    returns: Type
    bindings: tuple[Binding, ...] = ()
    body: Expr | None = None
    extern: str | None = None
    docs: str = field(default="", compare=False)


@dataclass(frozen=True)
class Method(Node):
    """A parametrised experiment."""

    name: str
    generics: tuple[str, ...]
    params: tuple[FnParam, ...]
    body: tuple[Stmt, ...]
    docs: str = field(default="", compare=False)


@dataclass(frozen=True)
class Experiment(Node):
    """``experiment name { ... }``, or ``experiment name = method(...)`` (then `call`)."""

    name: str
    body: tuple[Stmt, ...] = ()
    call: Expr | None = None
    docs: str = field(default="", compare=False)


@dataclass(frozen=True)
class Test(Node):
    """``test "what holds" { ... }``: runs under `midsl test`."""

    __test__ = False

    title: str
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Import(Node):
    """``import a.b as c`` (then `alias`) or ``from a.b import x, y`` (then `names`)."""

    path: str
    relative: bool = False
    alias: str | None = None
    names: tuple[str, ...] = ()


Decl = Binding | Param | AxisDecl | Alias | Fn | Method | Experiment | Test


@dataclass(frozen=True)
class Module(Node):
    """One file; `broken` holds the names whose statements could not be parsed and were left out."""

    source: SourceFile = field(compare=False, repr=False)
    edition: int
    imports: tuple[Import, ...]
    decls: tuple[Decl, ...]
    broken: frozenset[str] = field(default=frozenset(), compare=False)


def walk(node: object) -> Iterator[Node]:
    """Every node below (and with) one, parents first; tuples are walked through."""
    todo = [node]
    while todo:
        here = todo.pop()
        if isinstance(here, Node):
            yield here
            todo.extend([getattr(here, name) for name in _parts(type(here))])
        elif isinstance(here, tuple):
            todo.extend(here[::-1])


_PARTS: dict[type, tuple[str, ...]] = {}


def _parts(kind: type[Node]) -> tuple[str, ...]:
    """The fields of a class of nodes that may hold nodes, the last one first."""
    known = _PARTS.get(kind)
    if known is None:
        names = [f.name for f in fields(kind) if f.name not in ("span", "name_span", "docs")]
        known = _PARTS[kind] = tuple(reversed(names))
    return known
