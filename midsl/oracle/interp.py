"""The oracle: what a spec means. One run at a time, one sweep point at a time, float64, whole graphs.

Nothing here is optimised and nothing is batched over points; results are kept by what was computed
(a node, at the points of the sweeps it depends on) only so that a value used twice is made once. Any
plan must agree with this file. What single operations mean is in ``midsl.ops``; what a place in a
model is, in ``sites.py``; which elements count, in ``rows.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from midsl.diagnostics.model import MiError, fail
from midsl.ir import nodes as ir
from midsl.ir.crossing import streams
from midsl.ir.states import earlier
from midsl.ir.types import TensorType
from midsl.ops.index import select
from midsl.ops.named import NT
from midsl.ops.reduce import reduce
from midsl.ops.registry import apply_op
from midsl.oracle import contexts
from midsl.oracle.across import along_sweep, swept_axis
from midsl.oracle.domains import Domains, Points, axis_of
from midsl.oracle.gradients import gradient, product, pullback
from midsl.oracle.inputs import Address, Change, Inputs, OracleModel, Taken, Values
from midsl.oracle.leaves import leaf, literal
from midsl.oracle.memo import Memo, OfSelf, uses_self
from midsl.oracle.rows import Rows, both, joined, over_data
from midsl.oracle.select import along, label_index
from midsl.oracle.sites import Place, Point, coordinate
from midsl.oracle.tables import table_of

Typed = Sequence[tuple[NT, TensorType]]


class Oracle:
    """Evaluates sinks.

    `domains` gives points of sweeps by digest, as a plan expanded or chose them. Those of `Points`
    and `Family` domains must be what the spec says; a choice (`Top`) is replayed, and refused
    (MI0704) unless it is a best choice within `tolerance`. Sweeps that are not given are worked out.
    `chosen` does so for places of ``contexts``, by pass and point.
    """

    def __init__(
        self,
        inputs: Inputs,
        domains: Mapping[str, Points] | None = None,
        tolerance: float = 1e-9,
        chosen: Mapping[str, Callable[[Point], NT]] | None = None,
    ) -> None:
        self.inputs = inputs
        self.chosen = chosen or {}
        self.domains = Domains(inputs, domains or {}, tolerance, self.table)
        self.rows = Rows(inputs, self.domains.under, self.domains.chosen, self.value)
        self.memo: Memo[NT] = Memo()
        self.of_self = OfSelf()
        self.runs: Memo[dict[Address, NT]] = Memo()
        self.models: dict[str, OracleModel] = {}
        self.wanted: dict[str, set[ir.Site]] = {}
        self.seen: set[str] = set()
        self.leaf: tuple[object, ...] | None = None
        self.leaf_values: Values | None = None
        self.taken: Taken | None = None
        self.given: NT | None = None
        self.outside = self

    # ------------------------------------------------------------ sinks

    def report(self, sink: ir.Report) -> tuple[dict[str, list[ir.Scalar]], np.ndarray]:
        """Return a report as a table: key columns, and one float64 value per row (see ``table_of``)."""
        self.register(sink)
        return table_of(
            self, sink.value, sink.sweeps or ir.sweeps_of(sink.value), sink.where, dict(sink.beside)
        )

    def expect(self, sink: ir.Expect) -> bool:
        """Return whether a claim holds."""
        self.register(sink)
        return bool(self.value(sink.condition, {}).data.item())

    def table(
        self, node: ir.Node, sweeps: Sequence[ir.Sweep]
    ) -> tuple[dict[str, list[ir.Scalar]], np.ndarray]:
        """Return any value as a table, as `report`."""
        self.register(node)
        return table_of(self, node, sweeps)

    def register(self, root: ir.Node) -> None:
        """Note which sites each run is read at, so that it runs once, and which data there is."""
        for node in ir.walk(root):
            if node.digest in self.seen:
                continue
            self.seen.add(node.digest)
            if isinstance(node, (ir.Read, ir.Grad)):
                self.wanted.setdefault(node.run.digest, set()).add(node.site)
            elif isinstance(node, ir.Part):
                self.rows.register(node)

    # ------------------------------------------------------------ values

    def value(self, node: ir.Node, point: Point, me: NT | None = None) -> NT:
        """Return the value of a tensor expression at a point; `me` is what `self` stands for.

        Axes are those of the type that no sweep at the point accounts for, in any order.
        """
        own = uses_self(node)
        memo, key = self.of_self.of(me) if own else self.memo, self.key(node, point)
        found = memo.get(key)
        if found is None:
            found = memo.put(key, self._value(node, point, me if own else None))
        return found

    def key(self, node: ir.Node, point: Point) -> tuple[object, ...]:
        return (node.digest, *(point.get(s.digest) for s in ir.sweeps_of(node)))

    def _value(self, node: ir.Node, point: Point, me: NT | None) -> NT:
        match node:
            case ir.Const(value=tuple() as items):
                return NT(torch.stack([literal(i) for i in items]), node.tensor_type.names)
            case ir.Const(value=value):
                return NT(literal(value), ())
            case ir.Coord():
                return NT(literal(coordinate(node, point)), ())
            case ir.Param():
                return NT(self.inputs.param(node), node.tensor_type.names)
            case ir.Self():
                assert me is not None, "self outside an edit"
                return me
            case ir.Column() | ir.Member() | ir.Weight() | ir.Draw():
                return leaf(self.inputs, node, point)
            case ir.Read():
                return self.place(node.site, node.run, point).read(self.run(node.run, point))
            case ir.Jvp():
                return product(self, node, point)
            case ir.Grad():
                return gradient(self, node, point)
            case ir.Pullback():
                return pullback(self, node, point)
            case ir.Given():
                assert self.given is not None, "the argument of a map outside it"
                return self.given
            case ir.Apply():
                return self._apply(node, point, me)
            case ir.Reduce():
                return self._reduce(node, point, me)
            case ir.Select():
                return along(self, node, point, me)
            case ir.Union():
                kind, at = node.members[point[node.sweep.digest]]
                return self.value(node.parts[kind], {**point, node.kinds[kind].digest: at}, me)
        raise fail("MI0601", f"not implemented: {type(node).__name__}", node.span)

    def settle(
        self, args: Sequence[tuple[NT, TensorType]], sweeps: Sequence[ir.Sweep], point: Point
    ) -> list[NT]:
        """Values that meet in one expression, each at the coordinates that the others are swept along.

        The `layer` of a starred family and the `layer` of a sweep over that family are one axis: where
        one value has it and another is at a point of it, the first is taken at that point.
        """
        swept = {n for x, t in args for n in t.names if n not in x.axes}
        at = {
            (axis_of(s, i).name, axis_of(s, i).owner): c
            for s in sweeps
            for i, c in enumerate(point.get(s.digest, ()))
        }
        settled = []
        for x, t in args:
            for axis in t.axes:
                if axis.name in swept and axis.name in x.axes and (axis.name, axis.owner) in at:
                    x = select(x, axis.name, label_index(axis, at[axis.name, axis.owner]))
            settled.append(x)
        return settled

    def _apply(self, node: ir.Apply, point: Point, me: NT | None) -> NT:
        if (along_axis := swept_axis(node)) is not None:
            return along_sweep(self, node, *along_axis, point, me)
        types = [a.tensor_type for a in node.args]
        values = [self.value(a, point, me) for a in node.args]
        args = self.settle(list(zip(values, types, strict=True)), ir.sweeps_of(node), point)
        attrs = dict(node.attrs)
        mask = None
        if over_data(node.over):
            mask = self.rows.real(joined(types, args), self.rows.usable(node, point))
        if streams(node):
            return contexts.found(self, node, args[0], mask, point)
        try:
            return apply_op(node.op, args, attrs, mask)
        except MiError as err:
            raise err.at(node.span) from None

    def _reduce(self, node: ir.Reduce, point: Point, me: NT | None) -> NT:
        """Over own axes and sweeps alike: the points of the sweeps become one more axis."""
        parts = [node.arg] if node.where is None else [node.arg, node.where]
        types = [p.tensor_type for p in parts]
        sweeps = [s for p in parts for s in ir.sweeps_of(p)]
        xs: list[NT] = []
        masks: list[NT] = []
        for at in self.domains.under(node, point):
            values = [self.value(p, at, me) for p in parts]
            got = self.settle(list(zip(values, types, strict=True)), sweeps, at)
            real = [self.rows.real(joined(types, got), self.rows.usable(p, at)) for p in parts]
            mask = both([*real, *got[1:]]) or NT(torch.tensor(True), ())
            masks.append(mask.expand({**got[0].sizes, **mask.sizes}))
            xs.append(got[0].expand(masks[-1].sizes))
        if not xs:
            raise fail("MI0402", "nothing is swept here", node.span)
        names = ("@points", *xs[0].axes)
        x = NT(torch.stack([x.permute_to(names[1:]).data for x in xs]), names)
        keep = NT(torch.stack([m.permute_to(names[1:]).data for m in masks]), names)
        over = [a.name for a in node.axes if a.name in names]
        return reduce(node.op, x, ["@points", *over], keep)

    # ------------------------------------------------------------ runs

    def place(self, site: ir.Site, run: ir.Forward, point: Point) -> Place:
        return Place(site, self.inputs.part(run.data), self.model(run.model).info, point)

    def model(self, node: ir.Node) -> OracleModel:
        """A model, with the weights that a run of it writes."""
        if not isinstance(node, ir.Reweighted):
            return self.inputs.model(node)
        if node.digest not in self.models:
            whole = self.model(node.model)
            values: dict[Address, Tensor] = {}
            for w in node.weights:
                sizes = dict(zip(w.axes, whole.weight(w.name, w.layer).shape, strict=True))
                values[w.name, w.layer] = self.value(w.value, {}).expand(sizes).data
            self.models[node.digest] = whole.with_weights(values)
        return self.models[node.digest]

    def run(self, run: ir.Forward, point: Point) -> Values:
        """The whole values of all sites that anything reads in this run."""
        key = self.key(run, point)
        grad = key == self.leaf
        found = self.leaf_values if grad else self.runs.get(key)
        if found is None:
            for step in earlier(run, lambda r: self.runs.get(self.key(r, point)) is not None):
                self.run(step, point)
            model = self.model(run.model)
            reads = {a for site in self.wanted[run.digest] for a in self._addresses(site, run, point)}
            taken = self.taken if grad else None
            values = dict(model.run(self.inputs.part(run.data), self._changes(run, point), reads, taken))
            found = values if grad else self.runs.put(key, values)
            if grad:
                self.leaf_values = values
        return found

    def _addresses(self, site: ir.Site, run: ir.Forward, point: Point) -> tuple[Address, ...]:
        """Where a site may be read in a run: in any layer, if the layer is swept."""
        if isinstance(site.index("layer"), ir.Coord):
            rest = tuple((a, i) for a, i in site.select if a != "layer")
            site = ir.Site(site.model, site.name, (("layer", ir.Star()), *rest))
        return self.place(site, run, point).addresses()

    def _changes(self, run: ir.Forward, point: Point) -> dict[Address, Change]:
        """What the edits do at each address: the absolute write first, then those with `self` in order."""
        there: dict[Address, list[tuple[ir.Edit, Place]]] = {}
        for edit in sorted(run.edits, key=lambda e: not e.absolute):  # stable
            place = self.place(edit.site, run, point)
            for address in place.addresses():
                there.setdefault(address, []).append((edit, place))

        def change(address: Address) -> Change:
            def apply(whole: NT) -> NT:
                for edit, place in there[address]:
                    here = place.gather(whole)
                    own = (*here.axes, "layer") if place.many_layers else here.axes
                    value = self.value(edit.value, point, here)
                    # along axes that are not the site's, the value is taken where the sweeps are at
                    slot = TensorType(axes=tuple(a for a in edit.value.tensor_type.axes if a.name not in own))
                    pair = [(value, slot), (NT(torch.zeros(()), ()), slot)]
                    (value, _) = self.settle(pair, ir.sweeps_of(run), point)
                    through = self.taken is not None and self.taken.grad.through
                    data = value.data if through else value.data.detach()  # a constant for gradients
                    whole = place.write(whole, NT(data, value.axes), address[1])
                return whole

            return apply

        return {address: change(address) for address in there}


def evaluate(node: ir.Node, inputs: Inputs, point: Point, domains: Mapping[str, Points] | None = None) -> NT:
    """Return the value of one tensor expression at one point of the sweeps it depends on."""
    oracle = Oracle(inputs, domains)
    oracle.register(node)
    return oracle.value(node, point)
