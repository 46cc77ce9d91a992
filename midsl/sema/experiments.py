"""Experiments: sweeps, bindings and sinks of a body become one `Experiment` of the program."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from midsl.diagnostics.model import MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.program import RESERVED_COLUMNS, Experiment, key_columns
from midsl.ir.types import PlainType
from midsl.sema.agree import Signature
from midsl.sema.calls import bind
from midsl.sema.elaborate import Elaborator
from midsl.sema.modules import LoadedModule, lazy_binding
from midsl.sema.scope import Lazy, Scope
from midsl.sema.sweeps import Swept, elaborate_clause, joint_sweep
from midsl.sema.tensors import as_tensor, join_axes
from midsl.sema.values import ConstV, PoisonError, RunV, TensorV, Value
from midsl.sema.where import condition
from midsl.syntax import ast

PLOT_KINDS = ("heatmap", "line", "bar", "scatter", "histogram")
CHANNELS = ("x", "y", "color", "facet")
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
BESIDE = "lengths"
"""What a saved tensor may be called, and what stands beside it in its file."""
SINK = PlainType("Sink")


@dataclass
class Body:
    """One experiment while it is elaborated."""

    e: Elaborator
    name: str
    scope: Scope
    sweeps: dict[str, Lazy] = field(default_factory=dict)
    swept: dict[str, Swept] = field(default_factory=dict)
    reports: dict[str, ir.Report] = field(default_factory=dict)
    sinks: list[ir.Node] = field(default_factory=list)
    lets: list[tuple[str, ir.Node]] = field(default_factory=list)
    declared_reports: set[str] = field(default_factory=set)
    saved: set[str] = field(default_factory=set)

    def run(self, body: tuple[ast.Stmt, ...]) -> Experiment:
        """Declare every name, then elaborate statement by statement, collecting what is refused."""
        ctx = self.e.ctx
        self.declared_reports = {s.name for s in body if isinstance(s, ast.Report)}
        for stmt in body:
            try:
                self._declare(stmt)
            except MiError as err:
                ctx.bag.extend(err.diagnostics)
        for stmt in body:
            try:
                self._statement(stmt)
            except MiError as err:
                ctx.bag.extend(err.diagnostics)
            except PoisonError:
                pass
        if not self.sinks and not ctx.bag.errors:
            ctx.warn(
                "MI0312",
                f"experiment `{self.name}` reports nothing",
                body[0].span if body else self._span,
                "add a `report` or an `expect`",
            )
        return Experiment(self.name, tuple(self.lets), tuple(self.sinks))

    @property
    def _span(self):  # type: ignore[no-untyped-def]
        from midsl.source import NO_SPAN

        return NO_SPAN

    def _declare(self, stmt: ast.Stmt) -> None:
        if isinstance(stmt, ast.Binding):
            self._name(stmt.name, lazy_binding(self.e, stmt, self.scope), stmt)
        elif isinstance(stmt, ast.Sweep):
            joint = self._joint(stmt, stmt.where) if stmt.where is not None else None
            for clause in stmt.clauses:
                self._name(clause.name, self._clause(clause, joint), clause)
        elif isinstance(stmt, ast.Report) and stmt.value is not None:
            value = stmt.value
            self._name(
                stmt.name,
                Lazy(stmt.name, stmt.span, lambda: self.e.eval(value, self.scope), self.e.ctx),
                stmt,
            )

    def _joint(self, stmt: ast.Sweep, where: ast.Expr) -> Callable[[], dict[str, Swept]]:
        """The variables of a `sweep ... where`, worked out together once one of them is used."""
        found: list[dict[str, Swept]] = []

        def make() -> dict[str, Swept]:
            if not found:
                found.append({})  # who asks after a refusal hears no more of it
                scope = self.scope.child({})
                clauses = []
                for c in stmt.clauses:
                    clauses.append(elaborate_clause(self.e, c, scope))
                    scope.names[c.name] = clauses[-1].alone.value
                found[0] = joint_sweep(self.e, clauses, where, scope)
            if not found[0]:
                raise PoisonError
            return found[0]

        return make

    def _clause(self, clause: ast.SweepClause, joint: Callable[[], dict[str, Swept]] | None) -> Lazy:
        def make() -> Value:
            swept = joint()[clause.name] if joint else elaborate_clause(self.e, clause, self.scope).alone
            known = [s.sweep for s in self.swept.values()]
            taken = {a.name: n for n, s in self.swept.items() for a in s.sweep.axes}
            for axis in swept.sweep.axes if swept.sweep not in known else ():
                if axis.name in taken:
                    raise fail(
                        "MI0313",
                        f"`{clause.name}` and `{taken[axis.name]}` both add an axis `{axis.name}`",
                        clause.span,
                        label=f"a second `{axis.name}`",
                        help=f"name them apart: `sweep {clause.name} in ... as dst`",
                    )
            self.swept[clause.name] = swept
            return swept.value

        lazy = self.sweeps[clause.name] = Lazy(clause.name, clause.span, make, self.e.ctx)
        return lazy

    def _name(self, name: str, value: Lazy, node: ast.Node) -> None:
        if name in self.scope.names:
            raise fail(
                "MI0204",
                f"`{name}` is defined twice in `{self.name}`",
                node.span,
                label="defined again here",
                help="give one of the two another name",
            )
        self.scope.names[name] = value

    def _statement(self, stmt: ast.Stmt) -> None:
        if isinstance(stmt, ast.Binding):
            value = self.scope.find(stmt.name)
            if isinstance(value, (TensorV, RunV)):
                self.lets.append((stmt.name, value.node))
        elif isinstance(stmt, ast.Sweep):
            for clause in stmt.clauses:
                self.scope.find(clause.name)
        elif isinstance(stmt, ast.Report):
            self._report(stmt)
        elif isinstance(stmt, ast.Expect):
            self._expect(stmt)
        elif isinstance(stmt, ast.Plot):
            self._plot(stmt)
        elif isinstance(stmt, ast.Save):
            self._save(stmt)
        elif isinstance(stmt, ast.Plan):
            raise fail(
                "MI0601",
                "not implemented: `plan` hints",
                stmt.span,
                help="leave it out; `midsl run` has options for memory and passes",
            )

    def _value(self, node: ast.Expr) -> Value:
        return self.e.eval(node, self.scope)

    def _report(self, stmt: ast.Report) -> None:
        if stmt.name in self.reports:
            raise PoisonError  # said when its name was declared
        value = self._value(ast.Name(stmt.name, span=stmt.span))
        span = stmt.value.span if stmt.value is not None else stmt.span
        if not isinstance(value, (TensorV, ConstV)):
            raise fail(
                "MI0312",
                "a report holds numbers",
                span,
                label=f"this is a {value.kind}",
                help="report something of it: `mean(x, over: batch)`, a value such as `r[site]`, or a count",
            )
        tensor = as_tensor(value, span)
        sweeps = self._free_sweeps(tensor.node)
        where = self._report_where(stmt.where, tensor) if stmt.where is not None else None
        report = ir.Report(self.name, stmt.name, tensor.node, sweeps, where, type=SINK, span=stmt.span)
        columns = key_columns(report)
        for c in columns:
            if columns.count(c) > 1 or c in RESERVED_COLUMNS:
                why = "is reserved" if c in RESERVED_COLUMNS else "stands for two key columns"
                raise fail(
                    "MI0313",
                    f"`{c}` {why} in report `{stmt.name}`",
                    stmt.span,
                    label=f"columns: {', '.join(columns)}",
                    help="prefix a swept family's columns: `sweep h in z as src`",
                )
        self.reports[stmt.name] = report
        self.sinks.append(report)

    def _report_where(self, where: ast.Expr, value: TensorV) -> ir.Node:
        """Which rows of a report there are: a truth value of some of its own axes."""
        found = condition(self.e, where, self.scope, value.node)
        join_axes([value.node, found.node], where.span)
        more = [str(a) for a in found.type.axes if a.name not in value.type.names]
        if more:
            raise fail(
                "MI0302",
                f"the report has no `{more[0]}`",
                where.span,
                label=f"a truth value for each {', '.join(more)}",
                help=f"reduce it: `any(..., over: {more[0]})`",
            )
        return found.node

    def _save(self, stmt: ast.Save) -> None:
        name = stmt.name or (stmt.value.id if isinstance(stmt.value, ast.Name) else None)
        if name is None or name == BESIDE or not PLAIN.fullmatch(name):
            raise fail(
                "MI0315",
                "a saved tensor needs a name" if name is None else f"`{name}` is no name for a tensor",
                stmt.span,
                label="that is what stands beside a tensor, the real positions of each row"
                if name == BESIDE
                else "of letters, digits, `_`, `-` and dots: it names a tensor in the store, not a path",
                help='write `save expr as "name"`',
            )
        if name in self.saved:
            raise fail(
                "MI0204",
                f"`{name}` is saved twice in `{self.name}`",
                stmt.span,
                label="saved again here",
                help='save one of the two as another name: `save x as "other"`',
            )
        self.saved.add(name)
        value = self._value(stmt.value)
        if not isinstance(value, TensorV):
            raise fail(
                "MI0312",
                "what is saved is a tensor",
                stmt.value.span,
                label=f"this is a {value.kind}",
                help='save a value of a run: `save r[site] as "name"`',
            )
        sweeps = self._free_sweeps(value.node)
        self.sinks.append(ir.Save(self.name, name, value.node, sweeps, type=SINK, span=stmt.span))

    def _free_sweeps(self, node: ir.Node) -> tuple[ir.Sweep, ...]:
        """The sweeps that a value depends on, in the order written."""
        free = ir.sweeps_of(node)
        written = [self.swept[n].sweep for n in self.sweeps if n in self.swept]
        return tuple(dict.fromkeys([s for s in written if s in free] + list(free)))

    def _expect(self, stmt: ast.Expect) -> None:
        value = self._value(stmt.condition)
        span = stmt.condition.span
        tensor = as_tensor(value, span)
        if tensor.type.kind != "bool":
            raise fail(
                "MI0309",
                "an expect is a truth value",
                span,
                label=f"this is {tensor.type}",
                help="compare it with something: `x > 0`",
            )
        if tensor.type.axes:
            raise fail(
                "MI0309",
                "an expect is one truth value",
                span,
                label=f"this has one for each {', '.join(tensor.type.names)}",
                help="write `all(...)` or `any(...)` around it",
            )
        self.sinks.append(
            ir.Expect(self.name, tensor.node, stmt.message or "", span.text, type=SINK, span=stmt.span)
        )

    def _plot(self, stmt: ast.Plot) -> None:
        call = stmt.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            raise fail(
                "MI0301",
                "a plot is written `plot kind(value, x: axis, ...)`",
                stmt.span,
                help="such as `plot heatmap(effect, x: head, y: layer)`",
            )
        kind = call.func.id
        if kind not in PLOT_KINDS:
            known = f"kinds: {', '.join(PLOT_KINDS)}"
            raise fail(
                "MI0201",
                f"unknown plot kind `{kind}`",
                call.func.span,
                label=known,
                help=did_you_mean(kind, PLOT_KINDS) or "such as `plot heatmap(effect, x: head, y: layer)`",
            )
        first = call.args[0] if call.args else None
        if (
            first is None
            or first.name is not None
            or not isinstance(first.value, ast.Name)
            or first.value.id not in self.reports
        ):
            if (
                first is not None
                and isinstance(first.value, ast.Name)
                and first.value.id in self.declared_reports
            ):
                raise PoisonError  # that report was refused already
            raise fail(
                "MI0312",
                "a plot shows a report of this experiment",
                stmt.span,
                help="report the value first, then `plot " + kind + "(name, x: axis)`",
            )
        report = self.reports[first.value.id]
        columns = key_columns(report)
        channels = []
        for arg in call.args[1:]:
            if arg.name is None or arg.name not in CHANNELS:
                raise fail(
                    "MI0206",
                    f"a plot has no channel `{arg.name or '?'}`",
                    arg.span,
                    label=f"channels: {', '.join(CHANNELS)}",
                    help=did_you_mean(arg.name or "", CHANNELS)
                    or f"such as `{CHANNELS[0]}: {(*columns, 'value')[0]}`",
                )
            column = arg.value.id if isinstance(arg.value, ast.Name) else ""
            if column not in (*columns, "value"):
                raise fail(
                    "MI0302",
                    f"the report has no column `{column or arg.value.span.text}`",
                    arg.value.span,
                    label=f"columns: {', '.join(columns)}",
                    help=did_you_mean(column, columns) or f"columns: {', '.join((*columns, 'value'))}",
                )
            channels.append((arg.name, column))
        self.sinks.append(ir.Plot(self.name, kind, report, tuple(channels), type=SINK, span=stmt.span))


def elaborate_experiment(e: Elaborator, decl: ast.Experiment, module: LoadedModule) -> Experiment | None:
    """An experiment with a body, or a call of a `method`."""
    try:
        if decl.call is None:
            return Body(e, decl.name, module.scope.child({})).run(decl.body)
        call = decl.call
        methods = {d.name: d for d in module.tree.decls if isinstance(d, ast.Method)}
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in methods):
            raise fail(
                "MI0306",
                "an experiment is `= method(...)` of a method in this file",
                call.span,
                help=did_you_mean(getattr(getattr(call, "func", None), "id", ""), methods)
                or "write `experiment name { ... }`, or declare the `method` that it calls",
            )
        method = methods[call.func.id]
        signature = Signature(module.scope, method.generics, is_open=True)
        args = bind(e, method.name, method.params, call, module.scope, signature)
        return Body(e, decl.name, module.scope.child(args).child({})).run(method.body)
    except MiError as err:
        e.ctx.bag.extend(err.diagnostics)
    except PoisonError:
        pass
    return None


def elaborate_test(e: Elaborator, decl: ast.Test, module: LoadedModule) -> Experiment | None:
    """A `test` block: an experiment by the name of its title, which claims something (MI0316)."""
    try:
        if not any(isinstance(s, ast.Expect) for s in decl.body):
            raise fail(
                "MI0316",
                f'test "{decl.title}" claims nothing',
                decl.span,
                label="there is no `expect` in it",
                help="say what must hold: `expect all(x ~= y)`",
            )
        return Body(e, decl.title, module.scope.child({})).run(decl.body)
    except MiError as err:
        e.ctx.bag.extend(err.diagnostics)
    except PoisonError:
        pass
    return None
