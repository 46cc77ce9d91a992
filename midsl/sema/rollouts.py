"""``run m on d rollout { steps: 8 } do { ... }``: the rows that a model writes on, and the run on them.

A rollout is elaborated in two: the rows that it makes (`ir.Rollout`), whose edits stand at prompts with
room for what will be written, and a run with the same edits on those rows, the emitted tokens given. Reads
are of that run. For the two to be the same model an edit must be causal: what it writes at a position may
not depend on later ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.crossing import has_self
from midsl.ir.types import PlainType
from midsl.sema.context import WRITTEN
from midsl.sema.runs import edited
from midsl.sema.unroll import Unroll, meaning, need_literal
from midsl.sema.values import ConstV, ListV, ModelV, PartV, RecordV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

DATA = PlainType("Data")
SETTINGS = ("steps", "temperature", "seed", "stop")
POSITIONS = ("pos", "key_pos")


def written_on(
    e: Elaborator, node: ast.Run, given: ast.Expr, scope: Scope, model: ModelV, prompts: PartV
) -> PartV:
    """The rows that a rollout makes: the prompts and what follows them."""
    options = dict(_settings(e, given, scope))
    steps = options.pop("steps")
    assert isinstance(steps, int)
    room = ir.Room(prompts.node, steps, f"{prompts.node.owner}+{steps}", type=DATA, span=node.span)
    places = _part(e, room, prompts, ("prompt", "new"))
    run = edited(e, node, scope, model, places)
    swept = ir.sweeps_of(run.node)
    if swept:  # the tokens differ from point to point, and so do the rows
        raise Unroll(swept[0])
    for edit in run.node.edits:
        _check_causal(edit)
        _check_known(edit, places.node)
    known = tuple(options.items())
    model = run.model
    blank = ir.Rollout(model.node, places.node, run.node.edits, known, type=DATA, span=node.span)
    rows = ir.Rollout(
        model.node, places.node, run.node.edits, known, meaning(blank), type=DATA, span=node.span
    )
    return _part(e, rows, prompts, tuple(WRITTEN))


def _part(e: Elaborator, data: ir.Node, prompts: PartV, more: tuple[str, ...]) -> PartV:
    """The one part of rows made of prompts, with its columns besides theirs."""
    node = ir.Part(data, type=DATA, span=data.span)
    if node.digest not in e.ctx.parts:
        columns = {**prompts.columns, **{name: WRITTEN[name] for name in more}}
        e.ctx.parts[node.digest] = PartV(node, columns, prompts.name)
    return e.ctx.parts[node.digest]


def _settings(e: Elaborator, given: ast.Expr, scope: Scope) -> Iterator[tuple[str, ir.Json]]:
    record = e.eval(given, scope)
    assert isinstance(record, RecordV)
    for name in record.fields:
        if name not in SETTINGS:
            raise fail(
                "MI0205",
                f"a rollout has no setting `{name}`",
                given.span,
                help=did_you_mean(name, SETTINGS) or f"its settings: {', '.join(SETTINGS)}",
            )
    steps = _number(record, "steps", given.span)
    if type(steps) is not int or steps < 1:
        raise fail(
            "MI0301",
            "`steps` of a rollout is a whole number, at least 1",
            given.span,
            help="how many tokens to write at most: `rollout { steps: 16 }`",
        )
    yield "steps", steps
    warmth = float(_number(record, "temperature", given.span, 0.0))
    if warmth < 0:
        raise fail("MI0301", "a temperature is not negative", given.span, help="0 takes the likeliest token")
    yield "temperature", warmth
    if warmth and "seed" not in record.fields:
        raise fail(
            "MI0207",
            "a rollout with a temperature needs a `seed`",
            given.span,
            label="its tokens are drawn",
            help="add `seed: 0`: the same seed draws the same tokens",
        )
    seed = _number(record, "seed", given.span, 0)
    if type(seed) is not int:
        raise fail("MI0301", "`seed` of a rollout is a whole number", given.span, help="such as `seed: 0`")
    yield "seed", seed
    yield "stop", _stops(record.fields.get("stop", ListV(())), given.span)


def _number(record: RecordV, name: str, span: Span, default: int | float | None = None) -> int | float:
    value = record.fields.get(name)
    if value is None and default is not None:
        return default
    if value is None:
        raise fail("MI0207", f"a rollout needs `{name}`", span, help=f"add `{name}: 16`")
    need_literal(value)
    if not isinstance(value, ConstV) or type(value.value) not in (int, float):
        raise fail(
            "MI0301",
            f"`{name}` of a rollout is a number",
            span,
            label=f"this is a {value.kind}",
            help="give it a number that is known now, or a `param`",
        )
    assert isinstance(value.value, (int, float))
    return value.value


def _stops(value: Value, span: Span) -> tuple[str, ...]:
    items = value.items if isinstance(value, ListV) else (value,)
    texts = tuple(v.value for v in items if isinstance(v, ConstV) and isinstance(v.value, str) and v.value)
    if len(texts) != len(items):
        raise fail(
            "MI0301",
            "`stop` of a rollout is a list of texts",
            span,
            help='what ends a row when it is written: `stop: ["\\n"]`',
        )
    return texts


def _check_causal(edit: ir.Edit) -> None:
    """Refuse an edit that writes at one position what later ones decide (MI0412)."""
    for n in ir.walk(edit.value):
        if not has_self(n):
            continue
        over: tuple[str, ...] = ()
        if isinstance(n, ir.Reduce):
            over = tuple(a.name for a in n.axes)
        elif isinstance(n, ir.Select):
            over = (n.axis.name,)
        elif isinstance(n, ir.Apply):
            over = n.over if n.op != "rename" else (str(dict(n.attrs)["old"]),)
        if set(over) & set(POSITIONS):
            raise fail(
                "MI0412",
                "an edit of a rollout goes across positions",
                edit.span,
                label="`self` at one position would decide what is written at another",
                help="use `self` as it is at each position, or values of another run",
            )


def _check_known(edit: ir.Edit, places: ir.Part) -> None:
    """Refuse an edit that is made of a run on the very rows that it helps to write (MI0412)."""
    for n in ir.walk(edit.value):
        if isinstance(n, (ir.Read, ir.Grad)) and n.run.data == places:
            raise fail(
                "MI0412",
                "an edit of a rollout reads the rows that it helps to write",
                edit.span,
                label="they are not there yet",
                help="read a run on the prompts, or edit with `self`",
            )
