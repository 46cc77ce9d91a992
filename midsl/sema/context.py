"""What elaboration carries along: facts, diagnostics, and the registry of data parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from midsl.diagnostics.model import Bag, Diagnostic, MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.reach import NO_TRUST, Trust
from midsl.sema.facts import Facts
from midsl.sema.values import ColumnV, DataV, ModelV, PartV, Value
from midsl.source import NO_SPAN, SourceFile, Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.given import Given

MOST_STEPS = 1_000_000  # some seconds; specs take hundreds or thousands
DERIVED_COLUMNS = {"tokens": "token", "next": "token"}
WRITTEN = {"prompt": "span", "new": "span", "text": "label", "emitted": "number"}
"""The columns of rows that a rollout has written on, besides those of its prompts."""


@dataclass
class Context:
    """State of one elaboration."""

    facts: Facts = field(default_factory=Facts)
    bag: Bag = field(default_factory=Bag)
    params: Mapping[str, str] = field(default_factory=dict)
    trust: Trust = NO_TRUST
    given: Given | None = None
    parts: dict[str, PartV] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    datas: dict[str, str] = field(default_factory=dict)
    fits: dict[str, str] = field(default_factory=dict)
    origins: int = 0
    depth: int = 0
    refused: set[Span] = field(default_factory=set)
    """Functions that are wrong whatever they are given, which was said where they are defined."""
    calls: list[Span] = field(default_factory=list)
    """The calls that are being worked out, the innermost last."""
    lengths: dict[str, int] = field(default_factory=dict)
    """What names of lengths stand for in the types of bindings (``d=n``)."""
    spent: int = 0
    trees: dict[SourceFile, ast.Module] = field(default_factory=dict)
    swept_self: tuple[Axis, ...] = ()
    """The axes that `self` has from the sweeps of the site it stands for."""
    late: dict[Span, ColumnV] = field(default_factory=dict)
    """Late-bound columns, by where they are written, of which it is known what data they are of."""
    _call_sites: dict[SourceFile, dict[int, int]] = field(default_factory=dict)
    watch: dict[Span, Value] | None = None  # what each expression came to, where somebody asks: an editor

    def spend(self, steps: int, span: Span) -> None:
        """Count work of elaboration: MI0314 where functions or lists unfold into more than will ever end."""
        self.spent += steps
        if self.spent > MOST_STEPS:
            raise fail(
                "MI0314",
                "this is too much to work out while checking",
                span,
                label=f"more than {MOST_STEPS:_} expressions by here",
                help="functions and lists that double at each step grow fast; shorten them, or sweep instead",
            )

    def origin(self) -> int:
        """A fresh number for an occurrence of `run`."""
        self.origins += 1
        return self.origins

    def call_site(self, call: ast.Call, names: Collection[str]) -> str:
        """Which call of functions of these names this is, counted in its file; comments don't count."""
        source = call.span.source
        order = self._call_sites.get(source)
        if order is None:
            calls = (n for n in ast.walk(self.trees[source]) if isinstance(n, ast.Call))
            drawing = (c for c in calls if isinstance(c.func, ast.Name) and c.func.id in names)
            starts = sorted(c.span.start for c in drawing)
            order = self._call_sites[source] = {s: i for i, s in enumerate(starts)}
        root = next(iter(self.trees))
        std = source.name.startswith("std/")
        file = "" if source is root else source.name if std else Path(source.name).stem
        return f"{file}:{order[call.span.start]}"

    def warn(self, code: str, message: str, span: Span = NO_SPAN, help: str = "") -> None:
        self.bag.add(Diagnostic(code, message, span, help=help, severity="warning"))

    def model(self, node: ir.Node) -> ModelV:
        """The value of a model node, with the sizes that are known."""
        try:
            return ModelV(node, model_owner(node), self.facts.sizes(node))
        except MiError as err:
            raise err.at(node.span) from None

    def data_axes(self, part: PartV) -> tuple[Axis, Axis]:
        """The `batch` and `pos` axes of a part; all sides of one split of one data set share them."""
        owner, data = part.node.owner, part.node.data
        if isinstance(data, ir.Rollout):
            data = data.room.data
        if isinstance(data, ir.Room):  # rows of another part, and longer
            batch, pos = self.data_axes(self.parts[data.part.digest])
            return batch, Axis("pos", owner, None if pos.size is None else pos.size + data.steps)
        dataset = self.facts.dataset(data)
        if dataset is None:
            return Axis("batch", owner), Axis("pos", owner)
        rows = dataset.part(part.node.side, part.node.split)
        return Axis("batch", owner, len(rows)), Axis("pos", owner, int(rows.tokens.shape[1]))

    def width(self, part: PartV, name: str) -> int | None:
        """How many numbers each row of a column of states has, where the data is there."""
        dataset = self.facts.dataset(part.node.data)
        if dataset is None:
            return None
        return int(dataset.sides[part.node.side].columns[name].values.shape[1])  # type: ignore[union-attr]

    def part(self, data: DataV, side: str, span: Span) -> PartV:
        """One side of a data set, registered so that late-bound columns find it."""
        chosen = data.where.digest if data.where is not None else ""
        node = ir.Part(data.node, side, data.split, data.where, chosen, type=PlainType("Data"), span=span)
        part = self.parts.get(node.digest)
        if part is None:
            name = ".".join(x for x in (data.split, side) if x)
            part = self.parts[node.digest] = PartV(node, data.columns, name)
        return part

    def column(self, part: PartV, name: str, span: Span) -> ColumnV:
        """A column of a part: MI0506 if it has none of that name."""
        kind = DERIVED_COLUMNS.get(name) or part.columns.get(name)
        if kind is None:
            known = [*part.columns, *DERIVED_COLUMNS]
            raise fail(
                "MI0506",
                f"the data has no column `{name}`",
                span,
                label=f"columns: {', '.join(known)}",
                help=did_you_mean(name, known) or "name one of these, or build the data with that column",
            )
        prompts = part.node.rows
        here = kind in ("pos", "span") or name in (*DERIVED_COLUMNS, *WRITTEN)
        if prompts != part.node and not here:
            return self.column(self.parts[prompts.digest], name, span)
        batch, pos = self.data_axes(part)
        t: TensorType | PlainType
        if name in DERIVED_COLUMNS:
            span_name = "predicted" if name == "next" else ""
            t = TensorType(
                "token", (batch, Axis("pos", pos.owner, pos.size if not span_name else None, span=span_name))
            )
        elif kind in ("span", "label"):
            t = PlainType(kind.capitalize())
        else:
            whole = {"token": "token", "pos": "int", "number": "float", "state": "float"}
            wide = (Axis("d_state", "", self.width(part, name)),) if kind == "state" else ()
            t = TensorType(whole[kind], (batch, *wide))  # type: ignore[arg-type]
        return ColumnV(ir.Column(part.node, name, type=t, span=span), kind)


def model_owner(node: ir.Node) -> str:
    """What a model's axes belong to: its architecture, so that seeds and training don't count."""
    if isinstance(node, ir.Train):
        return model_owner(node.model)
    assert isinstance(node, ir.Model)
    return ir.Model(node.ref, tuple((k, v) for k, v in node.args if k != "seed")).digest
