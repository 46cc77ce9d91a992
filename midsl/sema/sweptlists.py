"""Sweeps over lists: of literals, of records, and of anything that has a name."""

from __future__ import annotations

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.sema.clauses import DOMAIN, Clause, coord, kind_of
from midsl.sema.values import ConstV, ListV, RecordV, TensorV, Value, VariousV
from midsl.source import Span
from midsl.syntax import ast

Literal = int | float | str | bool


def swept_list(name: str, prefix: str, items: tuple[Value, ...], written: ast.Expr) -> Clause:
    """The clause that walks a list."""
    span = written.span
    if not items:
        raise fail(
            "MI0402",
            "there is nothing to sweep over",
            span,
            label="an empty list",
            help="list at least one value",
        )
    if all(isinstance(i, ConstV) for i in items):
        return _literals(name, prefix, [i.value for i in items if isinstance(i, ConstV)], span)
    if all(isinstance(i, RecordV) for i in items):
        return _records(name, prefix, [i for i in items if isinstance(i, RecordV)], span)
    return _named(name, prefix, items, written)


def _literals(name: str, prefix: str, values: list[Literal], span: Span) -> Clause:
    literals = _uniform(values, span)
    if len(set(literals)) < len(literals):
        raise fail("MI0405", "one value stands twice in what is swept", span, help="leave one of the two out")
    axis = Axis(prefix + name, f"sweep:{name}", len(literals), tuple(literals))
    points = ir.Points(tuple((v,) for v in literals), type=DOMAIN, span=span)

    def value(sweep: ir.Sweep, at: int) -> Value:
        return TensorV(coord(sweep, at, kind_of(literals[0]), span))

    return Clause(name, (prefix + name,), (axis,), points, value, span, lambda p: _const(p[0]))


def _records(name: str, prefix: str, items: list[RecordV], span: Span) -> Clause:
    """``sweep p in zip(layer: [1, 2], dose: [0.5, 1.0])``: a column for each field, one axis."""
    fields = tuple(items[0].fields)
    rows: list[tuple[Literal, ...]] = []
    for item in items:
        literals = [item.fields[f] for f in fields if f in item.fields]
        if len(literals) < len(fields) or not all(isinstance(v, ConstV) for v in literals):
            raise fail(
                "MI0301",
                "swept records hold literals, under the same names",
                span,
                label=f"the first has {', '.join(fields)}",
                help="such as `zip(layer: [0, 1], dose: [0.5, 1.0])`",
            )
        rows.append(tuple(v.value for v in literals if isinstance(v, ConstV)))
    columns = [_uniform([r[i] for r in rows], span) for i in range(len(fields))]
    places = tuple(zip(*columns, strict=True))
    if len(set(places)) < len(places):
        raise fail(
            "MI0405", "one record stands twice in what is swept", span, help="leave one of the two out"
        )
    labels = tuple(columns[0]) if len(fields) == 1 else None
    axis = Axis(prefix + name, f"sweep:{name}", len(rows), labels)

    def value(sweep: ir.Sweep, at: int) -> Value:
        kinds = [kind_of(c[0]) for c in columns]
        return RecordV({f: TensorV(coord(sweep, at + i, kinds[i], span)) for i, f in enumerate(fields)})

    def pinned(point: tuple[ir.Scalar, ...]) -> Value:
        return RecordV({f: _const(v) for f, v in zip(fields, point, strict=True)})

    names = tuple(prefix + f for f in fields)
    points = ir.Points(places, type=DOMAIN, span=span)
    return Clause(name, names, (axis,), points, value, span, pinned)


def _named(name: str, prefix: str, items: tuple[Value, ...], written: ast.Expr) -> Clause:
    """``sweep how in [zero, resample]``, ``sweep at in [.subject, .end]``: each by its name in the list."""
    span = written.span
    items_written = written.items if isinstance(written, ast.ListExpr) else ()
    named = (ast.Name, ast.Field, ast.LateColumn)
    labels = tuple(i.span.text.removeprefix(".") for i in items_written if isinstance(i, named))
    if len(labels) < len(items) or len(set(labels)) < len(labels):
        odd = next((i for i in items if not isinstance(i, ConstV)), items[0])
        raise fail(
            "MI0301",
            "a swept list holds literals, sites, columns or names",
            span,
            label=f"it holds a {odd.kind}",
            help="give each a name of its own first: `sweep x in [first, second]`",
        )
    axis = Axis(prefix + name, f"sweep:{name}", len(labels), labels)
    points = ir.Points(tuple((x,) for x in labels), type=DOMAIN, span=span)
    found = dict(zip(labels, items, strict=True))

    def value(sweep: ir.Sweep, at: int) -> Value:
        return VariousV(sweep, items[0].kind)

    return Clause(name, (prefix + name,), (axis,), points, value, span, lambda p: found[str(p[0])])


def zipped(columns: dict[str, Value], spans: dict[str, Span], span: Span) -> ListV:
    """``zip(a: [..], b: [..])``: records of one item of each list."""
    lists: dict[str, tuple[Value, ...]] = {}
    for field, value in columns.items():
        if not isinstance(value, ListV):
            raise fail(
                "MI0301",
                "`zip` joins lists",
                spans[field],
                label=f"this is a {value.kind}",
                help="write `[..]`",
            )
        lists[field] = value.items
    if not lists or len({len(v) for v in lists.values()}) > 1:
        sizes = ", ".join(f"{f}: {len(v)}" for f, v in lists.items())
        raise fail(
            "MI0301",
            "`zip` joins lists of one length",
            span,
            label=sizes or "there are none",
            help="such as `zip(layer: [0, 1], dose: [0.5, 1.0])`",
        )
    rows = zip(*lists.values(), strict=True)
    return ListV(tuple(RecordV(dict(zip(lists, row, strict=True))) for row in rows))


def _const(value: ir.Scalar) -> ConstV:
    assert value is not None
    return ConstV(value)


def _uniform(values: list[Literal], span: Span) -> list[Literal]:
    """Literals of one type: whole numbers among others become floats."""
    kinds = {type(v) for v in values}
    if kinds == {int, float}:
        return [float(v) for v in values]
    if len(kinds) > 1:
        raise fail(
            "MI0301",
            "the items of a swept list are of one type",
            span,
            help="list numbers only, or strings only",
        )
    return values
