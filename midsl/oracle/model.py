"""A model as the oracle runs it: its whole exported graph in float64, one node after the other.

The graph is the one `midsl.graph` exports under its lifting mode, rewritten only so that the sites a
run touches are nodes. Nothing is sliced, fused or shared between runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from midsl.data.dataset import Part
from midsl.diagnostics.model import fail
from midsl.graph.backward import Switch
from midsl.graph.info import flowing
from midsl.graph.reweigh import put, with_own
from midsl.graph.sites import Loaded, ModelGraph, SiteConflict, SiteNode, build_model_graph, specialise
from midsl.ops.named import NT
from midsl.oracle.inputs import Address, Change, Taken

Special = tuple[fx.GraphModule, dict[Address, SiteNode]]
KEPT = 32
"""How many rewritten graphs are kept: a sweep over layers needs one for each."""


class GraphModel:
    """An `OracleModel` over a lifted model graph."""

    def __init__(self, graph: ModelGraph) -> None:
        if graph.device.type != "cpu":
            raise fail("MI0601", "not implemented: the oracle on another device than the CPU")
        self.graph = graph
        self.info = graph.info
        self._special: OrderedDict[object, Special] = OrderedDict()

    @classmethod
    def of(cls, loaded: Loaded) -> GraphModel:
        """Export a loaded model in float64.

        Raises:
            ExportFailed: if it cannot become a graph.
        """
        return cls(build_model_graph(loaded, lift=True))

    def run(
        self,
        part: Part,
        edits: Mapping[Address, Change],
        reads: Collection[Address],
        taken: Taken | None = None,
    ) -> dict[Address, NT]:
        """Run on a part, with changes in graph order, and return the values read, changes included.

        Where a gradient is `taken`, ``torch.autograd.grad(scalar, value)`` works for any of the values
        returned, by the rules of that gradient.
        """
        grad = taken is not None
        through = flowing(self.info, reads) if grad else ()
        gm, sites = self._specialised(
            frozenset(edits) | frozenset(reads), frozenset({*edits, *through}), taken
        )
        at: dict[str, list[Address]] = {}
        for address, place in sites.items():
            at.setdefault(place.node, []).append(address)
        ids = torch.as_tensor(np.ascontiguousarray(part.tokens))
        mask = (torch.arange(ids.shape[1]) < torch.as_tensor(part.lengths)[:, None]).long()
        walk = _Walk(self, gm, sites, at, edits, reads, grad)
        with nullcontext() if grad else torch.no_grad():
            walk.run(ids, mask)
        return walk.found

    def weight(self, name: str, layer: int | None) -> Tensor:
        """Return a weight in float64; axes as in the weight table.

        Raises:
            MiError: MI0401 if the model has no such weight.
        """
        try:
            return self.graph.weight(name, layer).detach().double()
        except KeyError:
            raise fail("MI0401", f"the model has no weight `{name}`") from None

    def with_weights(self, values: Mapping[Address, Tensor]) -> GraphModel:
        """Return the model with other weights; axes as in the weight table."""
        graph = with_own(self.graph, list(values))
        for (name, layer), value in values.items():
            put(graph, name, layer, value)
        return GraphModel(graph)

    def _specialised(
        self, touched: frozenset[Address], writes: frozenset[Address], taken: Taken | None
    ) -> Special:
        rules: tuple[tuple[str, str], ...] = ()
        if taken is not None:  # a gradient is with respect to what flows on: a write that changes nothing
            writes, rules = writes | set(taken.leaves), taken.grad.rules
        key = (touched, writes, rules)
        if key not in self._special:
            switch = Switch(frozenset(part for part, _ in rules)) if rules else None
            try:
                graph, sites = specialise(self.graph, touched, writes, switch)
            except SiteConflict as e:
                raise fail("MI0404", f"these sites cannot be used in one run: {e.reason}") from None
            if switch is not None:
                switch.on = switch.parts
            self._special[key] = fx.GraphModule(self.graph.gm, graph), sites
        self._special.move_to_end(key)
        if len(self._special) > KEPT:
            self._special.popitem(last=False)
        return self._special[key]


class _Walk(fx.Interpreter):
    """One run: each node in turn; at sites, what the edits say and what is to be read."""

    def __init__(
        self,
        model: GraphModel,
        gm: fx.GraphModule,
        sites: Mapping[Address, SiteNode],
        at: Mapping[str, list[Address]],
        edits: Mapping[Address, Change],
        reads: Collection[Address],
        grad: bool,
    ) -> None:
        super().__init__(gm)
        self.model, self.sites, self.at, self.edits, self.reads = model, sites, at, edits, reads
        self.grad = grad
        self.found: dict[Address, NT] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Compute a node; where it is a site, its value is the one after the edits."""
        value = super().run_node(n)
        here = self.at.get(n.name, [])
        if not here:
            return value
        # Two names for one node are one address: the edits of both apply, in the order they came.
        layout = [d for d in self.sites[here[0]].layout if isinstance(d, str)]
        whole = NT(value, tuple(layout)).permute_to(self._axes(here[0]))
        for address in self.edits:
            if address in here:
                whole = self.edits[address](whole.permute_to(self._axes(address)))
        whole = whole.permute_to(self._axes(here[0]))
        if self.grad and not whole.data.requires_grad:
            whole = NT(whole.data.clone().requires_grad_(), whole.axes)
        for address in here:
            if address in self.reads:
                # one tensor for all names, and the very one that flows on: gradients are taken of it
                assert self._axes(address) == whole.axes, "names of one node have the same axes"
                self.found[address] = whole
        return whole.permute_to(layout).data.contiguous()  # what follows may view it

    def _axes(self, address: Address) -> tuple[str, ...]:
        row = self.model.info.site(address[0])
        assert row is not None, address
        return row.axes
