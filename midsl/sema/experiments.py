"""Experiments: sweeps, bindings and sinks of a body become one `Experiment` of the program."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from midsl.diagnostics.model import Label, MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.program import RESERVED_COLUMNS, Experiment, key_columns
from midsl.sema.agree import Signature
from midsl.sema.bodies import Draws, Names, SweptDraws, cannot_unroll
from midsl.sema.calls import bind
from midsl.sema.comprehend import one_by_one
from midsl.sema.controls import controls_of, differing, refuse_unused, value_of
from midsl.sema.elaborate import Elaborator
from midsl.sema.modules import LoadedModule
from midsl.sema.plots import SINK, elaborate_plot
from midsl.sema.scope import Scope
from midsl.sema.sinks import elaborate_view, rows_at_once
from midsl.sema.tables import Column, reported
from midsl.sema.tensors import apply, as_tensor, join_axes
from midsl.sema.unroll import Unroll
from midsl.sema.values import ConstV, ControlsV, FamilyV, ListV, PoisonError, RecordV, RunV, TensorV, Value
from midsl.sema.where import condition
from midsl.source import NO_SPAN
from midsl.syntax import ast

Under = Names | Draws | SweptDraws
"""The names of a body, as it is written or under a control."""
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
BESIDE = "lengths"
"""What a saved tensor may be called, and what stands beside it in its file."""


@dataclass
class Body:
    """One experiment while it is elaborated."""

    e: Elaborator
    name: str
    body: tuple[ast.Stmt, ...]
    names: Under
    reports: dict[str, ir.Report] = field(default_factory=dict)
    sinks: list[ir.Node] = field(default_factory=list)
    lets: list[tuple[str, ir.Node]] = field(default_factory=list)
    saved: set[str] = field(default_factory=set)
    at_once: int = 0
    """How many rows its runs may have at once, where a `plan` says so."""

    @property
    def declared_reports(self) -> set[str]:
        """The reports that are written, whether or not they are refused."""
        return {s.name for s in self.body if isinstance(s, ast.Report)}

    def run(self) -> Experiment:
        """Elaborate statement by statement, collecting what is refused."""
        ctx = self.e.ctx
        for stmt in self.body:
            try:
                self._statement(stmt)
            except MiError as err:
                ctx.bag.extend(err.diagnostics)
            except PoisonError:
                pass
            except Unroll as err:
                ctx.bag.extend(cannot_unroll(err.sweep, stmt.span).diagnostics)
        if not self.sinks and not ctx.bag.errors:
            ctx.warn(
                "MI0312",
                f"experiment `{self.name}` reports nothing",
                self.body[0].span if self.body else NO_SPAN,
                "add a `report` or an `expect`",
            )
        return Experiment(self.name, tuple(self.lets), tuple(self.sinks), self.at_once)

    def _statement(self, stmt: ast.Stmt) -> None:
        if isinstance(stmt, ast.Binding) and stmt.role != "control":
            bound = self.names.scope.find(stmt.name)
            if isinstance(bound, (TensorV, RunV)):
                self.lets.append((stmt.name, bound.node))
        elif isinstance(stmt, ast.Sweep):
            for clause in stmt.clauses:
                self.names.scope.find(clause.name)
        elif isinstance(stmt, ast.Report):
            self._report(stmt)
        elif isinstance(stmt, ast.Expect):
            self._expect(stmt)
        elif isinstance(stmt, ast.Plot):
            self.sinks.append(elaborate_plot(self.name, stmt, self.reports, self.declared_reports))
        elif isinstance(stmt, ast.Save):
            self._save(stmt)
        elif isinstance(stmt, ast.View):
            self.sinks.append(
                elaborate_view(self.e, self.name, stmt, self._value(stmt.value), self._free_sweeps)
            )
        elif isinstance(stmt, ast.Plan):
            self.at_once = rows_at_once(self._value(stmt.value), stmt.span)

    def _value(self, node: ast.Expr) -> Value:
        return self.names.value(node)

    def _report(self, stmt: ast.Report) -> None:
        if stmt.name in self.reports:
            raise PoisonError  # said when its name was declared
        value = self._value(ast.Name(stmt.name, span=stmt.span))
        span = stmt.value.span if stmt.value is not None else stmt.span
        along = isinstance(value, ListV) and value.axis is not None
        if isinstance(value, RecordV):
            for column in reported(stmt.name, value, span):
                self._table(column, stmt)
            return
        if not isinstance(value, (TensorV, ConstV)) and not along:
            raise fail(
                "MI0312",
                "a report holds numbers",
                span,
                label=f"this is a {value.kind}",
                help="report something of it: `mean(x, over: batch)`, a value such as `r[site]`, or a count",
            )
        self._table(Column(stmt.name, as_tensor(value, span)), stmt)

    def _table(self, column: Column, stmt: ast.Report) -> None:
        """One table of a report: all of it, or a column of a table."""
        name, tensor = column.name, column.value
        if name in self.reports or (name != stmt.name and name.partition(".")[0] in self._others(stmt)):
            raise fail(
                "MI0204",
                f"`{self.name}` has two reports called `{name.partition('.')[0]}`",
                stmt.span,
                label="a graph is two tables, of its edges and of its nodes",
                help="give one of the two another name",
            )
        sweeps = self._free_sweeps(tensor.node)
        where = column.rows
        if stmt.where is not None and (said := self._report_where(stmt.where, column)) is not None:
            both = TensorV(where) if where is not None else said
            where = apply("and", (both, said), stmt.span, kind="bool").node if both != said else said.node
        report = ir.Report(
            self.name, name, tensor.node, sweeps, where, column.beside, type=SINK, span=stmt.span
        )
        columns = key_columns(report)
        for c in columns:
            if columns.count(c) > 1 or c in RESERVED_COLUMNS:
                why = "is reserved" if c in RESERVED_COLUMNS else "stands for two key columns"
                raise fail(
                    "MI0313",
                    f"`{c}` {why} in report `{name}`",
                    stmt.span,
                    label=f"columns: {', '.join(columns)}",
                    help="prefix a swept family's columns: `sweep h in z as src`",
                )
        self.reports[name] = report
        self.sinks.append(report)

    def _others(self, stmt: ast.Report) -> set[str]:
        """The names of the other reports that are written."""
        return {s.name for s in self.body if isinstance(s, ast.Report) and s is not stmt}

    def _report_where(self, where: ast.Expr, column: Column) -> TensorV | None:
        """Which rows there are: a truth value of some of a report's axes; None if of another table."""
        value = column.value
        found = condition(self.e, where, self.names.scope, value.node)
        if any(a in found.type.names for a in column.elsewhere):
            return None
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
        return found

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
        written = [s.sweep for s in self.names.swept_in_order()]
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


@dataclass
class Study:
    """An experiment as it is written: its names, and once more under each of its controls.

    Attributes:
        outer: the scope around the body, given that of the file.
        controls: those that it has, of its file and of its own body, by the name that each replaces.
    """

    e: Elaborator
    name: str
    body: tuple[ast.Stmt, ...]
    module: LoadedModule
    outer: Callable[[Scope], Scope]
    controls: Mapping[str, ast.Binding]
    _under: dict[str, Under] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.own = controls_of(self.body, self.e.ctx.bag)
        self.controls = {**self.own, **self.controls, **self.own}
        self.around: dict[str, Value] = {}
        if self.controls:
            under = {n: lambda x, n=n: self.under(n).value(x) for n in self.controls}
            self.around["@controls"] = ControlsV(under)

    def run(self, used: set[str]) -> list[Experiment]:
        """The experiment, then those of its reports that come out otherwise under a control.

        `used` takes the names of the controls that changed something.
        """
        bag = self.e.ctx.bag
        main = Body(self.e, self.name, self.body, self.names)
        done = [main.run()]
        reports = tuple(s for s in self.body if isinstance(s, ast.Report))
        for name, stmt in self.controls.items() if not bag.errors else ():
            if not reports and name not in self.own:
                continue  # it has claims alone, which no control repeats
            other, said = Body(self.e, f"{self.name}_under_{name}", reports, self.under(name)), len(bag.items)
            changed = differing(other.run().sinks, main.reports)
            here = Label(stmt.span, "under this control")
            bag.items[said:] = [replace(d, notes=(*d.notes, here)) for d in bag.items[said:]]
            if changed:
                self._refuse_clash(other.name, stmt)
                used.add(name)
                done.append(Experiment(other.name, (), changed, other.at_once))
            elif name in self.own and not bag.errors:
                raise refuse_unused({name: stmt.span})
        return done

    def _refuse_clash(self, name: str, control: ast.Binding) -> None:
        """The tables of a re-run may not be those of another experiment (MI0204)."""
        for decl in self.module.tree.decls:
            if isinstance(decl, ast.Experiment) and decl.name == name:
                raise fail(
                    "MI0204",
                    f"experiment `{name}` has the name of `{self.name}` under this control",
                    control.name_span,
                    notes=[Label(decl.span, "the experiment")],
                    help="give the experiment another name",
                )

    @cached_property
    def names(self) -> Names:
        """The names of the body."""
        return self._names(self.module.scope, {})

    def under(self, name: str) -> Under:
        """The names of the body where a control stands in the place of what it controls."""
        if name not in self._under:
            value = value_of(self.e, self.controls[name], self.names.scope)
            if isinstance(value, ListV) and not isinstance(value, FamilyV):
                assert value.axis is not None
                self._under[name] = Draws([self._with(name, v) for v in value.items], value.axis)
            elif isinstance(self.controls[name].value, ast.Comprehension) and isinstance(value, TensorV):
                axis = next(a for a in value.type.axes if a.owner.startswith("each:"))
                self._under[name] = SweptDraws(self._with(name, value), axis, lambda: self._apart(name))
            else:
                self._under[name] = self._with(name, value)
        return self._under[name]

    def _apart(self, name: str) -> Draws:
        """The names of the body under each draw of a control."""
        written = self.controls[name].value
        assert isinstance(written, ast.Comprehension)
        each = one_by_one(self.e, written, self.names.scope)
        assert each.axis is not None
        return Draws([self._with(name, v) for v in each.items], each.axis)

    def _with(self, name: str, value: Value) -> Names:
        """The names of the body with another value of one name, its own or the file's."""
        if name in self.own:
            return self._names(self.module.scope, {name: value})
        return self._names(self.module.again({name: value}), {})

    def _names(self, file: Scope, pins: Mapping[str, Value]) -> Names:
        return Names(self.e, self.name, self.outer(file).child(self.around), self.body, pins)


def elaborate_experiment(
    e: Elaborator, decl: ast.Experiment, module: LoadedModule, used: set[str]
) -> list[Experiment]:
    """An experiment with a body, or a call of a `method`, and its re-runs under controls."""
    try:
        body, outer = _body(e, decl, module)
        return Study(e, decl.name, body, module, outer, module.controls).run(used)
    except MiError as err:
        e.ctx.bag.extend(err.diagnostics)
    except PoisonError:
        pass
    return []


def _body(
    e: Elaborator, decl: ast.Experiment, module: LoadedModule
) -> tuple[tuple[ast.Stmt, ...], Callable[[Scope], Scope]]:
    """The statements of an experiment, and the scope around them, given that of its file."""
    if decl.call is None:
        return decl.body, lambda scope: scope
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

    def outer(scope: Scope) -> Scope:
        signature = Signature(scope, method.generics, is_open=True)
        return scope.child(bind(e, method.name, method.params, call, scope, signature)).child({})

    return method.body, outer


def elaborate_test(e: Elaborator, decl: ast.Test, module: LoadedModule) -> list[Experiment]:
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
        names = Study(e, decl.title, decl.body, module, lambda scope: scope, {}).names
        return [Body(e, decl.title, decl.body, names).run()]
    except MiError as err:
        e.ctx.bag.extend(err.diagnostics)
    except PoisonError:
        pass
    return []
