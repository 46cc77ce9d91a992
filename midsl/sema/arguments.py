"""The arguments of a function of the language itself, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.sema.calls import axis_names
from midsl.sema.tensors import as_tensor
from midsl.sema.unroll import need_literal
from midsl.sema.values import ConstV, TensorV, Value
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


class Args:
    """The arguments of one builtin call, taken by name; what is left over is an error."""

    def __init__(self, e: Elaborator, fn: str, node: ast.Call, scope: Scope, names: tuple[str, ...]) -> None:
        self.e, self.fn, self.node, self.scope = e, fn, node, scope
        self.given: dict[str, ast.Expr] = {}
        free = iter(names)
        for arg in node.args:
            name = arg.name if arg.name is not None else next(free, None)
            if name is None:
                raise fail(
                    "MI0208",
                    f"`{fn}` takes {len(names)} arguments",
                    arg.span,
                    label="one too many",
                    help=f"parameters: {', '.join(names)}",
                )
            if name not in names:
                raise fail(
                    "MI0206",
                    f"`{fn}` has no parameter `{name}`",
                    arg.span,
                    label="not a parameter",
                    help=did_you_mean(name, names) or f"parameters: {', '.join(names)}",
                )
            if name in self.given:
                raise fail("MI0204", f"`{name}` is given twice", arg.span, help="leave one of the two out")
            self.given[name] = arg.value

    def expr(self, name: str) -> ast.Expr:
        if name not in self.given:
            raise fail(
                "MI0207",
                f"`{self.fn}` needs `{name}`",
                self.node.span,
                label="an argument is missing",
                help=f"add `{name}: ...`",
            )
        return self.given[name]

    def value(self, name: str) -> Value:
        return self.e.eval(self.expr(name), self.scope)

    def tensor(self, name: str) -> TensorV:
        return as_tensor(self.value(name), self.expr(name).span)

    def axes(self, name: str) -> tuple[str, ...] | None:
        return axis_names(self.e, self.given[name], self.scope) if name in self.given else None

    def literal(self, name: str, kind: type, default: object = None) -> object:
        if name not in self.given and default is not None:
            return default
        value = self.value(name)
        need_literal(value)
        if isinstance(value, ConstV):
            if type(value.value) is kind:
                return value.value
            if kind is float and type(value.value) is int:
                return float(value.value)
        words = {int: "a whole number", float: "a number", str: "a string"}[kind]
        raise fail(
            "MI0301",
            f"`{name}` of `{self.fn}` is {words}",
            self.expr(name).span,
            label=f"this is a {value.kind}",
            help=f"give it {words} that is known now, or a `param`",
        )
