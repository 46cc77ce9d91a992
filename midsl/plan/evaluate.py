"""Evaluating expressions over many points at once.

Two ways to hold a value that depends on sweeps. Inside a run's step it has one flat axis ``"@"``, a
row per lane of the chunk at hand. Once all points are there it is on the *grid*: real axes such as
`layer` and `head`, so that reductions over them are ordinary reductions. Either way an operation is
the same call on named tensors, which is what the law of axis names is for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from midsl.diagnostics.model import MiError
from midsl.ir import nodes as ir
from midsl.ir.crossing import binds, goes_along, has_self, mixes_rows, settles
from midsl.ir.crossing import runs_read as runs_read
from midsl.ir.types import Axis, TensorType
from midsl.ops.index import select
from midsl.ops.named import NT
from midsl.ops.pullback import pull_back
from midsl.ops.reduce import reduce
from midsl.ops.registry import apply_op
from midsl.plan.bound_points import POINT as POINT
from midsl.plan.bound_points import at_own_point, points_as_axes
from midsl.plan.domains import Domains, Table, is_dense
from midsl.plan.draws import drawn
from midsl.plan.inputs import Inputs, Rows
from midsl.plan.places import positions_named
from midsl.plan.wide import generalise
from midsl.sema.tensors import stretch


@dataclass(frozen=True)
class Stored:
    """A value kept for later: over the product of its sweeps (axis "@" first), or over none."""

    sweeps: tuple[ir.Sweep, ...]
    value: NT

    @property
    def over_sweeps(self) -> Stored:
        """The same without the axis "@", where there are no sweeps."""
        return self if self.sweeps else Stored((), NT(self.value.data[0], self.value.axes[1:]))


class Source(Protocol):
    """Where reads of the run at hand come from."""

    run: ir.Forward

    def read(self, site: ir.Site, env: Env) -> NT:
        """The value of a site at the points of `env`: "@" first if there are sweeps."""
        ...


@dataclass(frozen=True)
class Env:
    """Where an expression is evaluated: at which points, for which rows, inside which run."""

    table: Table | None = None
    rows: slice | None = None
    source: Source | None = None
    lanes: Tensor | None = None
    self_value: NT | None = None
    unswept: dict[str, NT] = field(default_factory=dict)
    """Values at hand that depend on none of the sweeps: shared by all that is evaluated beside it."""
    base: tuple[Env, dict[str, NT]] | None = None
    """The lanes themselves, where `table` has each of them at further points; `lanes` says which is whose."""
    seen: tuple[NT, ...] = ()
    """In a fit: the values that its loss is about."""
    given: NT | None = None
    """In the map of a pull-back: its argument."""
    own: frozenset[str] = frozenset()
    """Axes of the place that is edited: a value may have them, whatever is swept."""

    @property
    def swept_axes(self) -> set[tuple[str, str]]:
        """Axes that lanes are at points of, by name and owner."""
        sweeps = self.table.sweeps if self.table is not None else ()
        return {(a.name, a.owner) for s in sweeps for a in s.axes}

    @property
    def digests(self) -> frozenset[str]:
        return self.table.digests if self.table is not None else frozenset()


GRID = Env()


class NotKept(AssertionError):
    """A value that no step keeps was asked for: a bug of the planner, unless it is only for show."""


@dataclass
class Evaluator:
    """Evaluates IR over stored values."""

    inputs: Inputs
    domains: Domains
    rows: Rows
    store: dict[str, Stored] = field(default_factory=dict)
    settled: dict[str, NT] | None = None
    """Small values that are the same wherever they are asked for, if what they are made of never changes."""
    chosen: dict[str, Stored] = field(default_factory=dict)
    """Places that passes over the rows have found (see ``midsl.plan.scan``)."""

    def grid(self, node: ir.Node) -> NT:
        """The value over all points, with the sweeps' axes as real axes."""
        return self.eval(node, GRID, {})

    def eval(self, node: ir.Node, env: Env, memo: dict[str, NT]) -> NT:
        """The value of a tensor expression; `memo` lives as long as `env` does."""
        done = memo.get(node.digest)
        if done is not None:
            return done
        bare = self.settled is not None and env.source is None and env.given is None and not env.seen
        if bare and settles(node):
            assert self.settled is not None
            done = self.settled.get(node.digest)
            if done is None:
                done = self.settled[node.digest] = self._eval(node, env, memo)
        else:
            done = self._eval(node, env, memo)
        memo[node.digest] = done
        return done

    def _eval(self, node: ir.Node, env: Env, memo: dict[str, NT]) -> NT:
        on = {s.digest for s in ir.sweeps_of(node)}
        if env.base is not None and not on & (env.digests - env.base[0].digests):
            value = self.eval(node, *env.base)  # once per lane, not once per point of each
            if POINT in value.axes and env.lanes is not None:
                value = select(value, POINT, NT(env.lanes, (POINT,)))
            return self._lift(value, node, env)
        swept = bool(on & env.digests)
        if env.table is not None and env.table.sweeps and not swept and not has_self(node):
            plain = replace(env, table=None)
            return self._lift(self.eval(node, plain, env.unswept), node, env)
        stored = self.store.get(node.digest)
        if stored is not None and (env.source is None or env.source.run.digest not in runs_read(node)):
            return self._stored(stored, env)
        if env.rows is not None and env.source is None and mixes_rows(node) and not has_self(node):
            # an edit's value in a chunk: what goes across rows is taken over all of them, not the chunk's
            return self._cut(self.eval(node, replace(env, rows=None, unswept={}), {}), env)
        here = env.source is not None and env.source.run.digest in runs_read(node)
        along = swept and goes_along(node) & env.swept_axes
        if env.table is not None and not here and not has_self(node) and (along or binds(node, env.digests)):
            # over points of a sweep that each lane here is one of, or at none of: over all, then each its own
            whole = self.eval(node, replace(env, table=None, lanes=None, base=None, unswept={}), {})
            return self._lift(whole, node, env)
        if env.table is not None and here and binds(node, env.digests):
            memo = points_as_axes(node, env, memo, self.domains, self.eval)
        method = getattr(self, "_" + type(node).__name__.lower())
        return at_own_point(method(node, env, memo), node, env)

    def _stored(self, stored: Stored, env: Env) -> NT:
        value = stored.value
        if stored.sweeps:
            if env.table is not None:
                at = env.table.flat(stored.sweeps, self.domains)
                value = NT(value.data[at.to(value.data.device)], value.axes)
            else:
                names: list[str] = []
                sizes: list[int] = []
                for s in stored.sweeps:
                    n, z = self.domains.grid(s)
                    names += n
                    sizes += z
                value = NT(value.data.reshape(*sizes, *value.data.shape[1:]), (*names, *value.axes[1:]))
        return self._cut(value, env)

    def _cut(self, value: NT, env: Env) -> NT:
        if env.rows is not None and "batch" in value.axes:
            dim = value.dim("batch")
            value = NT(value.data.narrow(dim, env.rows.start, env.rows.stop - env.rows.start), value.axes)
        return value

    def _lift(self, value: NT, node: ir.Node, env: Env) -> NT:
        """Pick, along axes that a sweep of the point table also has, each point's own entry."""
        assert env.table is not None
        done = env.base[0].digests if env.base is not None else frozenset()
        for s in env.table.sweeps:
            if s.digest in done:
                continue
            if not is_dense(s):  # one axis for all coordinates: a point is where it stands along it
                a = s.axes[0]
                if a.name in value.axes and a.name not in env.own and _same(node, a):
                    value = select(value, a.name, NT(env.table.index[s.digest], (POINT,)))
                continue
            shared = [a for a in s.axes if a.name in value.axes and a.name not in env.own and _same(node, a)]
            if not shared:
                continue
            for a in shared:
                i = s.axes.index(a)
                coords = self.domains.column(s, i)[env.table.index[s.digest]]
                own = next(x for x in node.tensor_type.axes if x.name == a.name)
                if own.labels is not None:
                    coords = torch.tensor(
                        [own.labels.index(int(c)) for c in coords.tolist()], dtype=torch.int64
                    )
                value = select(value, a.name, NT(coords, (POINT,)))
        return value

    # -- leaves

    def _const(self, node: ir.Const, env: Env, memo: dict[str, NT]) -> NT:
        v = node.value
        kind = torch.bool if isinstance(v, bool) else torch.int64 if isinstance(v, int) else torch.float64
        return NT(torch.tensor(v, dtype=kind), ())

    def _column(self, node: ir.Column, env: Env, memo: dict[str, NT]) -> NT:
        return self._cut(self.rows.column(node), env)

    def _member(self, node: ir.Member, env: Env, memo: dict[str, NT]) -> NT:
        return self._cut(self.rows.member(node), env)

    def _weight(self, node: ir.Weight, env: Env, memo: dict[str, NT]) -> NT:
        return NT(self.inputs.weight(node.model, node.name, node.layer), node.tensor_type.names)

    def _seen(self, node: ir.Seen, env: Env, memo: dict[str, NT]) -> NT:
        return env.seen[node.index]

    def _param(self, node: ir.Param, env: Env, memo: dict[str, NT]) -> NT:
        return NT(self.inputs.param(node), node.tensor_type.names)

    def _coord(self, node: ir.Coord, env: Env, memo: dict[str, NT]) -> NT:
        values = (
            self.domains.column(node.sweep, node.index)
            if node.label is None
            else self.domains.is_at(node.sweep, node.index, node.label)
        )
        if env.table is not None and node.sweep.digest in env.table.index:
            return NT(values[env.table.index[node.sweep.digest]], (POINT,))
        names, sizes = self.domains.grid(node.sweep)
        return NT(values.reshape(sizes), names)

    def _draw(self, node: ir.Draw, env: Env, memo: dict[str, NT]) -> NT:
        if isinstance(node.seed, ir.Const):
            assert isinstance(node.seed.value, int)
            return self._cut(drawn(node, node.seed.value, self.inputs), env)
        seeds = self._coord(node.seed, env, memo)  # type: ignore[arg-type]
        flat = seeds.data.reshape(-1).tolist()
        each = {s: self._cut(drawn(node, int(s), self.inputs), env) for s in dict.fromkeys(flat)}
        own = each[flat[0]]
        data = torch.stack([each[s].data for s in flat]).reshape(*seeds.data.shape, *own.data.shape)
        return NT(data, (*seeds.axes, *own.axes))

    def _self(self, node: ir.Self, env: Env, memo: dict[str, NT]) -> NT:
        assert env.self_value is not None, "`self` outside an edit reached the executor"
        return env.self_value

    def _read(self, node: ir.Read, env: Env, memo: dict[str, NT]) -> NT:
        if env.source is not None and env.source.run == node.run:
            return env.source.read(node.site, env)
        return self._generalised(node, env)

    def _given(self, node: ir.Given, env: Env, memo: dict[str, NT]) -> NT:
        assert env.given is not None
        return env.given

    def _pullback(self, node: ir.Pullback, env: Env, memo: dict[str, NT]) -> NT:
        def f(x: NT) -> NT:
            return self.eval(node.of, replace(env, given=x, base=None, unswept={}), {})

        return pull_back(f, self.eval(node.at, env, memo), self.eval(node.by, env, memo), node.over)

    def _grad(self, node: ir.Grad, env: Env, memo: dict[str, NT]) -> NT:
        return self._generalised(node, env)

    def _jvp(self, node: ir.Jvp, env: Env, memo: dict[str, NT]) -> NT:
        raise NotKept(f"the plan never pushed a direction at {node.site.name} that it needs")

    def _generalised(self, node: ir.Read | ir.Grad, env: Env) -> NT:
        """A read at computed points of a family that was stored whole."""
        wide, coords = generalise(node)
        stored = self.store.get(wide.digest)
        if stored is None:
            raise NotKept(f"the plan never stored {node.site.name} of a run that it needs")
        value = self._stored(stored, env)
        for axis, coord in coords:
            value = select(value, axis, self._coord(coord, env, {}))
        return value

    # -- operations

    def _apply(self, node: ir.Apply, env: Env, memo: dict[str, NT]) -> NT:
        args = [self.eval(a, env, memo) for a in node.args]
        attrs = dict(node.attrs)
        data = {"pos", "batch", "key_pos"} & {*node.over}
        mask = self._mask_of(node, data, env) if data else None
        try:
            return apply_op(node.op, args, attrs, mask=mask)
        except MiError as err:
            raise err.at(node.span) from None

    def _mask_of(self, node: ir.Apply, data: set[str], env: Env) -> NT | None:
        """Which elements count of the operands along axes of the data."""
        found: NT | None = None
        for arg in node.args:
            if data <= set(arg.tensor_type.names):
                mask = self.counted(arg, node.over, env)
                both = found is not None and mask is not None
                found = apply_op("and", [found, mask], {}) if both else mask or found  # type: ignore[list-item]
        return found

    def _select(self, node: ir.Select, env: Env, memo: dict[str, NT]) -> NT:
        x = self.eval(node.arg, env, memo)
        axis, index = node.axis, node.index
        if isinstance(index, ir.Slice) or (isinstance(index, ir.Const) and isinstance(index.value, tuple)):
            if axis.name in ("pos", "key_pos"):
                return self._restretch(x, axis, stretch(index), env)
            if isinstance(index, ir.Slice):
                return select(x, axis.name, list(range(x.size(axis.name)))[index.lo : index.hi : index.step])
            return select(x, axis.name, [_place(axis, v) for v in index.value])  # type: ignore[union-attr]
        if isinstance(index, ir.Column) and not isinstance(index.type, TensorType):
            return self._restretch(x, axis, index.name, env)
        if axis.name in ("pos", "key_pos") and axis.owner in self.rows.owners:
            return self._position(x, axis, self.eval(index, env, memo), env)
        if isinstance(index, ir.Const):
            return select(x, axis.name, _place(axis, index.value))
        found = self.eval(index, env, memo)
        if axis.labels is not None and isinstance(index, ir.Coord):
            places = [_place(axis, int(v)) for v in found.data.reshape(-1).tolist()]
            found = NT(torch.tensor(places).reshape(found.data.shape), found.axes)
        return select(x, axis.name, found)

    def _position(self, x: NT, axis: Axis, at: NT, env: Env) -> NT:
        """One position of the row, on a value that covers a stretch of it."""
        if axis.span:
            start, _ = self.rows.stretch(axis.owner, axis.span)
            first = self._cut(NT(start.data[:, 0], ("batch",)), env)
            at = apply_op("sub", [at, first], {})
        return select(x, axis.name, NT(at.data.clamp(0, x.size(axis.name) - 1), at.axes))

    def _restretch(self, x: NT, axis: Axis, span: str, env: Env) -> NT:
        """From one stretch of the row to another inside it."""
        at, _ = self.rows.stretch(axis.owner, span)
        base, _ = self.rows.stretch(axis.owner, axis.span)
        index = NT(at.data - base.data[:, :1], ("batch", axis.name))
        index = NT(index.data.clamp(0, x.size(axis.name) - 1), index.axes)
        return select(x, axis.name, self._cut(index, env))

    def _reduce(self, node: ir.Reduce, env: Env, memo: dict[str, NT]) -> NT:
        x = self.eval(node.arg, env, memo)
        names = tuple(a.name for a in node.axes)
        mask = self.counted(node.arg, names, env)
        if node.where is not None:
            where = self.eval(node.where, env, memo)
            mask = where if mask is None else apply_op("and", [where, mask], {})
        missing = [n for n in names if n not in x.axes]
        if missing:  # the value does not depend on it, but its type says that it is there
            x = self._spread(x, node, missing)
        return reduce(node.op, x, names, mask)

    def _union(self, node: ir.Union, env: Env, memo: dict[str, NT]) -> NT:
        """The kinds of places one behind the other."""
        (axis,) = node.sweep.axes
        found = []
        for part, kind in zip(node.parts, node.kinds, strict=True):
            own = kind.axes[0].name
            x = self.eval(part, env, memo)
            if own not in x.axes:  # the same at all points of this kind
                x = x.expand({own: self.domains.size(kind), **x.sizes})
            found.append(NT(x.data, tuple(axis.name if a == own else a for a in x.axes)))
        sizes = {a: n for x in found for a, n in x.sizes.items() if a != axis.name}
        rows = [x.expand({axis.name: x.size(axis.name), **sizes}).data for x in found]
        return NT(torch.cat(rows), (axis.name, *sizes))

    def _spread(self, x: NT, node: ir.Reduce, missing: list[str]) -> NT:
        sizes = dict(x.sizes)
        for a in node.axes:
            if a.name in missing:
                sizes[a.name] = (
                    a.size if a.size is not None else self.rows.stretch(a.owner, a.span)[1].size(a.name)
                )
        return x.expand(sizes)

    def counted(self, arg: ir.Node, names: tuple[str, ...], env: Env) -> NT | None:
        """Which elements count in a reduction over `names`: real positions, eligible rows."""
        axes = {a.name: a for a in arg.tensor_type.axes}
        masks: list[NT] = []
        for name in ("pos", "key_pos"):
            axis = axes.get(name)
            if axis is None or axis.owner not in self.rows.owners or not {name, "batch"} & set(names):
                continue
            _, real = self.rows.stretch(axis.owner, axis.span)
            real = self._cut(NT(real.data, ("batch", name)), env)
            if bool(real.data.all()):
                continue
            if "batch" not in axes:
                real = reduce("any", real, ("batch",))
            masks.append(real)
        if "batch" in names:
            owner = axes["batch"].owner
            usable = self.usable(arg, owner, env)
            masks += [usable] if usable is not None else []
        if not masks:
            return None
        found = masks[0]
        for m in masks[1:]:
            found = apply_op("and", [found, m], {})
        return found

    def usable(self, node: ir.Node, owner: str, env: Env) -> NT | None:
        """Rows that count, and have every single position which an expression names (None: all of them)."""
        found: NT | None = None
        for index, of in positions_named(node):
            if not self.rows.shared(of, owner):
                continue
            lengths = self._cut(self.rows.lengths(of), env)
            fits = apply_op("lt", [self.eval(index, env, {}), lengths], {})
            if isinstance(index, ir.Const) and bool(fits.data.all()):
                continue
            found = fits if found is None else apply_op("and", [found, fits], {})
        part = self.rows.owners.get(owner)
        if part is not None and part.where is not None:
            counts = self._cut(self.grid(part.where), env)
            found = counts if found is None else apply_op("and", [found, counts], {})
        return found


def pointwise(value: NT, env: Env) -> NT:
    """The value with "@" first, whether or not it depends on the points."""
    assert env.table is not None
    value = NT(value.data.detach(), value.axes)
    if POINT not in value.axes:
        return NT(value.data.unsqueeze(0).expand(env.table.size, *value.data.shape), (POINT, *value.axes))
    return value.permute_to((POINT, *(a for a in value.axes if a != POINT)))


def _same(node: ir.Node, axis: Axis) -> bool:
    return any(a.name == axis.name and a.owner == axis.owner for a in node.tensor_type.axes)


def _place(axis: Axis, value: object) -> int:
    """Where a label stands along its axis."""
    if axis.labels is not None:
        return axis.labels.index(value)
    assert isinstance(value, int)
    return value
