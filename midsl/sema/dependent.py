"""Sweeps of which one variable decides what another walks: ``sweep l in m.blocks, k in 0..l``.

Such variables share one sweep, with a column for each and one axis, as those that a condition joins. What one
walks may be known now (it is listed at each point of the other), or be the top of a score that has a value at
each point of the other: then the top is taken for each of them, while running.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from midsl.diagnostics.model import MiError, fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis
from midsl.sema.clauses import DOMAIN, SWEEP, Clause, Swept
from midsl.sema.values import Value
from midsl.source import Span
from midsl.syntax import ast

Coords = tuple[ir.Scalar, ...]
Pins = Mapping[str, Value]


@dataclass(frozen=True)
class Unit:
    """Variables that share a sweep: that of one clause, or of clauses that depend on each other.

    Attributes:
        points: where they are, if that is known by now and can stand for literals.
        pin: what the variables stand for at one of these points.
    """

    clauses: tuple[Clause, ...]
    sweep: ir.Sweep
    points: tuple[Coords, ...] | None
    pin: Callable[[Coords], dict[str, Value]]

    @property
    def values(self) -> dict[str, Value]:
        """The values of the variables, wherever the sweep is."""
        at, found = 0, {}
        for c in self.clauses:
            found[c.name] = c.value(self.sweep, at)
            at += len(c.columns)
        return found

    @property
    def swept(self) -> dict[str, Swept]:
        return {name: Swept(self.sweep, value) for name, value in self.values.items()}


def alone(clause: Clause) -> Unit:
    """The variable of one clause."""

    def pin(point: Coords) -> dict[str, Value]:
        assert clause.pinned is not None
        return {clause.name: clause.pinned(point)}

    return Unit((clause,), clause.sweep, clause.points, pin)


def joint(units: Sequence[Unit], more: Sequence[Clause], domain: ir.Node, size: int | None) -> ir.Sweep:
    """One sweep, with one axis, for the variables of several."""
    clauses = [c for u in units for c in u.clauses] + list(more)
    name = "_".join(c.name for c in clauses)
    columns = tuple(n for c in clauses for n in c.columns)
    axis = Axis(name, f"sweep:{name}", size)
    return ir.Sweep(name, columns, (axis,), domain, type=SWEEP, span=domain.span)


def ranked(units: Sequence[Unit], clause: Clause) -> Unit:
    """A computed selection whose score has a value at each point of other sweeps: the top at each of them."""
    top = clause.domain
    assert isinstance(top, ir.Top) and top.k is not None
    per = tuple(a for u in units for a in u.sweep.axes)
    domain = ir.Top(top.score, top.k, tuple(a.name for a in per), type=DOMAIN, span=top.span)
    size: int | None = top.k
    for a in per:
        size = None if size is None or a.size is None else size * a.size
    sweep = joint(units, [clause], domain, size)
    return Unit((*(c for u in units for c in u.clauses), clause), sweep, None, never)


def walked(units: Sequence[Unit], list_at: Callable[[Pins], Clause], span: Span) -> Unit:
    """What is listed at each point of other sweeps; `list_at` takes their variables as literals."""
    for u in units:
        if u.points is None:
            raise fail(
                "MI0321",
                f"`{u.sweep.name}` decides what is swept here, and its points are not known yet",
                span,
                label="a literal is needed for each of them",
                help="sweep over all there is, and say which with `where`: `where k < l`",
            )
    found: dict[Coords, tuple[Clause, Coords]] = {}
    empty: MiError | None = None
    for places in product(*(u.points or () for u in units)):
        pins = {k: v for u, p in zip(units, places, strict=True) for k, v in u.pin(p).items()}
        try:
            clause = list_at(pins)
        except MiError as err:
            if [d.code for d in err.diagnostics] != ["MI0402"]:
                raise
            empty = err  # nothing to walk at this point
            continue
        points = clause.listed()
        if points is None or clause.pinned is None:
            raise fail(
                "MI0321",
                "what is swept here is another thing at each point of another sweep",
                span,
                label="and it cannot be listed",
                help="sweep over all there is, and say which with `where`: `where k < l`",
            )
        outer = tuple(x for p in places for x in p)
        found |= {(*outer, *p): (clause, p) for p in points}
    if not found:
        assert empty is not None
        raise empty
    first = next(iter(found.values()))[0]
    clauses = (*(c for u in units for c in u.clauses), first)
    sweep = joint(units, [first], ir.Points(tuple(found), type=DOMAIN, span=span), len(found))

    def pin(point: Coords) -> dict[str, Value]:
        at = 0
        pins: dict[str, Value] = {}
        for u in units:
            pins |= u.pin(point[at : at + len(u.sweep.columns)])
            at += len(u.sweep.columns)
        clause, own = found[point]
        assert clause.pinned is not None
        return {**pins, clause.name: clause.pinned(own)}

    return Unit(clauses, sweep, tuple(found), pin)


def own_names(score: ir.Node) -> tuple[str, ...]:
    """The axes that a selection ranks along: those of its score that are not of other sweeps."""
    swept = {a.name for s in ir.sweeps_of(score) for a in s.axes}
    return tuple(n for n in score.tensor_type.names if n not in swept)


def never(point: Coords) -> dict[str, Value]:
    """Where variables are not known by now."""
    raise AssertionError("points that are chosen while running stand for no literals")


def together(body: Sequence[ast.Stmt]) -> dict[str, tuple[ast.SweepClause, ...]]:
    """The clauses of a body that may share a sweep, by the name of each: where the source of one mentions

    another's variable, itself or through bindings, or a `where` stands behind both.
    """
    bound = {
        s.name: s.value for s in body if isinstance(s, (ast.Binding, ast.Report)) and s.value is not None
    }
    clauses = {c.name: c for s in body if isinstance(s, ast.Sweep) for c in s.clauses}
    groups = {n: {n} for n in clauses}

    def join(a: str, b: str) -> None:
        both = groups[a] | groups[b]
        for n in both:
            groups[n] = both

    for stmt in body:
        if isinstance(stmt, ast.Sweep):
            for c in stmt.clauses:
                for n in _mentioned(c.source, bound) & clauses.keys():
                    join(c.name, n)
                if stmt.where is not None:
                    join(c.name, stmt.clauses[0].name)
    return {n: tuple(c for c in clauses.values() if c.name in g) for n, g in groups.items()}


def _mentioned(expr: ast.Expr, bound: Mapping[str, ast.Expr]) -> set[str]:
    """The names in an expression, and in what those of the body stand for."""
    found: set[str] = set()
    todo = [expr]
    while todo:
        new = {n.id for n in ast.walk(todo.pop()) if isinstance(n, ast.Name)} - found
        found |= new
        todo += [bound[n] for n in new if n in bound]
    return found
