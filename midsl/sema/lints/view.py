"""A spec as the lints see it: its syntax, with names followed.

Lints read what was written and not what was elaborated, for two reasons: they can speak of forms
whose running is refused today, and what they ask ("is there a zero among the doses?") is asked of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from midsl.sema.lints.unfold import edits_of
from midsl.source import Span
from midsl.syntax import ast


@dataclass(frozen=True)
class Finding:
    """What a lint has to say of a place; `help` says how to mend it."""

    message: str
    span: Span
    label: str
    help: str


def callee(expr: ast.Node | None) -> str:
    """The last name of what is called: `topk_sae` for `decomp.topk_sae(...)`; "" for what is no call."""
    if not isinstance(expr, ast.Call):
        return ""
    func = expr.func
    return func.id if isinstance(func, ast.Name) else func.name if isinstance(func, ast.Field) else ""


def argument(call: ast.Node, name: str) -> ast.Expr | None:
    """The argument of a call (or the field of a record) by its name."""
    if isinstance(call, ast.Call):
        return next((a.value for a in call.args if a.name == name), None)
    if isinstance(call, ast.Record):
        return next((v for k, v in call.fields if k == name), None)
    return None


def is_zero(expr: ast.Node) -> bool:
    """Whether an expression is the number 0."""
    return isinstance(expr, ast.Literal_) and type(expr.value) in (int, float) and expr.value == 0


def path(expr: ast.Node | None) -> tuple[str, ...]:
    """A chain of names: ("d", "train", "clean") for `d.train.clean`; () for anything else."""
    if isinstance(expr, ast.Name):
        return (expr.id,)
    if isinstance(expr, ast.Field) and (base := path(expr.base)):
        return (*base, expr.name)
    return ()


def overlap(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether two data paths share rows: one is a part of the other."""
    return bool(a and b) and (a[: len(b)] == b or b[: len(a)] == a)


@dataclass(frozen=True)
class Body:
    """One experiment or method.

    Attributes:
        decl: the declaration.
        view: the spec around it.
    """

    decl: ast.Experiment | ast.Method
    view: View

    @cached_property
    def nodes(self) -> tuple[ast.Node, ...]:
        return tuple(ast.walk(self.decl))

    def all(self, kind: type[ast.Node]) -> list[ast.Node]:
        """Its nodes of a class, in order."""
        return [n for n in self.nodes if isinstance(n, kind)]

    @cached_property
    def runs(self) -> list[ast.Run]:
        return [n for n in self.nodes if isinstance(n, ast.Run)]

    @cached_property
    def edits(self) -> list[tuple[ast.Run, ast.Set]]:
        """Every `site := value` of a run, with the run; what functions give is written out."""
        return [(r, s) for r in self.runs for s in edits_of(r.edits, self.view.functions)]

    @cached_property
    def clauses(self) -> dict[str, ast.SweepClause]:
        return {n.name: n for n in self.nodes if isinstance(n, ast.SweepClause)}

    @cached_property
    def bound(self) -> dict[str, ast.Expr]:
        """What its names stand for, those of the file included."""
        inner = {n.name: n.value for n in self.nodes if isinstance(n, (ast.Binding, ast.Report)) and n.value}
        return self.view.bound | inner

    def reach(self, expr: ast.Node) -> Iterator[ast.Node]:
        """Every node below an expression, and below what its names stand for."""
        seen: set[str] = set()
        todo = [expr]
        while todo:
            for node in ast.walk(todo.pop()):
                yield node
                if isinstance(node, ast.Name) and node.id in self.bound and node.id not in seen:
                    seen.add(node.id)
                    todo.append(self.bound[node.id])


@dataclass(frozen=True)
class View:
    """One file, the functions that it can call by name, and all that each of these comes to."""

    module: ast.Module
    functions: Mapping[str, ast.Fn] = field(default_factory=dict)
    within: Callable[[str], Iterable[ast.Fn]] = lambda _: ()

    @cached_property
    def bindings(self) -> list[ast.Binding]:
        """Its top-level bindings."""
        return [d for d in self.module.decls if isinstance(d, ast.Binding)]

    @cached_property
    def bound(self) -> dict[str, ast.Expr]:
        return {b.name: b.value for b in self.bindings}

    @cached_property
    def bodies(self) -> list[Body]:
        """Its experiments and methods that have a body."""
        kinds = (ast.Experiment, ast.Method)
        return [Body(d, self) for d in self.module.decls if isinstance(d, kinds) and d.body]

    @cached_property
    def nodes(self) -> tuple[ast.Node, ...]:
        return tuple(ast.walk(self.module))

    @cached_property
    def has_control(self) -> bool:
        """Whether the file declares a control at all."""
        return any(isinstance(n, ast.Binding) and n.role == "control" for n in self.nodes)

    def calls(self, *parts: str) -> list[ast.Binding]:
        """Bindings whose value is a call of something with one of these parts in its name."""
        every = [n for n in self.nodes if isinstance(n, ast.Binding)]
        return [b for b in every if any(p in callee(b.value) for p in parts)]
