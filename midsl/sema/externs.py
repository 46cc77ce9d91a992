"""An `extern fn` that gives tensors: Python functions in expressions, typed by their declaration.

The result is an operation like any other (``midsl.ops.extern``): lifted over the axes that no parameter
names, with the axes that its type names. An axis that no argument has is new, and how long it is must be
known before anything runs: a number, a parameter (``Float[k=n]``), or the length of an argument's axis that
was given the same name. A function of literals alone is called while binding, and what it gives tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from midsl.diagnostics.model import MiError, fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, Kind, TensorType
from midsl.sema.agree import Signature
from midsl.sema.tensors import apply, as_tensor
from midsl.sema.typenames import TENSORS, written
from midsl.sema.unroll import need_literal
from midsl.sema.values import ConstV, ExternV, ListV, RecordV, TensorV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator


def gives_tensors(t: ast.Type) -> bool:
    """Whether a function of this type gives a tensor, a number, or a record of them."""
    if isinstance(t, ast.RecordType):
        return bool(t.fields) and all(isinstance(f, ast.TypeRef) and f.name in TENSORS for _, f in t.fields)
    return isinstance(t, ast.TypeRef) and t.name in TENSORS


def tensors_of(
    e: Elaborator, func: ExternV, args: Mapping[str, Value], s: Signature, span: Span
) -> TensorV | RecordV:
    """What a call gives: a tensor, or a record of the tensors that the declaration names.

    Raises:
        MiError: MI0301 for an argument that is no value, MI0313 and MI0318 for axes that clash, MI0329 for
            a length that nothing tells.
    """
    decl = func.decl
    lengths = {a.size for t in _types(decl.returns) for a in t.axes}
    is_source = not any(isinstance(p.type, ast.TypeRef) and p.type.axes for p in decl.params)
    operands: list[TensorV] = []
    named: list[tuple[str, ...]] = []

    def encode(value: Value, t: ast.Type, name: str) -> Any:
        if isinstance(t, ast.RecordType) and isinstance(value, RecordV):
            return ("record", *((k, encode(value.fields[k], f, name)) for k, f in t.fields))
        tensor = isinstance(t, ast.TypeRef) and t.name in TENSORS
        if isinstance(value, ConstV):
            return value.value
        if tensor and (is_source or name in lengths):  # at a swept one it is worked out point by point
            need_literal(value)
        if tensor and isinstance(t, ast.TypeRef):
            operands.append(as_tensor(value, span))
            named.append(tuple(s.axes[a.name].name for a in t.axes if not a.rest))
            return ("in", len(operands) - 1, named[-1])
        need_literal(value)
        if isinstance(value, ListV):
            return ("list", *(encode(v, ast.TypeRef("Any"), name) for v in value.items))
        if isinstance(value, RecordV):
            return ("record", *((k, encode(v, ast.TypeRef("Any"), name)) for k, v in value.fields.items()))
        raise fail(
            "MI0301",
            f"a {value.kind} cannot be given to this function",
            span,
            label=f"`{name}` is a {value.kind}",
            help=f"declare what it is, such as `{name}: Float[batch, d]`, or give it a literal",
        )

    params = tuple((p.name, encode(args[p.name], p.type, p.name)) for p in decl.params)
    over = tuple(dict.fromkeys(a for axes in named for a in axes))
    _apart(decl, operands, named, over, span)
    known = {a.name: a for x in operands for a in x.type.axes if a.name in over}
    fields = decl.returns.fields if isinstance(decl.returns, ast.RecordType) else (("", decl.returns),)
    outs = {f: _axes(t, args, s, known) for f, t in fields if isinstance(t, ast.TypeRef)}
    ref = decl.extern or ""
    identity = e.ctx.facts.code(ref) if func.trusted else ""
    attrs: tuple[tuple[str, Any], ...] = (("ref", ref), ("params", params), ("over", over))
    attrs += (("code", identity),) if identity else ()
    if not operands and func.trusted:
        try:
            found = e.ctx.facts.extern(ref, params, _gives(fields, outs))
        except MiError as err:
            raise err.at(span) from None
        if found is not None:
            attrs += (("content", found.content),)
            outs = {f: _told(axes, found.shapes[f]) for f, axes in outs.items()}
    new = {
        f: tuple(a for a in axes if a.name not in known) for f, axes in outs.items()
    }  # others are as long as theirs
    _lengths_known(decl, new, bool(operands), e.ctx.facts.is_bound, span)
    attrs += (("gives", _gives(fields, outs)),)
    made: dict[str, Value] = {}
    for field, t in fields:
        assert isinstance(t, ast.TypeRef)
        made[field] = _field(operands, over, attrs, field, t, outs[field], span)
    return RecordV(made) if isinstance(decl.returns, ast.RecordType) else made[""]  # type: ignore[return-value]


def _types(t: ast.Type) -> Iterator[ast.TypeRef]:
    for f in [f for _, f in t.fields] if isinstance(t, ast.RecordType) else [t]:
        if isinstance(f, ast.TypeRef):
            yield f


def _apart(
    decl: ast.Fn, operands: list[TensorV], named: list[tuple[str, ...]], over: tuple[str, ...], span: Span
) -> None:
    """MI0318 where a value has an axis that its parameter does not name, and another parameter does."""
    for x, own in zip(operands, named, strict=True):
        twice = next((a for a in x.type.axes if a.name in over and a.name not in own), None)
        if twice is not None:
            raise fail(
                "MI0318",
                f"`{decl.name}` goes along `{twice}` of another argument",
                span,
                label=f"this argument has `{twice}` besides: {x.type}",
                help=f"select along `{twice}`, or name the axis in the type of both parameters",
            )


def _axes(
    t: ast.TypeRef, args: Mapping[str, Value], s: Signature, known: Mapping[str, Axis]
) -> tuple[Axis, ...]:
    """The axes of a result: those of arguments, and new ones as long as the declaration tells."""
    axes = []
    for a in t.axes:
        if a.rest:
            continue
        old = s.axes.get(a.name)
        if old is not None and old.name in known:
            axes.append(known[old.name])
            continue
        size: int | None = None
        if isinstance(a.size, int):
            size = a.size
        elif a.size is not None:
            given = args.get(a.size)
            literal = isinstance(given, ConstV) and type(given.value) is int
            size = given.value if literal else s.sizes.get(a.size)  # type: ignore[union-attr]
        axes.append(_new(old.name if old is not None else a.name, size))
    return tuple(axes)


def _new(name: str, size: int | None) -> Axis:
    """An axis of no argument; two of one name are one axis if they are as long."""
    return Axis(name, "", size)


def _told(axes: tuple[Axis, ...], shape: tuple[int, ...]) -> tuple[Axis, ...]:
    return tuple(_new(a.name, n) for a, n in zip(axes, shape, strict=True))


def _gives(fields: Any, outs: Mapping[str, tuple[Axis, ...]]) -> tuple[Any, ...]:
    kinds = {f: _kind(t) for f, t in fields}
    return tuple((f, kinds[f], tuple((a.name, a.size) for a in axes)) for f, axes in outs.items())


def _kind(t: ast.TypeRef) -> Kind:
    kind = TENSORS[t.name]
    return "int" if kind == "token" else kind  # type: ignore[return-value]


def _lengths_known(
    decl: ast.Fn, outs: Mapping[str, tuple[Axis, ...]], takes_tensors: bool, is_bound: bool, span: Span
) -> None:
    """MI0329 where a declaration leaves the length of a new axis open, or nothing that is bound tells it."""
    written_with = {a.name for t in _types(decl.returns) for a in t.axes if a.size is not None}
    for axes in outs.values():
        for a in axes:
            told = a.size is not None or a.name in ("batch", "pos", "key_pos")
            if told or (not is_bound and (a.name in written_with or not takes_tensors)):
                continue
            raise fail(
                "MI0329",
                f"how long is `{a.name}` of what `{decl.name}` gives?",
                span,
                label="results are known before anything runs",
                help=f"say it in the declaration: `{a.name}=8`, or `{a.name}=n` with `n` a parameter or the "
                "length of an argument's axis",
            )


def _field(
    operands: list[TensorV],
    over: tuple[str, ...],
    attrs: tuple[tuple[str, Any], ...],
    field: str,
    t: ast.TypeRef,
    axes: tuple[Axis, ...],
    span: Span,
) -> TensorV:
    lifted = apply("extern", operands, span, drop=over) if operands else None
    outer = lifted.type.axes if lifted is not None else ()
    names = [a.name for a in (*outer, *axes)]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise fail(
            "MI0313",
            f"two axes of `{written(t)}` are called `{twice}`",
            span,
            help="rename the axis of the argument: `rename(x, old: new)`",
        )
    node = ir.Apply(
        "extern",
        tuple(x.node for x in operands),
        (*attrs, ("out", field)),
        type=TensorType(_kind(t), (*outer, *axes), t.unit),
        span=span,
    )
    return TensorV(node, lifted.site if lifted is not None else None)
