"""The names of an experiment's body: at all points of its sweeps at once and, where need be, at one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from midsl.diagnostics.model import MiError, fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.sema.clauses import Clause, Swept
from midsl.sema.dependent import Unit, alone, ranked, together, walked
from midsl.sema.elaborate import Elaborator
from midsl.sema.kinds import one_behind_the_other, one_by_one
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
    ``midsl.sema.unroll``), a binding for its control. `shared`: which variables may share a sweep, if known.
    """

    def __init__(
        self,
        e: Elaborator,
        name: str,
        outer: Scope,
        body: tuple[ast.Stmt, ...],
        pins: Mapping[str, Value | Lazy] | None = None,
        shared: Mapping[str, tuple[ast.SweepClause, ...]] | None = None,
    ) -> None:
        self.e, self.name, self.outer, self.body = e, name, outer, body
        self.pins = dict(pins or {})
        self._shared = shared
        self.scope = outer.child({})
        self.order: list[str] = []
        self.swept: dict[str, Swept] = {}
        self.units: dict[str, Unit] = {}
        self._resolved: dict[str, Swept | str | None] = {}
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
            claim = _of_all_points(node)
            if claim is None:
                return self.each(err, lambda n: n.value(node), node.span)
            parts, again = claim
            held = {f"@{i}": self.value(x) for i, x in enumerate(parts)}
            names = [ast.Name(n, span=x.span) for n, x in zip(held, parts, strict=True)]
            return self.e.eval(again(*names), self.scope.child(held))

    def each(self, asked: Unroll, value: Callable[[Names], Value], span: Span) -> Value:
        """A value at each point of a sweep, side by side."""
        sweep = asked.sweep
        name = next((n for n, s in self.swept.items() if s.sweep == sweep), None)
        if name is None:
            raise asked  # a variable of somebody further out
        unit = self.units[name]
        if sweep != unit.sweep:
            raise cannot_unroll(sweep, span, "`where` chooses its points")
        kinds = unit.clauses[0].kinds
        if kinds:
            at = [self._at(sweep, (i,), {name: k.value}) for i, k in enumerate(kinds)]
            return one_behind_the_other([value(n) for n in at], kinds, sweep, span)
        if any(c.pinned is None for c in unit.clauses) or len(sweep.axes) not in (1, len(sweep.columns)):
            raise cannot_unroll(sweep, span)
        if unit.points is None:
            raise cannot_unroll(sweep, span, "its points are not known before the model is loaded")
        found = []
        for point in unit.points:
            self.e.ctx.spend(1, span)
            found.append(value(self._at(sweep, point, unit.pin(point))))
            if isinstance(found[-1], Poison):
                raise PoisonError  # what is wrong at one point need not be said of all
        if len(sweep.axes) == len(sweep.columns):
            return side_by_side(found, sweep.axes, sweep, span)
        kinds = one_by_one(sweep, unit.points)  # so that each keeps its coordinates
        return one_behind_the_other(found, kinds, sweep, span)

    def _at(self, sweep: ir.Sweep, point: Coords, values: Mapping[str, Value]) -> Names:
        """The names of the body where the variables of a sweep stand for one thing each."""
        if (sweep.digest, point) not in self.points:
            self.points[sweep.digest, point] = self._with(values)
        return self.points[sweep.digest, point]

    def _with(self, values: Mapping[str, Value]) -> Names:
        """The names of the body where some stand for something else."""
        pins = {**self.pins, **values}
        return Names(self.e, self.name, self.outer, self.body, pins, self._together)

    def _declare(self, stmt: ast.Stmt) -> None:
        if isinstance(stmt, ast.Binding) and stmt.role == "control":
            return
        if isinstance(stmt, (ast.Binding, ast.Report)) and stmt.name in self.pins:
            self.scope.names[stmt.name] = self.pins[stmt.name]
        elif isinstance(stmt, ast.Binding):
            self._name(stmt.name, self._binding(stmt), stmt)
        elif isinstance(stmt, ast.Sweep):
            for clause in stmt.clauses:
                if clause.name in self.pins:
                    self.scope.names[clause.name] = self.pins[clause.name]
                else:
                    self._name(clause.name, self._clause(clause), clause)
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

    @cached_property
    def _together(self) -> Mapping[str, tuple[ast.SweepClause, ...]]:
        return together(self.body) if self._shared is None else self._shared

    def _resolve(self, name: str) -> dict[str, Swept]:
        """The swept variables that one may share its sweep with, worked out together."""
        clauses = [c for c in self._together[name] if c.name not in self.pins]
        units: list[Unit] = []
        for clause in clauses:
            units = self._unit(clause, units)
        for u in units:
            self.units |= dict.fromkeys((c.name for c in u.clauses), u)
        found = {n: s for u in units for n, s in u.swept.items()}
        for stmt in self.body:
            if isinstance(stmt, ast.Sweep) and stmt.where is not None and stmt.clauses[0].name in found:
                names = {c.name for c in stmt.clauses}
                chosen = [u for u in units if names & {c.name for c in u.clauses}]
                scope = self._with({n: s.value for n, s in found.items()}).scope
                found |= joint_sweep(self.e, chosen, stmt.where, scope)
        return found

    def _unit(self, clause: ast.SweepClause, units: list[Unit]) -> list[Unit]:
        """Sweeps with one more variable: in one of its own, or part of those that decide what it walks."""

        def at(pins: Mapping[str, Value]) -> Clause:
            scope = self._with({**outer, **pins}).scope if outer else self.scope
            return elaborate_clause(self.e, clause, scope)

        outer = {n: v for u in units for n, v in u.values.items()}
        span = clause.source.span
        needed: list[Unit] = []
        try:
            made = at({})
            free = ir.sweeps_of(made.domain)
            needed = [u for u in units if u.sweep in free]
            if not needed:
                return [*units, alone(made)]
            if isinstance(made.domain, ir.Top):
                return [*(u for u in units if u not in needed), ranked(needed, made)]
        except Unroll as err:
            asked = err
            needed = [u for u in units if u.sweep == asked.sweep]
            if not needed:
                raise
        while True:
            try:
                unit = walked(needed, at, span)
            except Unroll as err:
                asked = err
                more = [u for u in units if u.sweep == asked.sweep and u not in needed]
                if not more:
                    raise
                needed = [u for u in units if u in needed or u in more]
                continue
            return [*(u for u in units if u not in needed), unit]

    def _clause(self, clause: ast.SweepClause) -> Lazy:
        def make() -> Value:
            if clause.name not in self._resolved:
                group = [c.name for c in self._together[clause.name]]
                self._resolved |= dict.fromkeys(group, clause.name)
                try:
                    self._resolved |= self._resolve(clause.name)
                except Unroll as err:
                    raise cannot_unroll(err.sweep, clause.source.span) from None
                finally:  # who asks after a refusal hears no more of it
                    self._resolved |= {n: None for n in group if isinstance(self._resolved[n], str)}
            swept = self._resolved[clause.name]
            if isinstance(swept, str):
                raise fail(
                    "MI0211",
                    f"`{clause.name}` is swept over what it decides itself",
                    clause.source.span,
                    label=f"`{swept}` depends on it, and stands before it",
                    help=f"sweep `{swept}` over something that is known before",
                )
            if swept is None:
                raise PoisonError
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


def _of_all_points(node: ast.Expr) -> tuple[tuple[ast.Expr, ...], Callable[..., ast.Expr]] | None:
    """What a claim over a whole sweep is made of, its points together; and the same claim of other parts."""
    match node:
        case ast.Call(ast.Name("all" | "any"), (ast.Arg(None, of) as first, *more)):
            return (of,), lambda x: replace(node, args=(replace(first, value=x), *more))
        case ast.Binary("and" | "or", left, right):
            return (left, right), lambda x, y: replace(node, left=x, right=y)
        case ast.Unary("not", operand):
            return (operand,), lambda x: replace(node, operand=x)
    return None


def cannot_unroll(sweep: ir.Sweep, span: Span, why: str = "") -> MiError:
    """The refusal of a swept variable where a literal is needed, and cannot be had."""
    return fail(
        "MI0321",
        f"`{sweep.name}` is swept, and a literal is needed here",
        span,
        label=why or f"it depends on where `{sweep.name}` is",
        help="sweep over a list, a range or layers by themselves; their points can stand for literals",
    )
