"""Lenses: `encode` and `decode` as maps written in the language, over parameters drawn or fitted.

``params({...})`` draws tensors, ``lens(at: .., encode: .., decode: ..)`` makes a lens of two functions. A
lens is gone after elaboration: what remains are tensor expressions (reads and edits: ``midsl.sema.views``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.crossing import with_self
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.sema.tensors import as_tensor, narrowed
from midsl.sema.unroll import need_literal
from midsl.sema.values import (
    AxisV,
    BuiltinV,
    ConstV,
    DrawnV,
    FnV,
    LensV,
    Map,
    RecordV,
    SiteV,
    TensorV,
    Value,
    ViewV,
)
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

PARAMS = PlainType("Params")
DRAWS: dict[str, tuple[str, ...]] = {
    "normal": ("std", "unit"),
    "uniform": ("low", "high", "unit"),
    "zeros": (),
    "ones": (),
    "orthogonal": (),
}
"""How a tensor of parameters may be drawn, and the settings each way has."""


# ---------------------------------------------------------------- parameters


def params(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``params({ enc: normal([d, feature]), dec: same(enc) }, feature: 64)``: a record of tensors."""
    record: ast.Expr | None = None
    sizes: dict[str, int | None] = {}
    seed = 0
    for arg in node.args:
        if arg.name is None and record is None:
            record = arg.value
            continue
        value = e.eval(arg.value, scope)
        if arg.name is not None and isinstance(value, AxisV):
            sizes[arg.name] = value.axis.size
            continue
        need_literal(value)
        if arg.name is None or not (isinstance(value, ConstV) and type(value.value) is int):
            raise fail(
                "MI0301",
                "sizes and `seed` are whole numbers, given by name",
                arg.span,
                help="such as `params({ ... }, feature: 64, seed: 0)`",
            )
        if arg.name == "seed":
            seed = value.value
        elif value.value < 1:
            raise fail("MI0301", f"`{arg.name}` is at least 1 long", arg.span, help="write a larger size")
        else:
            sizes[arg.name] = value.value
    if record is None:
        raise fail(
            "MI0207",
            "`params` needs a record of initial values",
            node.span,
            help="such as `params({ w: normal([d, feature]) }, feature: 64)`",
        )
    ways = {how: BuiltinV(how, _draw(how)) for how in DRAWS} | {"same": BuiltinV("same", _same)}
    given = e.eval(record, scope.child(ways))
    if not isinstance(given, RecordV) or not given.fields:
        raise fail(
            "MI0301",
            "`params` takes a record",
            record.span,
            label=f"this is a {given.kind}",
            help="such as `params({ w: normal([d, feature]) }, feature: 64)`",
        )
    drawn: list[ir.Json] = []
    shapes: dict[str, tuple[Axis | str, ...]] = {}
    for name, value in given.fields.items():
        if not isinstance(value, DrawnV):
            raise fail(
                "MI0301",
                f"`{name}` of `params` is an initial value",
                record.span,
                label=f"this is a {value.kind}",
                help=f"such as `normal([d, feature])`; there are {', '.join(ways)}",
            )
        axes = value.axes
        if value.how == "same":
            other = str(dict(value.settings)["as"])
            if other not in shapes:
                raise fail(
                    "MI0201",
                    f"there is no `{other}` before `{name}`",
                    record.span,
                    help="tensors are drawn in the order they are written: put it first",
                )
            axes = shapes[other]
        shapes[name] = axes
        pairs = tuple((_name(a), _size(a, sizes, node.span)) for a in axes)
        drawn.append((name, value.how, pairs, value.settings))
    made = ir.Params(tuple(drawn), seed, type=PARAMS, span=node.span)

    def axis(a: Axis | str) -> Axis:
        return a if isinstance(a, Axis) else Axis(a, f"lens:{made.digest[:8]}", sizes[a])

    return RecordV(
        {
            n: TensorV(ir.Param(made, n, type=TensorType(axes=tuple(map(axis, s))), span=node.span))
            for n, s in shapes.items()
        }
    )


def _name(axis: Axis | str) -> str:
    return axis.name if isinstance(axis, Axis) else axis


def _size(axis: Axis | str, sizes: Mapping[str, int | None], span: Span) -> int | None:
    if isinstance(axis, Axis):
        return axis.size
    if axis not in sizes:
        raise fail(
            "MI0302",
            f"how long is `{axis}`?",
            span,
            label=f"no size for `{axis}`",
            help=f"write `params({{...}}, {axis}: 64)`, or take the site's axis: `fn f[d](at: Site[d])`",
        )
    return sizes[axis]


def _draw(how: str):  # type: ignore[no-untyped-def]
    def call(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
        if not node.args or node.args[0].name is not None or not isinstance(node.args[0].value, ast.ListExpr):
            raise fail("MI0207", f"`{how}` needs its axes", node.span, help=f"such as `{how}([feature, d])`")
        axes = tuple(_axis(item, scope) for item in node.args[0].value.items)
        names = [_name(a) for a in axes]
        if len(set(names)) < len(names):
            raise fail("MI0313", "one axis stands twice", node.args[0].span, help="name each axis once")
        if how == "orthogonal" and len(axes) != 2:
            raise fail(
                "MI0301",
                "`orthogonal` has two axes: the second holds the vectors",
                node.span,
                help="such as `orthogonal([d, rank])`",
            )
        settings: list[tuple[str, ir.Json]] = []
        for arg in node.args[1:]:
            if arg.name not in DRAWS[how]:
                raise fail(
                    "MI0206",
                    f"`{how}` has no parameter `{arg.name or '?'}`",
                    arg.span,
                    help=did_you_mean(arg.name or "", DRAWS[how]) or f"parameters: {', '.join(DRAWS[how])}",
                )
            if arg.name == "unit":
                unit = _name(_axis(arg.value, scope))
                if unit not in names:
                    raise fail(
                        "MI0302",
                        f"`{how}` has no axis `{unit}`",
                        arg.span,
                        label="not its axis",
                        help=f"name one of its axes: {', '.join(names)}",
                    )
                settings.append(("unit", unit))
                continue
            value = e.eval(arg.value, scope)
            need_literal(value)
            if not (isinstance(value, ConstV) and type(value.value) in (int, float)):
                raise fail(
                    "MI0301",
                    f"`{arg.name}` is a number",
                    arg.span,
                    label=f"this is a {value.kind}",
                    help=f"such as `{arg.name}: 0.02`",
                )
            settings.append((arg.name or "", float(value.value)))
        return DrawnV(how, axes, tuple(settings))

    return call


def _axis(node: ast.Expr, scope: Scope) -> Axis | str:
    if not isinstance(node, ast.Name):
        raise fail(
            "MI0302",
            "an axis name is needed",
            node.span,
            label="not an axis name",
            help="such as `normal([feature, d])`",
        )
    bound = scope.find(node.id)
    return bound.axis if isinstance(bound, AxisV) else node.id


def _same(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``same(dec)``: starts as the tensor of that name, along its axes."""
    if len(node.args) != 1 or not isinstance(node.args[0].value, ast.Name):
        raise fail(
            "MI0207",
            "`same` takes the name of an earlier tensor of the record",
            node.span,
            help="such as `enc: same(dec)` behind `dec: ...`",
        )
    return DrawnV("same", (), (("as", node.args[0].value.id),))


# ---------------------------------------------------------------- lenses


def lens(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``lens(at: x, encode: fn (x) => .., decode: fn (c) => .., decoder: p.dec)``; `from:` is where it reads,

    if that is another site.
    """
    given = {}
    for arg in node.args:
        if arg.name is None:
            help = "`at:`, `encode:`, `decode:`"
            raise fail("MI0207", "the arguments of `lens` have names", arg.span, help=help)
        if arg.name in given:
            raise fail("MI0204", f"`{arg.name}` is given twice", arg.span, help="leave one of the two out")
        given[arg.name] = arg.value
    for name in ("at", "encode", "decode"):
        if name not in given:
            raise fail(
                "MI0207",
                f"`lens` needs `{name}`",
                node.span,
                label="an argument is missing",
                help="it is called `lens(at: x, encode: fn (x) => ..., decode: fn (c) => ...)`",
            )
    at, source = place(e.eval(given["at"], scope), given["at"].span), None
    if "from" in given:
        source = place(e.eval(given["from"], scope), given["from"].span)
    encode = _function(e, given["encode"], scope, "encode")
    decode = _function(e, given["decode"], scope, "decode")
    shows = {n: e.eval(x, scope) for n, x in given.items() if n not in ("at", "from", "encode", "decode")}
    for name, value in shows.items():
        if isinstance(value, FnV) and len(value.params) != 1:
            raise fail(
                "MI0301",
                f"`{name}` of a lens is a function of one value",
                given[name].span,
                help=f"such as `{name}: fn (x) => ...`",
            )
    return make_lens(at, source, encode, decode, shows, node.span)


def make_lens(
    at: SiteV, source: SiteV | None, encode: Map, decode: Map, shows: Mapping[str, Value], span: Span
) -> LensV:
    """A lens of two maps, which are tried on a value that has the site's axes."""
    x, y = probe(source or at), probe(at)
    c = encode(x)
    swept = {a.name for s in ir.sweeps_of(c.node) for a in s.axes}
    code = [a for a in c.type.axes if x.type.axis(a.name) is None and a.name not in swept]
    if len(code) > 1:
        raise fail(
            "MI0301",
            "a code has one axis",
            span,
            label=f"this one has {', '.join(a.name for a in code)}",
            help="reduce the others in `encode`",
        )
    back = decode(c)
    if set(back.type.names) - swept != set(y.type.names):
        raise fail(
            "MI0301",
            "`decode` gives back what the site holds",
            span,
            label=f"it gives {back.type}, the site is {y.type}",
            help="reduce over the axis of the code: `dot(c, p.dec, over: feature)`",
        )
    key = ir.Apply("lens", (c.node, back.node, at.site, (source or at).site)).digest
    return LensV(at, encode, decode, code[0] if code else None, key, shows, source)


def probe(at: SiteV) -> TensorV:
    """A value with the axes that the site has in a run, of no run in particular."""
    gone = {a for a, i in at.site.select if not isinstance(i, (ir.Slice, ir.Star))}
    names = [*(at.together if at.joint else ()), *(a for a in at.row.axes if a not in gone)]
    axes = tuple(joint_axis(at, a) for a in dict.fromkeys(names))
    return TensorV(ir.Self(type=TensorType(axes=axes)))


def joint_axis(at: SiteV, name: str) -> Axis:
    """An axis of a site, as long as it is selected there."""
    axis, index = Axis(name, at.model.owner, at.model.sizes.get(name)), at.site.index(name)
    return narrowed(axis, index) if name == "layer" and index is not None and not is_star(index) else axis


def is_star(index: ir.Node) -> bool:
    """Whether an index is all of an axis."""
    return isinstance(index, ir.Star)


def place(at: Value, span: Span) -> SiteV:
    """One site for a decomposition: MI0410 if it is none."""
    if not isinstance(at, SiteV):
        raise fail(
            "MI0410",
            "a decomposition is at a site",
            span,
            label=f"this is a {at.kind}",
            help="give it `at: m.blocks[3].resid_post`",
        )
    if at.stars and not at.joint:
        raise fail(
            "MI0410",
            "one lens, or one for each member?",
            span,
            label=f"`{at.stars[0]}` is starred",
            help="`joint(sites)` is one place; a function of a `Site` that gives a `Lens` makes one for each",
        )
    return at


def _function(e: Elaborator, node: ast.Expr, scope: Scope, name: str) -> Map:
    """An argument that is a function of one value."""
    value = e.eval(node, scope)
    if not isinstance(value, FnV) or len(value.params) != 1:
        raise fail(
            "MI0301",
            f"`{name}` of a lens is a function of one value",
            node.span,
            label=f"this is a {value.kind}",
            help=f"such as `{name}: fn (x) => ...`",
        )
    return called(value, node.span)


def called(fn: FnV, span: Span) -> Map:
    """A function of one value, as Python calls it."""

    def call(x: TensorV) -> TensorV:
        return as_tensor(fn.body(fn.scope.child({fn.params[0].name: x})), span)

    return call


def with_fit(made: LensV, params: ir.Node, fit: ir.Node, span: Span) -> LensV:
    """The lens with fitted parameters in the place of those it started from."""

    def fitted(node: ir.Node) -> ir.Node:
        return replace(node, of=fit) if isinstance(node, ir.Param) and node.of == params else node

    def after(f: Map) -> Map:
        def call(x: TensorV) -> TensorV:
            # only what the lens itself does is fitted, not what its argument was made of
            inner = f(TensorV(ir.Self(type=x.type)))
            return TensorV(with_self(ir.rewrite(inner.node, fitted), x.node))

        return call

    def shown(v: Value) -> Value:
        if isinstance(v, TensorV):
            return TensorV(ir.rewrite(v.node, fitted))
        if isinstance(v, RecordV):
            return RecordV({n: shown(x) for n, x in v.fields.items()})
        if isinstance(v, FnV):
            map_of = after(called(v, span))
            name = v.params[0].name
            return replace(v, body=lambda scope: map_of(as_tensor(scope.names[name], span)))
        return v

    shows = {n: shown(v) for n, v in made.shows.items()}
    return make_lens(made.at, made.source, after(made.encode), after(made.decode), shows, span)


def lens_field(e: Elaborator, made: LensV, name: str, span: Span) -> Value:
    """``sae.code``, ``sae.error``, ``sae.encode``, ``sae.decode``, ``sae.at``, and what it exposes."""
    if name in ("code", "error"):
        return ViewV(made, name, made.at)
    if name in ("encode", "decode"):
        return BuiltinV(name, lambda e2, node, scope: _apply(e2, made, name, node, scope))
    if name == "at":
        return made.at
    if name in made.shows:
        return made.shows[name]
    known = ["code", "error", "encode", "decode", "at", *made.shows]
    raise fail(
        "MI0205",
        f"this decomposition has no `{name}`",
        span,
        label=f"it has {', '.join(known)}",
        help=did_you_mean(name, known) or f"give `lens` a `{name}:` to have it here",
    )


def _apply(e: Elaborator, made: LensV, name: str, node: ast.Call, scope: Scope) -> Value:
    if len(node.args) != 1 or node.args[0].name:
        raise fail("MI0207", f"`{name}` takes one value", node.span, help=f"such as `sae.{name}(x)`")
    value = as_tensor(e.eval(node.args[0].value, scope), node.args[0].span)
    return made.encode(value) if name == "encode" else made.decode(value)
