"""Chains that a model spells out, put back together."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx

from midsl.graph.simplify import simplify

aten = torch.ops.aten
ROOT = math.sqrt(2 / math.pi)


def spelled(
    half: float = 0.5, root: float = ROOT, cubic: float = 0.044715, one: float = 1.0, power: int = 3
) -> Callable[[Tensor], Tensor]:
    """GELU's tanh form with constants of one's own."""

    def f(x: Tensor) -> Tensor:
        return (x * half) * (torch.tanh(root * (x + cubic * torch.pow(x, power))) + one)

    return f


def graph_of(f: Callable[[Tensor], Tensor]) -> torch.fx.GraphModule:
    """The operations of a function, as an export has them."""

    class M(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return f(x)

    return torch.export.export(M(), (torch.randn(3, 4, dtype=torch.float64),), strict=False).module(
        check_guards=False
    )


def count(graph: fx.Graph) -> int:
    graph.eliminate_dead_code()
    return sum(n.op == "call_function" and isinstance(n.target, torch._ops.OpOverload) for n in graph.nodes)


def test_a_spelled_out_gelu_is_one_operation_of_the_same_value_and_name() -> None:
    gm = graph_of(spelled())
    before = [n.name for n in gm.graph.nodes if n.target is aten.mul.Tensor][-1]
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    want = spelled()(x)
    assert count(gm.graph) > 6
    assert simplify(gm.graph, set()) == 1
    (call,) = [n for n in gm.graph.nodes if n.target is aten.gelu.default]
    assert call.name == before
    assert torch.allclose(call.target(x, **call.kwargs), want, rtol=1e-14, atol=1e-15)
    assert count(gm.graph) == 1


@pytest.mark.parametrize(
    "change", [{"half": 0.4}, {"root": 0.8}, {"cubic": 0.0447}, {"one": 1.5}, {"power": 2}], ids=str
)
def test_other_constants_stay(change: dict[str, float]) -> None:
    gm = graph_of(spelled(**change))  # type: ignore[arg-type]
    assert simplify(gm.graph, set()) == 0


def test_a_touched_node_keeps_its_chain() -> None:
    gm = graph_of(spelled())
    inner = next(n.name for n in gm.graph.nodes if n.target is aten.tanh.default)
    assert simplify(gm.graph, {inner}) == 0
    assert simplify(gm.graph, {"x"}) == 1
