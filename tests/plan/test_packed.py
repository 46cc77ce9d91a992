"""Products on packed weights: the same numbers, gradients to activations, and no stale weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from midsl.backends import packed
from midsl.backends.eager import Runner
from midsl.plan.driver import Execution
from tests.plan.corpus import tables
from tests.plan.test_rows import PATCH, spec

aten = torch.ops.aten
pytestmark = pytest.mark.skipif(not packed.at_hand(), reason="this PyTorch has no packed products")


class Two(nn.Module):
    """A linear map [out, in] with a bias, one [in, out] with one, and one without."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(24, 16, generator=g), requires_grad=False)
        self.b = nn.Parameter(torch.randn(24, generator=g), requires_grad=False)
        self.c = nn.Parameter(torch.randn(24, 32, generator=g), requires_grad=False)
        self.d = nn.Parameter(torch.randn(32, generator=g), requires_grad=False)
        self.e = nn.Parameter(torch.randn(32, 8, generator=g), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(torch.addmm(self.d, torch.nn.functional.linear(x, self.a, self.b), self.c), self.e)


@pytest.fixture
def made() -> tuple[Two, Runner]:
    model = Two()
    gm = torch.export.export(model, (torch.randn(5, 16),), strict=False).module(check_guards=False)
    end = next(n for n in gm.graph.nodes if n.op == "output")
    if not isinstance(end.args[0], (tuple, list)):
        end.args = ((end.args[0],),)
    packed.Packing.of(gm).on = True
    return model, Runner(gm.graph, gm, {}, cones=False)


def run(runner: Runner, x: Tensor) -> Tensor:
    found: Tensor = runner([x])[0]
    return found


def test_the_same_numbers(made: tuple[Two, Runner]) -> None:
    model, runner = made
    targets = {n.target for n in runner.calls}
    assert targets == {aten.linear.default, aten.addmm.default, aten.mm.default}, "all three are packed"
    x = torch.randn(7, 16)
    torch.testing.assert_close(run(runner, x), model(x), rtol=1e-4, atol=1e-3)


def test_gradients_reach_what_comes_in(made: tuple[Two, Runner]) -> None:
    model, runner = made
    x = torch.randn(7, 16)
    found, want = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    with torch.enable_grad():
        run(runner, found).square().sum().backward()  # type: ignore[no-untyped-call]
        model(want).square().sum().backward()
    assert found.grad is not None and want.grad is not None
    torch.testing.assert_close(found.grad, want.grad, rtol=1e-4, atol=1e-1)


def test_a_weight_written_in_place_is_packed_anew(made: tuple[Two, Runner]) -> None:
    model, runner = made
    x = torch.randn(7, 16)
    run(runner, x)
    with torch.no_grad():
        for n, w in runner.attrs.items():
            if isinstance(n, fx.Node) and str(n.target).endswith("a"):
                w.mul_(2.0)
                model.a.copy_(w)
    torch.testing.assert_close(run(runner, x), model(x), rtol=1e-4, atol=1e-3)


def test_weights_in_training_and_other_precisions_are_left_alone(made: tuple[Two, Runner]) -> None:
    _, runner = made
    for w in runner.attrs.values():
        w.requires_grad_(True)
    x = torch.randn(7, 16)
    with torch.enable_grad():
        out = run(runner, x)
        out.sum().backward()  # type: ignore[no-untyped-call]
    assert all(w.grad is not None for w in runner.attrs.values())
    double = Two().double()
    gm = torch.export.export(double, (x.double(),), strict=False).module(check_guards=False)
    assert not Runner(gm.graph, gm, {}, cones=False).calls


def test_a_plan_of_few_rows_packs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan decides by its rows: below the break-even every product is PyTorch's own."""
    made: list[str] = []
    init = packed.Weights.__init__

    def counted(self: packed.Weights, weight: Tensor) -> None:
        made.append("packed")
        init(self, weight)

    monkeypatch.setattr(packed.Weights, "__init__", counted)
    compiled = spec(tmp_path, PATCH.format(site="m.blocks[*].resid_pre[pos: *]", value="clean"), layers=2)
    few, many = Execution(compiled), Execution(compiled)
    monkeypatch.setattr(packed, "PAYS_FROM", 10**9)
    few.run()
    assert not made
    monkeypatch.setattr(packed, "PAYS_FROM", 1)
    many.run()
    assert made
    for a, b in zip(tables(few)["e.effect"].value, tables(many)["e.effect"].value, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize("act", ["none", "tanh", "relu", "silu"])
def test_an_activation_goes_with_the_product(act: str) -> None:
    """The value after it is the same, and what stands between is there for whoever asks."""
    f = {
        "none": torch.nn.functional.gelu,
        "tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "relu": torch.relu,
        "silu": torch.nn.functional.silu,
    }[act]

    class Act(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(
                torch.randn(24, 16, generator=torch.Generator().manual_seed(0)), requires_grad=False
            )

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            pre = torch.nn.functional.linear(x, self.w)
            return pre, f(pre) * 2.0

    model, x = Act(), torch.randn(7, 16)
    gm = torch.export.export(model, (x,), strict=False).module(check_guards=False)
    end = next(n for n in gm.graph.nodes if n.op == "output")
    _, post = end.args[0]
    packed.Packing.of(gm).on = True
    both = Runner(gm.graph, gm, {}, cones=False)
    for found, want in zip(both([x]), model(x), strict=True):
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)
    assert not both.follows or both.follows.keys() == both.calls.keys()
    end.args = ((post,),)
    one = Runner(gm.graph, gm, {}, cones=False)
    assert [len(then.chain) for then in one.follows.values()] == [1]
    torch.testing.assert_close(one([x])[0], model(x)[1], rtol=1e-4, atol=1e-4)
    grad = x.clone().requires_grad_(True)
    with torch.enable_grad():
        one([grad])[0].sum().backward()
        own = x.clone().requires_grad_(True)
        model(own)[1].sum().backward()
    assert grad.grad is not None and own.grad is not None
    torch.testing.assert_close(grad.grad, own.grad, rtol=1e-4, atol=1e-3)
