"""Controls: ``control v = ...`` re-runs each experiment that uses `v` with another value in its place.

The reports of such a re-run are tables of an experiment of their own, ``NAME_under_v``; the variable of a
comprehension in the control (``for draw in 0..20``) is one of their columns. In an experiment, ``control(x)``
is what `x` comes to under the control, so that a claim may compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from midsl.diagnostics.model import Bag, Label, MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.sema.arguments import Args
from midsl.sema.comprehend import comprehension
from midsl.sema.unroll import meaning
from midsl.sema.values import ControlsV, ListV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


def controls_of(statements: Iterable[ast.Decl | ast.Stmt], bag: Bag) -> dict[str, ast.Binding]:
    """The controls of a file or a body, by the name that each replaces: MI0204 for two of one name."""
    found: dict[str, ast.Binding] = {}
    for s in statements:
        if not (isinstance(s, ast.Binding) and s.role == "control"):
            continue
        if s.name in found:
            err = fail(
                "MI0204",
                f"`{s.name}` has two controls",
                s.name_span,
                label="controlled again here",
                notes=[Label(found[s.name].name_span, "controlled here first")],
                help="put both into one: `control v = [... for draw in 0..2]`",
            )
            bag.extend(err.diagnostics)
        found.setdefault(s.name, s)
    return found


def value_of(e: Elaborator, stmt: ast.Binding, scope: Scope) -> Value:
    """The value that a control puts in the place of a binding; its draws lie along an axis."""
    if scope.find(stmt.name) is None:
        raise fail(
            "MI0201",
            f"there is no `{stmt.name}` to control",
            stmt.name_span,
            label="a control has the name of the binding that it replaces",
            help=did_you_mean(stmt.name, scope.all_names())
            or "bind it first; the control stands in its place",
        )
    if isinstance(stmt.value, ast.Comprehension):
        value: Value = comprehension(e, stmt.value, scope, sweep_all=True)
    else:
        value = e.eval(stmt.value, scope)
    if isinstance(value, ListV) and value.axis is None:
        raise fail(
            "MI0301",
            "the draws of a control are a comprehension",
            stmt.value.span,
            label="this is a list" if value.items else "there are none",
            help="such as `[... for draw in 0..20]`",
        )
    return value


def differing(sinks: tuple[ir.Node, ...], others: Mapping[str, ir.Report]) -> tuple[ir.Node, ...]:
    """The reports that are not what they are without the control."""
    reports = [s for s in sinks if isinstance(s, ir.Report)]
    own = {name: meaning(r.value) for name, r in others.items()}
    return tuple(s for s in reports if own.get(s.name) != meaning(s.value))


def control(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``control(x)``, ``control(x, of: v)``: what an expression comes to with a control in place."""
    args = Args(e, "control", node, scope, ("x", "of"))
    known = scope.find("@controls")
    if not isinstance(known, ControlsV) or not known.under:
        raise fail(
            "MI0322",
            "there is no control here",
            node.span,
            label="neither this experiment nor its file has one",
            help="such as `control v = [random_direction(at: x, seed: draw) for draw in 0..20]`",
        )
    names = list(known.under)
    of = args.expr("of") if "of" in args.given else None
    name = of.id if isinstance(of, ast.Name) else names[0]
    if of is None and len(names) > 1:
        raise fail(
            "MI0322", "under which control?", node.span, label=f"of {', '.join(names)}", help="say `of: v`"
        )
    if name not in known.under or (of is not None and not isinstance(of, ast.Name)):
        raise fail(
            "MI0322",
            f"nothing controls `{name}`",
            args.expr("of").span,
            label=f"controls: {', '.join(names)}",
            help=did_you_mean(name, names) or f"say `of: {names[0]}`",
        )
    return known.under[name](args.expr("x"))


def refuse_unused(unused: Mapping[str, Span]) -> MiError:
    """Controls that change no report of any experiment."""
    name, span = next(iter(unused.items()))
    return fail(
        "MI0322",
        f"control `{name}` changes no report",
        span,
        label=f"no experiment reports what depends on `{name}`",
        help="remove it, or report what it is a control of",
    )
