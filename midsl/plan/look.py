"""One value of a spec, asked for beside it: `midsl show spec.mi 'mean(clean[z], over: batch)'`.

The expression is put into an experiment as a `save` and planned alone, so that it means what it would mean
there, is refused for the same reasons, and takes only the runs that it needs. Data is shown as its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from midsl.data.dataset import Column, Part, Tokenizer
from midsl.diagnostics.model import Bag, MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.plan.bind import Binder
from midsl.plan.driver import Compiled, Execution
from midsl.plan.explain import Explanation, explain, si
from midsl.plan.remembered import Remembered
from midsl.plan.saved import Saved
from midsl.reach import Trust
from midsl.sema.check import check_source
from midsl.sema.elaborate import Elaborator
from midsl.sema.filefacts import FileFacts
from midsl.sema.given import Given
from midsl.sema.values import DataV, PartV, PoisonError, Value
from midsl.source import SourceFile
from midsl.syntax import ast
from midsl.syntax.parse import parse, parse_expression

IT = "it"
"""What the value is saved as."""


@dataclass(frozen=True, eq=False)
class Looked:
    """A value, what it is, and what it took.

    Attributes:
        type: as specs write it. value: the tensor, its axes and the labels of their indices.
        predicted: the plan of it. forwards, flops: what was run for it now.
    """

    type: str
    value: Saved
    predicted: Explanation
    forwards: int
    flops: int

    @property
    def cost(self) -> str:
        """What it took, in a line."""
        said = self.predicted.optimised
        about = f"planned {said.forwards} forwards, {si(said.flops)}FLOP"
        return f"{about}; ran {self.forwards} forwards, {si(self.flops)}FLOP"


@dataclass(frozen=True)
class LookedRows:
    """Rows of data: their tokens as text, and the positions that columns name, for each side."""

    parts: dict[str, Part]
    tokenizer: Tokenizer


def asked(source: SourceFile, expression: str, experiment: str = "") -> tuple[SourceFile, str]:
    """The text of a spec with an expression saved in one of its experiments; and which.

    Args:
        experiment: its name; without one, the only experiment that has a body, or the first of them.

    Raises:
        MiError: what is wrong with the text or the expression as syntax; MI0807: no such experiment.
    """
    parse_expression(expression)
    bag = Bag()
    tree = parse(source, bag)
    if tree is None or bag.errors:
        raise MiError(*bag.errors)
    found = [d for d in tree.decls if isinstance(d, ast.Experiment) and d.call is None]
    names = [d.name for d in found]
    if experiment and experiment not in names:
        help = did_you_mean(experiment, names) or f"experiments with a body: {', '.join(names) or 'none'}"
        raise fail("MI0807", f"the spec has no experiment `{experiment}`", help=help)
    line = f'\n  save {expression.strip()} as "{IT}"\n'
    if not found:
        return replace(source, text=f"{source.text}\nexperiment shown {{{line}}}\n"), "shown"
    decl = next((d for d in found if d.name == experiment), found[0])
    end = source.text.rindex("}", 0, decl.span.end)
    return replace(source, text=source.text[:end] + line + source.text[end:]), decl.name


def only_it(experiment: str) -> Callable[[Program], Program]:
    """The program of that value alone."""

    def narrow(program: Program) -> Program:
        x = next(x for x in program.experiments if x.name == experiment)
        sinks = tuple(s for s in x.sinks if isinstance(s, ir.Save) and s.name == IT)
        return replace(program, experiments=(replace(x, lets=(), sinks=sinks),))

    return narrow


def look(compiled: Compiled, remembered: Remembered | None = None) -> Looked:
    """Work out the value that a compiled spec of `only_it` asks for."""
    predicted = explain(compiled)
    execution = Execution(compiled, remembered=remembered)
    execution.run()
    saved = execution.stages[0].saves[0]
    sink = compiled.program.sinks[0]
    assert isinstance(sink, ir.Save)
    totals = execution.totals
    kind = type_text(sink.value, saved.axes)
    return Looked(kind, saved, predicted, totals.forwards, totals.flops)


def type_text(node: ir.Node, axes: tuple[str, ...]) -> str:
    """A type as specs write it, the axes of its sweeps first."""
    t = node.tensor_type
    kind = t.kind.capitalize()
    unit = f" in {t.unit}" if t.unit else ""
    return f"{kind}[{', '.join(axes)}]{unit}" if axes else f"{kind}{unit}"


def rows_of(
    source: SourceFile, expression: str, binder: Binder, params: Mapping[str, str], given: Given | None
) -> LookedRows | None:
    """The rows of an expression that is data by itself; None for any other."""
    tree = parse_expression(expression)
    value = _by_itself(source, tree, FileFacts(), params, binder.reach.trust, given)
    if not isinstance(value, (DataV, PartV)):
        return None
    value = _by_itself(source, tree, binder, params, binder.reach.trust, given)
    assert isinstance(value, (DataV, PartV))
    data = value.node if isinstance(value, DataV) else value.node.data
    made = next((n for n in ir.walk(data) if isinstance(n, ir.Tokenizer)), None)
    if made is None:
        raise fail(
            "MI0503",
            "these rows were made with no tokenizer of a model",
            data.span,
            help="give the task `m.tokenizer`, so that tokens can be shown as text",
        )
    rows = binder.dataset(data)
    sides = rows.sides if isinstance(value, DataV) else {_side(value): binder.part(value.node)}
    return LookedRows(dict(sides), binder.decode(made))


def _side(value: Value) -> str:
    assert isinstance(value, PartV) and isinstance(value.node, ir.Part)
    return value.node.side


def _by_itself(
    source: SourceFile,
    tree: ast.Expr,
    facts: Any,
    params: Mapping[str, str],
    trust: Trust,
    given: Given | None,
) -> Value | None:
    """What an expression is with the names of the file alone; None if it needs more."""
    checked = check_source(source, facts, params, trust, given=given)
    if checked.module is None:
        return None
    try:
        return Elaborator(checked.ctx).eval(tree, checked.module.scope)
    except (MiError, PoisonError):
        return None


def value_json(done: Looked) -> dict[str, Any]:
    """A value as data: numbers nested by axis (null where there is none), what it is and what it took."""
    tensor = done.value.value
    finite = torch.where(torch.isfinite(tensor.double()), tensor.double(), torch.nan)
    return {
        "type": done.type,
        "axes": list(done.value.axes),
        "shape": list(tensor.shape),
        "labels": {k: list(v) for k, v in done.value.labels.items()},
        "unit": done.value.unit,
        "forwards": done.forwards,
        "flops": done.flops,
        "value": _plain(finite.tolist()),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if value != value else value


def rows_json(rows: LookedRows) -> dict[str, Any]:
    """Rows as data: tokens as text by position, and what each column says of the row."""
    sides = []
    for side, part in rows.parts.items():
        tokens = [
            [rows.tokenizer.token(int(t)) for t in row[:length]]
            for row, length in zip(part.tokens, part.lengths, strict=True)
        ]
        named = [{n: _cell(c, i, rows.tokenizer) for n, c in part.columns.items()} for i in range(len(part))]
        sides.append({"side": side, "tokens": tokens, "named": named})
    return {"sides": sides}


def _cell(column: Column, i: int, tokenizer: Tokenizer) -> str:
    """What a column says of a row: a position as `@3`, a stretch as `@3..5`, a token as its text."""
    value = column.values[i]
    if column.kind == "token":
        return repr(tokenizer.token(int(value)))
    if column.kind == "pos":
        return f"@{int(value)}"
    if column.kind == "span":
        return f"@{int(value[0])}..{int(value[1])}"
    return str(value)
