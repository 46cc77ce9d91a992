"""From reductions to the syntax tree: one method per rule or alias of `grammar/mi.lark`.

Children arrive as the grammar lists them: tokens for names and numbers, nodes for the rest, None
for an optional that is absent. Keywords and punctuation are gone, but spans still cover them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from midsl.diagnostics.model import Bag, Diagnostic
from midsl.source import SourceFile, Span
from midsl.syntax import ast
from midsl.syntax.comments import Docs
from midsl.syntax.lexer import Token

Children = list[Any]
_TALLEST = 150  # operations inside each other; the walks of later stages are recursive
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "0": "\0"}
_ESCAPE = re.compile(r"\\(u\{[0-9a-fA-F]{1,6}\}|.)")


@dataclass(frozen=True)
class _Block:
    """The braces of a declaration: its statements, and for a function what it returns."""

    items: tuple[Any, ...]
    value: ast.Expr | None = None


class AstBuilder:
    """Builds nodes.

    Attributes:
        errors: offsets of syntax errors so far. A statement around one was only half understood:
            it is left out of the module.
    """

    def __init__(self, source: SourceFile, bag: Bag, docs: Docs) -> None:
        self.source = source
        self.bag = bag
        self.docs = docs
        self.errors: list[int] = []
        self._heights: dict[int, int] = {}  # of expressions, by identity
        self._methods: dict[str, Callable[[Children, Span], Any]] = {}  # by action

    def reduce(self, action: str, children: Children, span: Span) -> Any:
        method = self._methods.get(action)
        if method is None:
            method = self._methods[action] = getattr(self, "on_" + action.rstrip("_"))
        node = method(children, span)
        return self._bounded(node, children, span) if isinstance(node, ast.Expr) else node

    def _bounded(self, node: ast.Expr, children: Children, span: Span) -> ast.Expr:
        """Cut an expression that is taller than later walks can climb: `1 + 1 + 1 + ...` opens no bracket."""
        height, known = 1, self._heights
        for c in children:
            if (below := known.get(id(c), 0)) >= height:
                height = below + 1
        if height > _TALLEST:
            if not any(span.start <= e <= span.end for e in self.errors):
                self.errors.append(span.start)
                self._refuse(
                    "MI0101",
                    "this is nested too deeply",
                    span,
                    f"more than {_TALLEST} operations, each inside the next",
                    "bind parts of it to names with `let`",
                )
            node, height = ast.Name("_", span=span), 1
        self._heights[id(node)] = height
        return node

    def _sound(self, items: Children) -> tuple[Any, ...]:
        """Return the statements that hold no syntax error; those that only contain bad ones stay."""
        block = (ast.Experiment, ast.Method, ast.Test)
        return tuple(
            n
            for n in items
            if n is not None
            and (isinstance(n, block) or not any(n.span.start <= e <= n.span.end for e in self.errors))
        )

    def _span(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)

    # ------------------------------------------------------------ the file

    def on_start(self, c: Children, span: Span) -> ast.Module:
        imports = tuple(n for n in c[1:] if isinstance(n, ast.Import))
        decls = self._sound([n for n in c[1:] if not isinstance(n, ast.Import)])
        return ast.Module(self.source, self._int(c[0]), self._sound(list(imports)), decls, span=span)

    def on_import_as(self, c: Children, span: Span) -> ast.Import:
        path, relative = c[0]
        return ast.Import(path, relative, alias=_text(c[1]), span=span)

    def on_import_names(self, c: Children, span: Span) -> ast.Import:
        path, relative = c[0]
        return ast.Import(path, relative, names=_names(c[1:]), span=span)

    def on_path(self, c: Children, span: Span) -> tuple[str, bool]:
        if c[0].type == "STRING":
            return self._string(c[0]), True
        return ".".join(_names(c)), False

    # ------------------------------------------------------------ declarations

    def on_binding(self, c: Children, span: Span) -> ast.Binding:
        role, name, kind, value, where = c
        docs = self.docs.take(span)
        return ast.Binding(role, name.text, value, kind, where, docs, self._span(name), span=span)

    def on_role(self, c: Children, span: Span) -> str:
        return str(c[0].text)

    def on_param(self, c: Children, span: Span) -> ast.Param:
        return ast.Param(c[0].text, c[1], c[2], self.docs.take(span), span=span)

    def on_axis(self, c: Children, span: Span) -> ast.AxisDecl:
        return ast.AxisDecl(_names(c), span=span)

    def on_alias(self, c: Children, span: Span) -> ast.Alias:
        return ast.Alias(c[0].text, c[1], span=span)

    def on_fn(self, c: Children, span: Span) -> ast.Fn:
        name, generics, params, returns, columns, body = c
        if columns is not None:
            returns = self._with_columns(returns, columns)
        docs = self.docs.take(span)
        head = (name.text, generics or (), params, returns)
        if isinstance(body, _Block):
            return ast.Fn(*head, bindings=body.items, body=body.value, docs=docs, span=span)
        return ast.Fn(*head, body=body, docs=docs, span=span)

    def on_fn_block(self, c: Children, span: Span) -> _Block:
        return _Block(tuple(c[:-1]), c[-1])

    def on_extern(self, c: Children, span: Span) -> ast.Fn:
        name, generics, params, returns, target = c
        docs = self.docs.take(span)
        where = self._string(target)
        return ast.Fn(name.text, generics or (), params, returns, extern=where, docs=docs, span=span)

    def on_generics(self, c: Children, span: Span) -> tuple[str, ...]:
        return _names(c)

    def on_params(self, c: Children, span: Span) -> tuple[ast.FnParam, ...]:
        return _present(c)

    def on_fn_param(self, c: Children, span: Span) -> ast.FnParam:
        return ast.FnParam(c[0].text, c[1], c[2], span=span)

    def on_method(self, c: Children, span: Span) -> ast.Method:
        name, generics, params, body = c
        return ast.Method(name.text, generics or (), params, body.items, self.docs.take(span), span=span)

    def on_experiment(self, c: Children, span: Span) -> ast.Experiment:
        name, body = c
        docs = self.docs.take(span)
        if isinstance(body, _Block):
            return ast.Experiment(name.text, body.items, docs=docs, span=span)
        return ast.Experiment(name.text, call=body, docs=docs, span=span)

    def on_test(self, c: Children, span: Span) -> ast.Test:
        return ast.Test(self._string(c[0]), c[1].items, span=span)

    # ------------------------------------------------------------ statements

    def on_body(self, c: Children, span: Span) -> _Block:
        return _Block(self._sound(c))

    def on_sweep(self, c: Children, span: Span) -> ast.Sweep:
        return ast.Sweep(tuple(c[:-1]), c[-1], span=span)

    def on_clause(self, c: Children, span: Span) -> ast.SweepClause:
        return ast.SweepClause(c[0].text, c[1], _text(c[2]), span=span)

    def on_report(self, c: Children, span: Span) -> ast.Report:
        return ast.Report(c[0].text, c[1], c[2], self.docs.take(span), span=span)

    def on_expect(self, c: Children, span: Span) -> ast.Expect:
        return ast.Expect(c[0], self._string(c[1]) if c[1] else None, span=span)

    def on_plot(self, c: Children, span: Span) -> ast.Plot:
        return ast.Plot(c[0], span=span)

    def on_save(self, c: Children, span: Span) -> ast.Save:
        return ast.Save(c[0], self._string(c[1]) if c[1] else None, span=span)

    def on_view(self, c: Children, span: Span) -> ast.View:
        return ast.View(c[0], span=span)

    def on_plan(self, c: Children, span: Span) -> ast.Plan:
        return ast.Plan(c[0], span=span)

    # ------------------------------------------------------------ expressions

    def on_cond(self, c: Children, span: Span) -> ast.Cond:
        return ast.Cond(c[0], c[1], c[2], span=span)

    def on_lambda(self, c: Children, span: Span) -> ast.Lambda:
        return ast.Lambda(_names(_present(c[:-1])), c[-1], span=span)

    def on_or_op(self, c: Children, span: Span) -> ast.Binary:
        return ast.Binary("or", c[0], c[1], span=span)

    def on_and_op(self, c: Children, span: Span) -> ast.Binary:
        return ast.Binary("and", c[0], c[1], span=span)

    def on_not_op(self, c: Children, span: Span) -> ast.Unary:
        return ast.Unary("not", c[0], span=span)

    def on_compare(self, c: Children, span: Span) -> ast.Compare:
        return ast.Compare(c[1], c[0], c[2], span=span)

    def on_near(self, c: Children, span: Span) -> ast.Compare:
        return ast.Compare("~=", c[0], c[1], c[2], span=span)

    def on_member(self, c: Children, span: Span) -> ast.Binary:
        return ast.Binary("in", c[0], c[1], span=span)

    def on_cmp_op(self, c: Children, span: Span) -> str:
        return str(c[0].text)

    on_dots = on_add = on_mul = on_cmp_op

    def on_range_op(self, c: Children, span: Span) -> ast.Range:
        return ast.Range(c[0], c[2], c[1] == "..=", c[3], span=span)

    def on_range_from(self, c: Children, span: Span) -> ast.Range:
        if c[1] == "..=":
            self._open_inclusive(span)
        return ast.Range(c[0], None, False, c[2], span=span)

    def on_range_to(self, c: Children, span: Span) -> ast.Range:
        return ast.Range(None, c[1], c[0] == "..=", c[2], span=span)

    def on_union_op(self, c: Children, span: Span) -> ast.Binary:
        return ast.Binary("|", c[0], c[1], span=span)

    def on_binary(self, c: Children, span: Span) -> ast.Binary:
        return ast.Binary(c[1], c[0], c[2], span=span)

    def on_power_op(self, c: Children, span: Span) -> ast.Binary:
        return ast.Binary("**", c[0], c[1], span=span)

    def on_sign(self, c: Children, span: Span) -> ast.Unary:
        return ast.Unary(c[0], c[1], span=span)

    def on_field(self, c: Children, span: Span) -> ast.Field:
        return ast.Field(c[0], c[1].text, self._span(c[1]), span=span)

    def on_call(self, c: Children, span: Span) -> ast.Call:
        return ast.Call(c[0], _present(c[1:]), span=span)

    def on_index(self, c: Children, span: Span) -> ast.Index:
        return ast.Index(c[0], _present(c[1:]), span=span)

    def on_arg(self, c: Children, span: Span) -> ast.Arg:
        return ast.Arg(_text(c[0]), c[1], span=span)

    def on_item(self, c: Children, span: Span) -> ast.Item:
        return ast.Item(_text(c[0]), c[1], span=span)

    def on_all(self, c: Children, span: Span) -> ast.All:
        return ast.All(span=span)

    def on_run(self, c: Children, span: Span) -> ast.Run:
        return ast.Run(c[0], c[1], c[2], c[3], span=span)

    def on_edits(self, c: Children, span: Span) -> ast.Edits:
        return ast.Edits(_present(c), span=span)

    def on_set(self, c: Children, span: Span) -> ast.Set:
        return ast.Set(c[0], c[1], span=span)

    def on_name(self, c: Children, span: Span) -> ast.Name:
        return ast.Name(c[0].text, span=span)

    def on_self(self, c: Children, span: Span) -> ast.SelfRef:
        return ast.SelfRef(span=span)

    def on_late(self, c: Children, span: Span) -> ast.LateColumn:
        return ast.LateColumn(c[0].text, span=span)

    def on_int(self, c: Children, span: Span) -> ast.Literal_:
        return ast.Literal_(self._int(c[0]), span=span)

    def on_float(self, c: Children, span: Span) -> ast.Literal_:
        value = float(c[0].text.replace("_", ""))
        if value == float("inf"):
            self._too_large(c[0])
        return ast.Literal_(value, span=span)

    def on_string(self, c: Children, span: Span) -> ast.Literal_:
        return ast.Literal_(self._string(c[0]), span=span)

    def on_true(self, c: Children, span: Span) -> ast.Literal_:
        return ast.Literal_(True, span=span)

    def on_false(self, c: Children, span: Span) -> ast.Literal_:
        return ast.Literal_(False, span=span)

    def on_list(self, c: Children, span: Span) -> ast.ListExpr:
        return ast.ListExpr(_present(c), span=span)

    def on_comprehension(self, c: Children, span: Span) -> ast.Comprehension:
        return ast.Comprehension(c[0], c[1].text, c[2], c[3], span=span)

    def on_record(self, c: Children, span: Span) -> ast.Record:
        return ast.Record(_present(c), span=span)

    def on_pair(self, c: Children, span: Span) -> tuple[str, ast.Expr]:
        return c[0].text, c[1]

    # ------------------------------------------------------------ types

    def on_type(self, c: Children, span: Span) -> ast.Type:
        kind: ast.Type = c[0]
        return kind if c[1] is None else replace(self._with_columns(kind, c[1]), span=span)

    def on_type_ref(self, c: Children, span: Span) -> ast.TypeRef:
        return ast.TypeRef(c[0].text, _present(c[1:-2]), unit=_text(c[-2]), of=c[-1], span=span)

    def on_fn_type(self, c: Children, span: Span) -> ast.FnType:
        return ast.FnType(_present(c[:-1]), c[-1], span=span)

    def on_record_type(self, c: Children, span: Span) -> ast.RecordType:
        return ast.RecordType(c[0], span=span)

    def on_columns(self, c: Children, span: Span) -> tuple[tuple[str, ast.Type], ...]:
        return tuple(c)

    def on_column(self, c: Children, span: Span) -> tuple[str, ast.Type]:
        return c[0].text, c[1]

    def on_ax(self, c: Children, span: Span) -> ast.AxisRef:
        size = c[1]
        value = None if size is None else self._int(size) if size.type == "INT" else size.text
        return ast.AxisRef(c[0].text, value, span=span)

    def on_rest(self, c: Children, span: Span) -> ast.AxisRef:
        return ast.AxisRef(c[0].text, rest=True, span=span)

    # ------------------------------------------------------------ helpers

    def _with_columns(self, kind: ast.Type, columns: tuple[tuple[str, ast.Type], ...]) -> ast.Type:
        """Hang `{ column: type }` on the type it follows: after `fn(..) -> T` that is T."""
        if isinstance(kind, ast.TypeRef):
            return replace(kind, columns=columns)
        if isinstance(kind, ast.FnType):
            return replace(kind, returns=self._with_columns(kind.returns, columns))
        self._refuse(
            "MI0101",
            "a record type cannot have columns",
            kind.span,
            "columns go with a named type",
            "put the columns into the record, or name a type: `Data[clean]{ io: Token[batch] }`",
        )
        return kind

    def _open_inclusive(self, span: Span) -> None:
        self._refuse(
            "MI0101",
            "`..=` needs an end",
            span,
            "there is no last element to include",
            "write `a..` for everything from `a` on",
        )

    def _refuse(self, code: str, message: str, span: Span, label: str, help: str) -> None:
        self.bag.add(Diagnostic(code, message, span, label, help=help))

    def _int(self, token: Token) -> int:
        digits = token.text.replace("_", "")
        if len(digits) > 18:  # no index, count or seed needs more than 64 bits
            self._too_large(token)
            return 0
        return int(digits)

    def _too_large(self, token: Token) -> None:
        self._refuse(
            "MI0103",
            "this number is too large",
            self._span(token),
            "beyond what a 64-bit number holds",
            "whole numbers have at most 18 digits, others are below 1.8e308",
        )

    def _string(self, token: Token) -> str:
        """Return what a string means, escapes resolved."""

        def resolve(found: re.Match[str]) -> str:
            what = found.group(1)
            if what in _ESCAPES:
                return _ESCAPES[what]
            number = int(what[2:-1], 16) if what.startswith("u{") else -1
            if 0 <= number < 0xD800 or 0xE000 <= number < 0x110000:  # surrogates are no characters
                return chr(number)
            at = token.start + 1 + found.start()
            self._refuse(
                "MI0103",
                f"unknown escape `{found.group()}`",
                Span(self.source, at, at + len(found.group())),
                "no such escape",
                r"the escapes are `\n`, `\t`, `\r`, `\"`, `\\`, `\0` and `\u{2192}`",
            )
            return found.group()

        return _ESCAPE.sub(resolve, token.text[1:-1])


def _text(token: Token | None) -> str | None:
    return None if token is None else token.text


def _names(tokens: Children | tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(t.text for t in tokens)


def _present(children: Children) -> tuple[Any, ...]:
    return tuple(c for c in children if c is not None)
