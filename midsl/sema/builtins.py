"""The functions of the language itself: reductions, elementwise maths, grad, except, top, train.

All else that a spec calls is written in `.mi` in the standard library on top of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Kind, PlainType
from midsl.sema import tensors
from midsl.sema.algebra import (
    concat,
    dot,
    eigenvectors,
    group_max,
    rename,
    solve,
    step,
    top_mask,
)
from midsl.sema.arguments import Args
from midsl.sema.contexts import contexts, top_values
from midsl.sema.controls import control
from midsl.sema.dependent import own_names
from midsl.sema.directions import jvp
from midsl.sema.draws import draw_values, shuffle
from midsl.sema.edgegates import numbered
from midsl.sema.edges import EdgesV, without
from midsl.sema.fits import OPTIMISERS, fitted
from midsl.sema.gradients import grad
from midsl.sema.graphfiles import stored_graph
from midsl.sema.graphs import called_so, graph, regroup
from midsl.sema.lenses import lens, params
from midsl.sema.lensfamily import joint
from midsl.sema.overlap import except_
from midsl.sema.stored import stored
from midsl.sema.subspaces import split_subspace
from midsl.sema.sweptlists import zipped
from midsl.sema.tensors import apply, as_tensor
from midsl.sema.training import optimiser, train
from midsl.sema.values import (
    BuiltinV,
    ConstV,
    FnV,
    SitesV,
    SiteV,
    TensorV,
    TopV,
    Value,
)
from midsl.sema.where import condition, groups
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

REDUCTIONS = ("mean", "sum", "min", "max", "count", "all", "any", "std", "var")
OF_ALL = ("min", "max", "all", "any")
"""Reductions that may go over everything: in whatever order, they give the same."""
UNARY = (
    *("abs", "exp", "log", "sqrt", "relu", "gelu", "silu", "sigmoid", "tanh", "sign", "square"),
    "stop_gradient",
)
TESTS = ("isfinite",)
PAIRWISE = ("minimum", "maximum")
ALONG = {"softmax": None, "log_softmax": "nat", "normalize": None, "cumsum": None, "rank": None}
ACROSS = {"logsumexp": None, "norm": None, "argmax": None, "argmin": None, "entropy": "nat"}
CONTRACT = {"cosine": "cosine", "kl_divergence": "kl", "js_divergence": "js"}


def _reduction(op: str) -> Callable[..., Value]:
    def call(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
        if op in ("min", "max") and _of_two(node, scope):
            return _least(e, op, node, scope)
        args = Args(e, op, node, scope, ("x", "over", "where", "by"))
        value = args.value("x")
        if op in ("all", "any") and isinstance(value, ConstV) and isinstance(value.value, bool):
            return value
        x = as_tensor(value, args.expr("x").span)
        if op in ("all", "any", "count") and x.type.kind != "bool":
            raise fail(
                "MI0301",
                f"`{op}` needs truth values",
                args.expr("x").span,
                label=f"this is {x.type}",
                help="compare it with something",
            )
        if "over" not in args.given and op not in OF_ALL:
            raise fail(
                "MI0207", f"`{op}` over which axes?", node.span, label="`over:` is missing", help=_over(x)
            )
        over = args.axes("over")
        where = condition(e, args.expr("where"), scope, x.node) if "where" in args.given else None
        if "by" in args.given:
            if over is not None and "batch" not in over:
                raise fail(
                    "MI0311",
                    "`by:` groups examples",
                    args.expr("by").span,
                    label="this reduction leaves them as they are",
                    help="name `batch` in `over:`",
                )
            group = groups(e, args.expr("by"), scope, x.node, args.expr("by").span)
            where = group if where is None else apply("and", (where, group), node.span, kind="bool")
        return tensors.reduce(op, x, over, node.span, where)

    return call


def _over(x: TensorV) -> str:
    """How to say what is to go."""
    names = list(dict.fromkeys(map(str, x.type.axes)))
    if not names:
        return "this has no axis: leave the reduction out"
    return f"write `over: {names[0] if len(names) == 1 else '[' + ', '.join(names) + ']'}`, or some of them"


def _of_two(node: ast.Call, scope: Scope) -> bool:
    """Whether `min` or `max` is asked of two values, and not of one along an axis."""
    if len(node.args) != 2 or any(a.name is not None for a in node.args):
        return False
    second = node.args[1].value
    if isinstance(second, ast.ListExpr):
        return False
    return not isinstance(second, ast.Name) or scope.find(second.id) is not None


def _least(e: Elaborator, op: str, node: ast.Call, scope: Scope) -> Value:
    """``max(0, l - 5)``: the greater of two values."""
    a, b = (e.eval(x.value, scope) for x in node.args)
    numbers = [v.value for v in (a, b) if isinstance(v, ConstV) and not isinstance(v.value, str)]
    if len(numbers) == 2:
        return ConstV(min(numbers) if op == "min" else max(numbers))
    spans = [x.value.span for x in node.args]
    tensors_ = as_tensor(a, spans[0]), as_tensor(b, spans[1])
    whole = all(t.type.kind == "int" for t in tensors_)
    return apply(
        "minimum" if op == "min" else "maximum", tensors_, node.span, kind="int" if whole else "float"
    )


def _unary(op: str) -> Callable[..., Value]:
    def call(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
        x = Args(e, op, node, scope, ("x",)).tensor("x")
        kind: Kind = x.type.kind if op in ("abs", "sign", "square", "relu", "stop_gradient") else "float"
        kind = "bool" if op in TESTS else kind
        return apply(op, (x,), node.span, kind=kind)

    return call


def _pairwise(op: str) -> Callable[..., Value]:
    def call(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
        args = Args(e, op, node, scope, ("a", "b"))
        return apply(op, (args.tensor("a"), args.tensor("b")), node.span)

    return call


def _along(op: str, unit: str | None, drops: bool) -> Callable[..., Value]:
    def call(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
        args = Args(e, op, node, scope, ("x", "over"))
        x, over = args.tensor("x"), args.axes("over")
        if over is None or len(over) != 1:
            raise fail(
                "MI0207",
                f"`{op}` needs one axis: `over:`",
                node.span,
                help=f"add an axis: `{op}(x, over: vocab)`",
            )
        over = (tensors.find_axis(x.type, over[0], args.expr("over").span, f"take `{op}` over").name,)
        kind: Kind = "int" if op.startswith("arg") or op == "rank" else "float"
        attrs = (("over", over[0]),)
        return apply(op, (x,), node.span, kind=kind, attrs=attrs, drop=over if drops else (), unit=unit)

    return call


def _contract(name: str, op: str) -> Callable[..., Value]:
    def call(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
        args = Args(e, name, node, scope, ("a", "b", "over"))
        a, b, over = args.tensor("a"), args.tensor("b"), args.axes("over")
        if over is None or len(over) != 1:
            raise fail(
                "MI0207",
                f"`{name}` needs one axis: `over:`",
                node.span,
                help=f"add the axis that both have: `{name}(a, b, over: d_model)`",
            )
        for x in (a, b):
            tensors.find_axis(x.type, over[0], args.expr("over").span, f"take `{name}` over")
        unit = "nat" if op in ("kl", "js") else None
        return apply(op, (a, b), node.span, attrs=(("over", over[0]),), drop=over, unit=unit)

    return call


def _where(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    args = Args(e, "where", node, scope, ("cond", "a", "b"))
    return apply("where", (args.tensor("cond"), args.tensor("a"), args.tensor("b")), node.span)


def _clamp(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    args = Args(e, "clamp", node, scope, ("x", "min", "max"))
    attrs = tuple((k, float(args.literal(k, float))) for k in ("min", "max") if k in args.given)  # type: ignore[arg-type]
    return apply("clamp", (args.tensor("x"),), node.span, attrs=attrs)


def _except(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    args = Args(e, "except", node, scope, ("family", "set"))
    family, taken = args.value("family"), args.value("set")
    if isinstance(family, EdgesV) and isinstance(taken, EdgesV):
        return without(family, taken, node.span)
    members = taken.members if isinstance(taken, SitesV) else (taken,) if isinstance(taken, SiteV) else None
    if not isinstance(family, SiteV) or members is None:
        raise fail(
            "MI0410",
            "`except` takes a family of sites and the sites to leave out",
            node.span,
            help='such as `except(z, z["7.3"])`, with `z` a starred site',
        )
    if any(m.site.name != family.site.name for m in members):
        raise fail(
            "MI0410",
            "what is left out must belong to the family",
            args.expr("set").span,
            label="another site",
            help='take out members of that family: `except(z, h)` with `h` swept over `z`, or `z["7.3"]`',
        )
    return except_(family, members, node.span)


def _top(name: str) -> Callable[..., Value]:
    def call(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
        args = Args(e, name, node, scope, ("x", "k", "over") if name == "top_index" else ("x", "k"))
        x, k = args.tensor("x"), args.literal("k", int)
        assert isinstance(k, int)
        if k < 1:
            raise fail(
                "MI0402", "`k` is at least 1", args.expr("k").span, help="write how many to keep: `k: 8`"
            )
        if name == "top_index":
            over = args.axes("over") or own_names(x.node)
            if own_names(x.node) != tuple(over):
                raise fail(
                    "MI0301",
                    "`top_index` needs one axis",
                    args.expr("x").span,
                    label=f"this is {x.type}",
                    help="reduce the others first",
                )
            return TopV(ir.Top(x.node, k, type=PlainType("Domain"), span=node.span), None)
        if x.site is None or set(own_names(x.node)) != set(x.site.stars):
            raise fail(
                "MI0301",
                "`top_sites` ranks the members of one family",
                args.expr("x").span,
                label=f"this is {x.type}",
                help="its axes must be just those that the family's `*` made",
            )
        return TopV(ir.Top(x.node, k, type=PlainType("Domain"), span=node.span), x.site)

    return call


def _zip(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``zip(layer: [1, 2], dose: [0.5, 1.0])``: records of one item of each list."""
    lists: dict[str, Value] = {}
    spans: dict[str, Span] = {}
    for arg in node.args:
        if arg.name is None or arg.name in lists:
            help = "such as `zip(layer: [0, 1], dose: [0.5, 1.0])`"
            raise fail("MI0208", "each list of `zip` has a name of its own", arg.span, help=help)
        lists[arg.name], spans[arg.name] = e.eval(arg.value, scope), arg.value.span
    return zipped(lists, spans, node.span)


def _iterate(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``iterate(init, fn (x) => ..., steps: n)``: a function applied to its own result, so many times."""
    args = Args(e, "iterate", node, scope, ("init", "fn", "steps"))
    value, fn, steps = args.value("init"), args.value("fn"), args.literal("steps", int)
    assert isinstance(steps, int)
    if not isinstance(fn, FnV) or len(fn.params) not in (1, 2):
        raise fail(
            "MI0301",
            "`iterate` needs a function of the value, or of the value and the step",
            args.expr("fn").span,
            label=f"this is a {fn.kind}",
            help="such as `fn (x) => x / 2` or `fn (x, step) => x + step`",
        )
    if steps < 0:
        raise fail("MI0301", "`steps` is at least 0", args.expr("steps").span, help="0 gives `init` itself")
    for i in range(steps):
        e.ctx.spend(1, node.span)
        given = dict(zip((p.name for p in fn.params), (value, ConstV(i)), strict=False))
        value = fn.body(fn.scope.child(given))
    return value


BUILTINS: dict[str, BuiltinV] = {
    name: BuiltinV(name, call)
    for name, call in {
        **{op: _reduction(op) for op in REDUCTIONS},
        **{op: _unary(op) for op in (*UNARY, *TESTS)},
        **{op: _pairwise(op) for op in PAIRWISE},
        **{op: _along(op, unit, drops=False) for op, unit in ALONG.items()},
        **{op: _along(op, unit, drops=True) for op, unit in ACROSS.items()},
        **{name: _contract(name, op) for name, op in CONTRACT.items()},
        **{name: optimiser(name) for name in OPTIMISERS},
        "where": _where,
        "clamp": _clamp,
        "grad": grad,
        "jvp": jvp,
        "except": _except,
        "top_sites": _top("top_sites"),
        "top_index": _top("top_index"),
        **{f.__name__: f for f in (dot, concat, top_mask, group_max, rename, eigenvectors, solve, step)},
        **{f.__name__: f for f in (contexts, top_values)},
        "orthonormal": _along("orthonormal", None, drops=False),
        "train": train,
        "zip": _zip,
        "iterate": _iterate,
        "control": control,
        "params": params,
        "lens": lens,
        "joint": joint,
        "fitted": fitted,
        "stored": stored,
        "stored_graph": stored_graph,
        "graph": graph,
        "regroup": regroup,
        "named": called_so,
        "numbered": numbered,
        "split_subspace": split_subspace,
        "normal": draw_values("normal"),
        "uniform": draw_values("uniform"),
        "shuffle": shuffle,
    }.items()
}
