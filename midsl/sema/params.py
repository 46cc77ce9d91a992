"""Parameters: defaults in the text, values on the command line, both checked against the type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.sema.values import ConstV, TypeV, Value
from midsl.sema.wellformed import check_names
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

_SUCH = {"Int": "64", "Float": "0.5", "Bool": "true", "String": "name"}
_TYPES: dict[str, type] = {"Int": int, "Float": float, "String": str, "Bool": bool}


def param_value(e: Elaborator, param: ast.Param, scope: Scope) -> Value:
    """The value of a ``param``: MI0308 if it is not of the declared type."""
    check_names(param.type, scope)
    written = param.type
    while isinstance(written, ast.TypeRef) and isinstance(alias := scope.find(written.name), TypeV):
        written = alias.type
    name = written.name if isinstance(written, ast.TypeRef) and not written.axes else ""
    if name not in _TYPES:
        raise fail(
            "MI0308",
            "a parameter is Int, Float, String or Bool",
            param.type.span,
            label="another type",
            help="for anything else write `let`",
        )
    given = e.ctx.params.get(param.name)
    if given is not None:
        return ConstV(_parse(param, name, given))
    if param.value is None:
        raise fail(
            "MI0207",
            f"parameter `{param.name}` has no value",
            param.span,
            help=f"give one: `-p {param.name}=...`",
        )
    value = e.eval(param.value, scope)
    kind = _TYPES[name]
    if isinstance(value, ConstV):
        if type(value.value) is kind:
            return value
        if kind is float and type(value.value) is int:
            return ConstV(float(value.value))
    raise fail(
        "MI0308",
        f"`{param.name}` is declared {name}",
        param.value.span,
        label=f"this is a {value.kind}",
        help=f"give it {name}, or declare another type",
    )


def _parse(param: ast.Param, kind: str, text: str) -> int | float | str | bool:
    try:
        if kind == "Int":
            return int(text.replace("_", ""))
        if kind == "Float":
            return float(text)
        if kind == "Bool":
            return {"true": True, "false": False}[text.lower()]
        return text
    except (ValueError, KeyError):
        raise fail(
            "MI0308",
            f"`-p {param.name}={text}`: {param.name} is declared {kind}",
            param.span,
            label=f"declared {kind} here",
            help=f"such as `-p {param.name}={_SUCH[kind]}`",
        ) from None
