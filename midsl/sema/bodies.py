"""The names of an experiment's body: at all points of its sweeps at once and, where need be, at one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from midsl.diagnostics.model import MiError, fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.sema.clauses import Clause, Swept
from midsl.sema.elaborate import Elaborator
from midsl.sema.kinds import one_behind_the_other
from midsl.sema.modules import lazy_binding
from midsl.sema.scope import Lazy, Scope
from midsl.sema.sweeps import elaborate_clause, joint_sweep
from midsl.sema.unroll import Unroll, side_by_side
from midsl.sema.values import Poison, PoisonError, Value
from midsl.source import Span
from midsl.syntax import ast

Coords = tuple[ir.Scalar, ...]


class Names:
    """What a body binds: its bindings, reports and swept variables, each worked out when first used.

    `pins` are names that stand for something else here: a swept variable for one of its points (see
    ``midsl.sema.unroll``), a binding for its control.
    """

    def __init__(
        self,
        e: Elaborator,
        name: str,
        outer: Scope,
        body: tuple[ast.Stmt, ...],
        pins: Mapping[str, Value | Lazy] | None = None,
    ) -> None:
        self.e, self.name, self.outer, self.body = e, name, outer, body
        self.pins = dict(pins or {})
        self.scope = outer.child({})
        self.order: list[str] = []
        self.swept: dict[str, Swept] = {}
        self.clauses: dict[str, Clause] = {}
        self.points: dict[tuple[str, Coords], Names] = {}
        for stmt in body:
            try:
                self._declare(stmt)
            except MiError as err:
                if not self.pins:  # else it is said already
                    e.ctx.bag.extend(err.diagnostics)

    def swept_in_order(self) -> list[Swept]:
        """The swept variables in the order written."""
        return [self.swept[n] for n in self.order if n in self.swept]

    def value(self, node: ast.Expr) -> Value:
        """The value of an expression; where it needs literals for swept variables, laid along their axes."""
        try:
            return self.e.eval(node, self.scope)
        except Unroll as err:
            return self.each(err, lambda n: n.value(node), node.span)

    def each(self, asked: Unroll, value: Callable[[Names], Value], span: Span) -> Value:
        """A value at each point of a sweep, side by side."""
        sweep = asked.sweep
        name = next((n for n, s in self.swept.items() if s.sweep == sweep), None)
        if name is None:
            raise asked  # a variable of somebody further out
        clause = self.clauses[name]
        if sweep != clause.sweep:
            raise cannot_unroll(sweep, span, "`where` chooses its points")
        if clause.kinds:
            at = [self._at(sweep, (i,), name, k.value) for i, k in enumerate(clause.kinds)]
            return one_behind_the_other([value(n) for n in at], clause.kinds, sweep, span)
        if clause.pinned is None or len(clause.axes) != len(clause.columns):
            raise cannot_unroll(sweep, span)
        if clause.points is None:
            raise cannot_unroll(sweep, span, "its points are not known before the model is loaded")
        found = []
        for point in clause.points:
            self.e.ctx.spend(1, span)
            found.append(value(self._at(sweep, point, name, clause.pinned(point))))
            if isinstance(found[-1], Poison):
                raise PoisonError  # what is wrong at one point need not be said of all
        return side_by_side(found, clause.axes, sweep, span)

    def _at(self, sweep: ir.Sweep, point: Coords, name: str, value: Value) -> Names:
        """The names of the body where a swept variable stands for one thing."""
        if (sweep.digest, point) not in self.points:
            pins = {**self.pins, name: value}
            self.points[sweep.digest, point] = Names(self.e, self.name, self.outer, self.body, pins)
        return self.points[sweep.digest, point]

    def _declare(self, stmt: ast.Stmt) -> None:
        if isinstance(stmt, ast.Binding) and stmt.role == "control":
            return
        if isinstance(stmt, (ast.Binding, ast.Report)) and stmt.name in self.pins:
            self.scope.names[stmt.name] = self.pins[stmt.name]
        elif isinstance(stmt, ast.Binding):
            self._name(stmt.name, self._binding(stmt), stmt)
        elif isinstance(stmt, ast.Sweep):
            joint = self._joint(stmt, stmt.where) if stmt.where is not None else None
            for clause in stmt.clauses:
                if clause.name in self.pins:
                    self.scope.names[clause.name] = self.pins[clause.name]
                else:
                    self._name(clause.name, self._clause(clause, joint), clause)
        elif isinstance(stmt, ast.Report) and stmt.value is not None:
            value = stmt.value
            self._name(stmt.name, Lazy(stmt.name, stmt.span, lambda: self.value(value), self.e.ctx), stmt)

    def _binding(self, stmt: ast.Binding) -> Lazy:
        def make() -> Value:
            try:
                return lazy_binding(self.e, stmt, self.scope).get()
            except Unroll as err:
                return self.each(err, lambda n: n.find(stmt.name), stmt.span)

        return Lazy(stmt.name, stmt.name_span if stmt.name_span.end else stmt.span, make, self.e.ctx)

    def find(self, name: str) -> Value:
        """The value of a name that is bound here."""
        value = self.scope.find(name)
        assert value is not None
        return value

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
                    self.clauses[c.name] = clauses[-1]
                found[0] = joint_sweep(self.e, clauses, where, scope)
            if not found[0]:
                raise PoisonError
            return found[0]

        return make

    def _clause(self, clause: ast.SweepClause, joint: Callable[[], dict[str, Swept]] | None) -> Lazy:
        def make() -> Value:
            try:
                if joint is not None:
                    swept = joint()[clause.name]
                else:
                    self.clauses[clause.name] = elaborate_clause(self.e, clause, self.scope)
                    swept = self.clauses[clause.name].alone
            except Unroll as err:
                raise fail(
                    "MI0601",
                    f"not implemented: a sweep over what `{err.sweep.name}` decides",
                    clause.source.span,
                    label=f"this is another range for each `{err.sweep.name}`",
                    help="sweep over all of them, and say which with `where`: `where k < l`",
                ) from None
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

        self.order.append(clause.name)
        return Lazy(clause.name, clause.span, make, self.e.ctx)

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


@dataclass(frozen=True)
class Draws:
    """The names of a body under a control of several draws: a value for each of them, side by side."""

    draws: Sequence[Names]
    axis: Axis

    @property
    def scope(self) -> Scope:
        """The names under the first draw: what they are does not depend on which it is."""
        return self.draws[0].scope

    def swept_in_order(self) -> list[Swept]:
        """The swept variables of the body; the draws are none of them."""
        return self.draws[0].swept_in_order()

    def value(self, node: ast.Expr) -> Value:
        """The values of an expression, along the axis of the draws."""
        self.draws[0].e.ctx.spend(len(self.draws), node.span)
        points = ir.Points(tuple((i,) for i in range(len(self.draws))))
        sweep = ir.Sweep(self.axis.name, (self.axis.name,), (self.axis,), points)
        return side_by_side([n.value(node) for n in self.draws], (self.axis,), sweep, node.span)


@dataclass
class SweptDraws:
    """The names of a body under a control whose draws are swept: where a literal is needed, one by one.

    `axis` is that of the draws, `apart` makes the names of each.
    """

    together: Names
    axis: Axis
    apart: Callable[[], Draws]
    _apart: Draws | None = None

    @property
    def scope(self) -> Scope:
        return self.together.scope

    def swept_in_order(self) -> list[Swept]:
        """The swept variables of the body; the draws are none of them."""
        return self.together.swept_in_order()

    def value(self, node: ast.Expr) -> Value:
        """The values of an expression, along the axis of the draws."""
        try:
            return self.together.value(node)
        except Unroll as err:
            if err.sweep.axes != (self.axis,):
                raise
        if self._apart is None:
            self._apart = self.apart()
        return self._apart.value(node)


def cannot_unroll(sweep: ir.Sweep, span: Span, why: str = "") -> MiError:
    """The refusal of a swept variable where a literal is needed, and cannot be had."""
    return fail(
        "MI0321",
        f"`{sweep.name}` is swept, and a literal is needed here",
        span,
        label=why or f"it depends on where `{sweep.name}` is",
        help="sweep over a list, a range or layers by themselves; their points can stand for literals",
    )
