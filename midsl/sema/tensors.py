"""Tensor expressions: how axes combine, and what each form of expression has for a type.

One law: values combine by axis name, and an operation is lifted over every axis it does not name.
Two axes of one name must be the same axis (same owner, same stretch), or the expression is refused.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from midsl.data.ranges import range_text
from midsl.diagnostics.model import Label, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, Kind, TensorType
from midsl.sema.values import ConstV, ListV, TensorV, Value
from midsl.source import NO_SPAN, Span

COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne", "~=": "approx"}
ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "%": "mod", "**": "pow"}


def const(value: int | float | str | bool, span: Span = NO_SPAN) -> TensorV:
    """Turn a literal into a scalar tensor node."""
    kind: Kind = "bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "float"
    return TensorV(ir.Const(value, type=TensorType(kind), span=span))


def as_tensor(value: Value, span: Span) -> TensorV:
    """Return the value as a tensor, or refuse it (MI0301)."""
    if isinstance(value, TensorV):
        return value
    if isinstance(value, ConstV) and not isinstance(value.value, str):
        return const(value.value, span)
    if isinstance(value, ListV) and value.axis is not None and value.items:
        return stack([as_tensor(i, span) for i in value.items], value.axis, span)
    if isinstance(value, ListV) and value.items and all(isinstance(i, ConstV) for i in value.items):
        raise fail(
            "MI0301",
            "a list is not a tensor here",
            span,
            label="this is a list",
            help="sweep over the list (`sweep x in [...]`), or index with it (`t[axis: [...]]`)",
        )
    from midsl.sema.values import ColumnV

    hints = {
        "Run": "read something of the run: `r.logits`, or `r[site]`",
        "Site": "a site is a place; its value in a run is `r[site]`",
        "String": "write a number; strings only label and compare",
        "Model": "run it, and read something: `(run m on d.clean).logits`",
        "module": "name something in it, such as `metrics.nll`",
        "function": "call it: `ld(r)`",
    }
    if isinstance(value, ColumnV) and value.column_kind in ("token", "number", "pos", "state"):
        return TensorV(value.node)
    raise fail(
        "MI0301",
        f"a number or tensor is needed, and this is a {value.kind}",
        span,
        label=f"this is a {value.kind}",
        help=hints.get(value.kind, "read a number of it, or leave it out"),
    )


def join_axes(values: Iterable[ir.Node], span: Span) -> tuple[Axis, ...]:
    """The union of the axes of some tensors, by name, in order of first appearance.

    Raises:
        MiError: MI0304 where two runs' `batch` or `pos` differ, MI0303 for any other axis.
    """
    found: dict[str, tuple[Axis, ir.Node]] = {}
    for node in values:
        for axis in node.tensor_type.axes:
            known = found.get(axis.name)
            if known is None:
                found[axis.name] = (axis, node)
            elif not known[0].same_as(axis) or unlike(known[0], axis):
                raise _mismatch(known[0], known[1], axis, node, span)
            elif known[0].size is None and axis.size is not None:
                found[axis.name] = (axis, node)
    return tuple(a for a, _ in found.values())


def unlike(a: Axis, b: Axis) -> bool:
    """Whether two axes that belong to nothing have different lengths."""
    return not a.owner and None not in (a.size, b.size) and a.size != b.size


def _mismatch(a: Axis, at: ir.Node, b: Axis, bt: ir.Node, span: Span) -> Exception:
    runs = a.name in ("batch", "pos")
    where = [
        Label(n.span, f"`{x.name}` of {_owner(x)}") for x, n in ((a, at), (b, bt)) if n.span is not NO_SPAN
    ]
    if a.owner == b.owner and a.span != b.span:
        return fail(
            "MI0303",
            f"these values cover different stretches of `{a.name}`",
            span,
            label=f"`{a.span or 'the whole row'}` against `{b.span or 'the whole row'}`",
            notes=where,
            help="select the same stretch on both sides, such as `x[pos: ..-1]`",
        )
    if runs:
        return fail(
            "MI0304",
            f"these two values do not share a `{a.name}` axis",
            span,
            label="their rows come from different data",
            notes=where,
            help="take both from one paired data set, or reduce the axis first (`mean(x, over: batch)`)",
        )
    return fail(
        "MI0303",
        f"`{a.name}` is not the same axis on both sides",
        span,
        label=f"{_owner(a)} against {_owner(b)}",
        notes=where,
        help="take both from one graph, or join the graphs: `g | h`"
        if a.owner.startswith("graph:") and b.owner.startswith("graph:")
        else f"select along `{a.name}` on one side, or prefix a swept family's axes with `as`",
    )


def _owner(axis: Axis) -> str:
    size = f" ({axis.size} long)" if axis.size is not None else ""
    kind = "data set" if axis.name in ("batch", "pos") else "owner"
    return f"{kind} {axis.owner[:8] or 'none'}{size}"


def _site(values: Sequence[TensorV]) -> object:
    sites = {v.site.site.digest: v.site for v in values if v.site is not None}
    return next(iter(sites.values())) if len(sites) == 1 else None


def _unit(op: str, units: Sequence[str | None], span: Span) -> str | None:
    known = [u for u in units if u is not None]
    if op in ("add", "sub", "minimum", "maximum", "approx", "lt", "le", "gt", "ge", "eq", "ne"):
        if len(set(known)) > 1:
            raise fail(
                "MI0305",
                f"{known[0]} and {known[1]} cannot be combined here",
                span,
                label=f"units <{known[0]}> and <{known[1]}>",
                help="compare like with like, or divide by a reference of the same unit first",
            )
        return known[0] if known and op in ("add", "sub", "minimum", "maximum") else None
    if op == "mul":
        return known[0] if len(known) == 1 else None
    if op == "div":
        return units[0] if units[1] is None else None
    if op in ("neg", "abs", "relu", "clamp", "where"):
        return known[0] if known else None
    return None


def apply(
    op: str,
    args: Sequence[TensorV],
    span: Span,
    *,
    kind: Kind = "float",
    attrs: tuple[tuple[str, ir.Json], ...] = (),
    drop: tuple[str, ...] = (),
    unit: str | None = None,
) -> TensorV:
    """Build an `Apply`: axes joined by name, `drop`ped ones gone; the unit by rule unless given."""
    axes = tuple(a for a in join_axes([v.node for v in args], span) if a.name not in drop)
    unit = unit if unit is not None else _unit(op, [v.type.unit for v in args], span)
    node = ir.Apply(op, tuple(v.node for v in args), attrs, type=TensorType(kind, axes, unit), span=span)
    site = _site(args)
    return TensorV(node, site)  # type: ignore[arg-type]


def stack(items: Sequence[TensorV], axis: Axis, span: Span) -> TensorV:
    """Values side by side along an axis; they share a unit (MI0305), and have not that axis yet (MI0313)."""
    shared = join_axes([v.node for v in items], span)
    if any(a.name == axis.name for a in shared):
        raise fail(
            "MI0313",
            f"two axes of this value are called `{axis}`",
            span,
            help="give the variable another name",
        )
    kinds = {v.type.kind for v in items}
    units = {v.type.unit for v in items}
    if len(units) > 1 and "bool" not in kinds:
        names = " and ".join(f"<{u}>" if u else "no unit" for u in sorted(units, key=str))
        raise fail(
            "MI0305",
            f"the values along `{axis}` are of different units",
            span,
            label=names,
            help="divide each by a reference of its own unit first",
        )
    kind: Kind = next(iter(kinds)) if len(kinds) == 1 else "float"
    if "bool" in kinds and len(kinds) > 1:
        raise fail(
            "MI0301",
            f"truth values and numbers along one axis `{axis}`",
            span,
            help="make them all numbers: `where(cond, 1.0, 0.0)`",
        )
    attrs: tuple[tuple[str, ir.Json], ...] = (("axis", axis.name), ("labels", axis.labels))
    t = TensorType(kind, (axis, *shared), next(iter(units)))
    node = ir.Apply("stack", tuple(v.node for v in items), attrs, type=t, span=span)
    return TensorV(node, _site(items))  # type: ignore[arg-type]


def binary(op: str, left: Value, right: Value, span: Span) -> Value:
    """Arithmetic on two values; two literals are folded at once."""
    if isinstance(left, ConstV) and isinstance(right, ConstV):
        return fold(op, left, right, span)
    a, b = as_tensor(left, span), as_tensor(right, span)
    whole = {a.type.kind, b.type.kind} <= {"int", "token"}  # the id of a token is a number, too
    kind: Kind = "int" if whole and op != "/" else "float"
    return apply(ARITHMETIC[op], (a, b), span, kind=kind)


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
    "**": operator.pow,
}


_LONGEST = 1_000_000
_BITS = 63  # of a whole number, besides its sign


def fold(op: str, left: ConstV, right: ConstV, span: Span) -> ConstV:
    """Arithmetic on two literals, as Python does it; division always gives a float."""
    a, b = left.value, right.value
    if isinstance(a, str) and isinstance(b, str) and op == "+":
        if len(a) + len(b) > _LONGEST:
            help = "read long texts from a file"
            raise fail(
                "MI0314", "this string is too long", span, label=f"over {_LONGEST:_} characters", help=help
            )
        return ConstV(a + b)
    if isinstance(a, str) or isinstance(b, str):
        raise fail(
            "MI0301",
            f"`{op}` needs numbers",
            span,
            label=f"{left.kind} {op} {right.kind}",
            help="`+` also joins two strings",
        )
    if op in ("/", "%") and b == 0:
        raise fail(
            "MI0301",
            "division by zero",
            span,
            label="the divisor is 0",
            help="divide by something that is not 0",
        )
    large = fail(
        "MI0301",
        "the result is too large for a number",
        span,
        label="beyond 64 bits",
        help="use a float: `2.0 ** 80`",
    )
    if op == "**" and type(a) is type(b) is int and abs(a) > 1 and b * math.log2(abs(a)) > _BITS:
        raise large  # before it is computed: a tower of powers would never end
    try:
        result = _ARITHMETIC[op](a, b)
    except OverflowError:
        raise large from None
    except ZeroDivisionError:
        raise fail(
            "MI0301",
            "division by zero",
            span,
            label="a negative power of 0",
            help="divide by something that is not 0",
        ) from None
    if type(result) is int and result.bit_length() > _BITS:
        raise large
    if not isinstance(result, (int, float)):
        raise fail(
            "MI0301",
            f"`{op}` of these has no real value",
            span,
            help="take the power of a number that is not negative",
        )
    return ConstV(result)


def compare(op: str, left: Value, right: Value, span: Span, within: float | None) -> Value:
    """A comparison: Bool with the joined axes."""
    if isinstance(left, ConstV) and isinstance(right, ConstV) and op != "~=":
        x, y = left.value, right.value
        if isinstance(x, str) != isinstance(y, str):
            raise fail(
                "MI0301",
                f"{left.kind} and {right.kind} cannot be compared",
                span,
                help="compare numbers with numbers, and strings with strings",
            )
        table = {"==": x == y, "!=": x != y}
        if op not in table:
            table = {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}  # type: ignore[operator]
        return ConstV(table[op])
    a, b = as_tensor(left, span), as_tensor(right, span)
    attrs: tuple[tuple[str, ir.Json], ...] = ()
    if op == "~=":
        attrs = (("tol", within),) if within is not None else ()
    elif op in ("==", "!=") and "float" in (a.type.kind, b.type.kind):
        raise fail(
            "MI0310",
            f"`{op}` on floating-point values",
            span,
            label="rounding decides this, not the claim",
            help="write `a ~= b`, or `a ~= b within 1e-3`",
        )
    return apply(COMPARISONS[op], (a, b), span, kind="bool", attrs=attrs)


def find_axis(t: TensorType, name: str, span: Span, doing: str) -> Axis:
    """The named axis of a type, or MI0311/MI0302 with what there is."""
    axis = t.axis(name)
    if axis is not None:
        return axis
    swept = [a for a in t.axes if str(a) == name]  # swept positions go by their plain name, too
    if len(swept) == 1:
        return swept[0]
    have = ", ".join(map(str, t.axes)) or "none"
    raise fail(
        "MI0311",
        f"there is no axis `{name}` to {doing}",
        span,
        label=f"this has axes: {have}",
        help=did_you_mean(name, t.names)
        or (f"name one of {have}" if t.axes else "this is one number: leave the axis out"),
    )


def reduce(
    op: str, value: TensorV, over: Sequence[str] | None, span: Span, where: TensorV | None = None
) -> TensorV:
    """A reduction over named axes (over all of them where none is named)."""
    names = value.type.names if over is None else tuple(over)
    axes = tuple(find_axis(value.type, n, span, "reduce over") for n in names)
    if not axes and over is None and op not in ("all", "any", "count"):
        return value
    left = join_axes([value.node, *([where.node] if where else [])], span)
    gone = {a.name for a in axes}
    kept = tuple(a for a in left if a.name not in gone)
    kind: Kind = {"all": "bool", "any": "bool", "count": "int"}.get(op, "float")  # type: ignore[assignment]
    if op in ("sum", "max", "min") and value.type.kind == "int":
        kind = "int"
    unit = value.type.unit if op in ("mean", "sum", "max", "min", "std") else None
    node = ir.Reduce(
        op, value.node, axes, where.node if where else None, type=TensorType(kind, kept, unit), span=span
    )
    return TensorV(node, value.site)


def select_type(t: TensorType, axis: Axis, index: ir.Node, extra: Sequence[Axis], span: Span) -> TensorType:
    """The type after indexing one axis; `extra` are axes that the index brings along."""
    if isinstance(index, ir.Slice) or (isinstance(index, ir.Column) and _is_span(index)):
        return replace(t, axes=tuple(narrowed(a, index) if a is axis else a for a in t.axes))
    if isinstance(index, ir.Const) and isinstance(index.value, tuple):
        return replace(t, axes=tuple(narrowed(a, index) if a is axis else a for a in t.axes))
    kept = [a for a in t.axes if a is not axis]
    for e in extra:
        same = next((a for a in kept if a.name == e.name), None)
        if same is None:
            kept.append(e)
        elif not same.same_as(e):
            raise fail(
                "MI0304",
                f"the index and the value do not share a `{e.name}` axis",
                span,
                help="take the index from the data that the run is on",
            )
    return replace(t, axes=tuple(kept))


def _is_span(column: ir.Column) -> bool:
    return isinstance(column.type, TensorType) is False and getattr(column.type, "name", "") == "Span"


def stretch(index: ir.Node) -> str:
    """The name of the stretch of positions that an index selects (see ``midsl.data.ranges``)."""
    if isinstance(index, ir.Slice):
        return range_text(index.lo, index.hi, index.step)
    if isinstance(index, ir.Column):
        return index.name
    assert isinstance(index, ir.Const) and isinstance(index.value, tuple)
    return str(list(index.value))


def narrowed(axis: Axis, index: ir.Node) -> Axis:
    """The axis that is left after selecting a stretch or a list of it."""
    if isinstance(index, ir.Column):
        return replace(axis, span=index.name, size=None)
    if axis.name in ("pos", "key_pos"):
        return replace(axis, span=stretch(index), size=None)
    if axis.size is None:
        return replace(axis, size=None)
    labels = axis.labels or tuple(range(axis.size))
    if isinstance(index, ir.Slice):
        labels = labels[index.lo : index.hi : index.step]
    elif isinstance(index, ir.Const) and isinstance(index.value, tuple):
        labels = tuple(i if axis.labels else labels[i] for i in index.value)  # type: ignore[index,misc]
    return replace(axis, size=len(labels), labels=labels)
