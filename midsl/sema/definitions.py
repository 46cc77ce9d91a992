"""Functions are checked where they are defined: once, on stand-ins that their written types describe.

What holds for all arguments holds for a stand-in, so what is refused of it is wrong with the function, even
where nobody calls it. A run is one of the file's own first model on its own first data, where it has them.
A parameter whose type leaves open what it is (`Any`, a site of no known axes) has no stand-in; whatever
needs it is left to the calls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from midsl.artefacts.graphs.base import GraphFile
from midsl.diagnostics.model import MiError, fail
from midsl.graph.info import ModelInfo, SiteRow
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.sema.agree import Signature
from midsl.sema.calls import accept, argument
from midsl.sema.context import Context
from midsl.sema.facts import Facts
from midsl.sema.graphs import unknown
from midsl.sema.scope import Scope
from midsl.sema.typenames import TENSORS
from midsl.sema.values import (
    AxisV,
    ColumnV,
    ConstV,
    DataV,
    FnV,
    ModelV,
    PartV,
    Poison,
    PoisonError,
    RunV,
    SiteV,
    TensorV,
    TypeV,
    Value,
)
from midsl.sema.wellformed import check_names
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.data.dataset import Dataset
    from midsl.sema.elaborate import Elaborator

CERTAIN = frozenset(
    {"MI0201", "MI0203", "MI0206", "MI0207", "MI0208", "MI0305", "MI0306", "MI0310", "MI0319"}
)
"""What is wrong with a function whatever it is given; all else may be the stand-in's fault."""
MODEL = ir.Model("any", type=PlainType("Model"))
DATA = ir.Data("any", type=PlainType("Data"))
PART = PartV(ir.Part(DATA, type=PlainType("Data")), {"start": "pos", "end": "pos"}, "any")


class _WithAny(Facts):
    """What is known, and nothing of the stand-ins: nobody may load a model of which there is none."""

    def __init__(self, known: Facts) -> None:
        self.known = known

    def graph_file(self, path: Path) -> GraphFile | None:
        return self.known.graph_file(path)

    def info(self, model: ir.Node) -> ModelInfo | None:
        return None if model == MODEL else self.known.info(model)

    def sizes(self, model: ir.Node) -> dict[str, int]:
        return {} if model == MODEL else self.known.sizes(model)

    def dataset(self, data: ir.Node) -> Dataset | None:
        return None if data == DATA else self.known.dataset(data)

    def name_axes(self, model: ir.Node, site: str, axes: tuple[str, ...]) -> None:
        self.known.name_axes(model, site, axes)


@dataclass
class Standins:
    """One model, one data set and one run, and values of whatever type is written.

    Axes of one name are one axis, since that is what they are in one signature.
    """

    model: ModelV
    part: PartV
    batch: Axis
    pos: Axis
    scope: Scope
    variables: tuple[str, ...] = ()

    def axis(self, name: str) -> Axis:
        """The axis that a name stands for."""
        known = {"batch": self.batch, "pos": self.pos, "key_pos": Axis("key_pos", self.pos.owner)}
        free = name in self.variables
        return known.get(name) or Axis(name, "" if free else self.model.owner)

    def value(self, t: ast.Type, name: str) -> Value:
        """A value of a type, or a poison, which ends whatever uses it."""
        if isinstance(t, ast.FnType):
            return self._function(t, name)
        if not isinstance(t, ast.TypeRef):
            return Poison()
        axes = tuple(self.axis(a.name) for a in t.axes if not a.rest)
        if t.name in TENSORS and (t.axes or t.name == "Float"):
            kind = TENSORS[t.name]
            tensor = TensorType(kind, axes, t.unit)  # type: ignore[arg-type]
            return TensorV(ir.Extern("any", (("name", name),), type=tensor))
        plain: dict[str, int | str | bool] = {"Int": 1, "Bool": True, "Token": 0}
        if t.name in plain:
            return ConstV(plain[t.name])
        if t.name in ("Pos", "Label"):
            pos = TensorType("int", (self.batch,)) if t.name == "Pos" else PlainType(t.name)
            return ColumnV(ir.Column(self.part.node, f"any {name}", type=pos), t.name.lower())
        if t.name == "Span":
            return ColumnV(ir.Column(self.part.node, f"any {name}", type=PlainType("Span")), "span")
        if t.name == "Site" and t.axes and t.axes[0].name == "batch":
            row = SiteRow(f"any {name}", tuple(a.name for a in t.axes), per_block=False)
            return SiteV(self.model, ir.Site(self.model.node, row.name, type=PlainType("Site")), row)
        if t.name == "Graph":
            return unknown(self.axis("node"), name)
        whole: dict[str, Value] = {"Model": self.model, "Data": self.part, "Run": self._run(name)}
        if t.name in whole and not t.columns and not t.axes:
            return whole[t.name]
        alias = self.scope.find(t.name)
        return self.value(alias.type, name) if isinstance(alias, TypeV) else Poison()

    def _run(self, name: str) -> RunV:
        origin = -1 - len(name)  # apart from every run of the text
        node = ir.Forward(self.model.node, self.part.node, (), origin, type=PlainType("Run"))
        return RunV(node, self.model, self.part)

    def _function(self, t: ast.FnType, name: str) -> FnV:
        params = tuple(ast.FnParam(f"a{i}", p) for i, p in enumerate(t.params))
        return FnV(
            name, params, lambda inner: self.value(t.returns, name), self.scope, t.span, returns=t.returns
        )


def _standins(ctx: Context, tree: ast.Module, scope: Scope) -> Standins:
    """A file's own model and data, as the runs of its experiments have them."""
    found: dict[str, Value] = {}
    for decl in tree.decls:
        if isinstance(decl, ast.Binding) and decl.role in ("model", "data") and decl.role not in found:
            value = scope.find(decl.name)
            if isinstance(value, DataV):
                value = ctx.part(value, value.sides[0] if value.sides else "", decl.span)
            if isinstance(value, (ModelV, PartV)):
                found[decl.role] = value
    model, part = found.get("model"), found.get("data", PART)
    assert isinstance(part, PartV)
    own = model if isinstance(model, ModelV) else ctx.model(MODEL)
    return Standins(own, part, *ctx.data_axes(part), scope)


def check_function(ctx: Context, fn: FnV, stand: Standins) -> None:
    """Say what is wrong with a function whatever it is given; its calls then say nothing more."""
    spent = ctx.spent
    try:
        _call(fn, replace(stand, variables=fn.generics))
    except MiError as err:
        certain = [d for d in err.diagnostics if d.code in CERTAIN and d.span.source is fn.span.source]
        ctx.bag.extend(certain)
        if certain:
            ctx.refused.add(fn.span)
    except PoisonError:
        pass
    finally:
        ctx.spent = spent


def _call(fn: FnV, stand: Standins) -> None:
    """The function on stand-ins; and what it gives, where that is a function."""
    axes = {g: stand.axis(g) for g in fn.generics}
    signature = Signature(fn.scope, fn.generics, axes, is_open=True, sure=False)
    args: dict[str, Value] = {g: AxisV(a) for g, a in axes.items()}
    for p in fn.params:
        made = args[p.name] = stand.value(p.type, p.name)
        if isinstance(made, TensorV):
            signature.lifted += made.type.axes
        elif isinstance(made, SiteV):
            signature.lifted += [stand.axis(a) for a in made.row.axes]
    made = fn.body(fn.scope.child(args, signature))
    if isinstance(made, FnV) and isinstance(fn.returns, ast.FnType):
        types = zip(made.params, fn.returns.params, strict=False)
        made.body(made.scope.child({p.name: stand.value(t, p.name) for p, t in types}))


def _check_head(e: Elaborator, decl: ast.Fn | ast.Method, scope: Scope) -> None:
    """The names, types and defaults of the parameters, and the type of the result."""
    names: list[str] = list(decl.generics)
    twice = next((n for n in names if names.count(n) > 1), None)
    for p in decl.params:
        twice = twice or (p.name if p.name in names else None)
        names.append(p.name)
        if twice is not None:
            help = "give one of the two another name"
            raise fail(
                "MI0204", f"`{decl.name}` has `{twice}` twice", p.span, label="named again here", help=help
            )
        check_names(p.type, scope)
    if isinstance(decl, ast.Fn):
        check_names(decl.returns, scope)
    for p in decl.params:
        if p.default is not None:
            value = argument(e, p.default, p.type, scope)
            accept(value, p, decl.name, p.default.span, Signature(scope, decl.generics, is_open=True))


def _circular(alias: ast.Alias, scope: Scope) -> bool:
    """Whether an alias leads back to itself by names alone."""
    seen: set[str] = set()
    t: ast.Type = alias.type
    while isinstance(t, ast.TypeRef) and isinstance(found := scope.find(t.name), TypeV):
        if t.name in seen:
            return True
        seen.add(t.name)
        t = found.type
    return False


def check_module(e: Elaborator, tree: ast.Module, scope: Scope) -> None:
    """All types that a file writes, and all functions that it defines."""
    ctx = e.ctx
    for decl in tree.decls:
        if isinstance(decl, ast.Alias) and _circular(decl, scope):
            err = fail(
                "MI0211",
                f"type `{decl.name}` stands for itself",
                decl.span,
                label="this needs its own meaning",
                help="write what it stands for: `type Scores = Float[layer, head]`",
            )
            ctx.bag.extend(err.diagnostics)
            scope.names[decl.name] = TypeV(ast.TypeRef("Any"), scope)
    facts, ctx.facts = ctx.facts, _WithAny(ctx.facts)
    ctx.parts[PART.node.digest] = PART
    try:
        _check_types(e, tree, scope)
    finally:
        ctx.facts = facts
        del ctx.parts[PART.node.digest]


def _check_types(e: Elaborator, tree: ast.Module, scope: Scope) -> None:
    ctx, stand = e.ctx, None
    for decl in tree.decls:
        try:
            if isinstance(decl, ast.Alias):
                check_names(decl.type, scope)
            if isinstance(decl, (ast.Fn, ast.Method)):
                _check_head(e, decl, scope)
        except MiError as err:
            ctx.bag.extend(err.diagnostics)
            ctx.refused.add(decl.span)
            continue
        except PoisonError:
            continue
        fn = scope.names.get(decl.name) if isinstance(decl, ast.Fn) else None
        if isinstance(fn, FnV):
            stand = stand or _standins(ctx, tree, scope)
            check_function(ctx, fn, stand)
