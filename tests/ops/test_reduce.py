"""Reductions: what counts, what nothing gives, and gradients that do not leak."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from midsl.ops.named import NT
from midsl.ops.reduce import REDUCTIONS, reduce

DATA = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
X = NT(DATA, ("batch", "pos", "head"))
MASK = NT(torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool(), ("batch", "pos"))

PLAIN: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min,
    "std": lambda x: np.std(x, ddof=1), "var": lambda x: np.var(x, ddof=1),
}  # fmt: skip


@pytest.mark.parametrize("op", PLAIN)
def test_without_mask(op: str) -> None:
    out = reduce(op, X, ("pos", "batch"))
    assert out.axes == ("head",)
    want = [PLAIN[op](DATA[:, :, h].numpy()) for h in range(5)]
    np.testing.assert_allclose(out.data.numpy(), want, rtol=1e-12)


@pytest.mark.parametrize("op", PLAIN)
def test_mask_says_which_elements_count(op: str) -> None:
    out = reduce(op, X, ("batch", "pos"), MASK)
    want = [PLAIN[op](DATA[:, :, h].numpy()[MASK.data.numpy()]) for h in range(5)]
    np.testing.assert_allclose(out.data.numpy(), want, rtol=1e-12)
    rows = reduce(op, X, ("pos",), MASK)
    assert rows.axes == ("batch", "head")
    np.testing.assert_allclose(rows.data[0].numpy(), [PLAIN[op](DATA[0, :3, h].numpy()) for h in range(5)])


def test_of_nothing() -> None:
    for op in ("mean", "max", "min", "std", "var"):
        assert reduce(op, X, ("pos",), MASK).data[2].isnan().all()
    assert (reduce("sum", X, ("pos",), MASK).data[2] == 0).all()
    truth = NT(DATA > 0, X.axes)
    assert (reduce("count", truth, ("pos",), MASK).data[2] == 0).all()
    assert reduce("all", truth, ("pos",), MASK).data[2].all()
    assert not reduce("any", truth, ("pos",), MASK).data[2].any()
    assert reduce("std", X, ("pos",), MASK).data[1].isnan().all()  # of one element


def test_truth_values() -> None:
    truth = NT(DATA > 0, X.axes)
    assert reduce("count", truth, ("batch", "pos")).data.tolist() == (DATA > 0).sum((0, 1)).tolist()
    assert reduce("mean", truth, ("batch", "pos")).data.tolist() == pytest.approx(
        (DATA > 0).double().mean((0, 1)).tolist()
    )
    assert reduce("sum", truth, ("head",)).data.dtype == torch.int64
    with pytest.raises(ValueError, match="truth values"):
        reduce("count", X, ("pos",))


def test_whole_numbers() -> None:
    x = NT(torch.tensor([[1, 2], [3, 4]]), ("batch", "i"))
    assert reduce("max", x, ("i",)).data.dtype == torch.int64
    assert reduce("mean", x, ("i",)).data.tolist() == [1.5, 3.5]
    mask = NT(torch.tensor([True, False]), ("batch",))
    out = reduce("max", x, ("i",), mask).data
    assert out[0] == 2 and out[1].isnan()


def test_over_no_axis_masks_only() -> None:
    out = reduce("mean", X, (), MASK)
    assert torch.equal(out.data[0, :3], DATA[0, :3])
    assert out.data[2].isnan().all()
    assert torch.equal(reduce("sum", X, ()).data, DATA)


def test_a_mask_may_bring_axes() -> None:
    mask = NT(torch.tensor([[True, False], [True, True], [False, False]]), ("batch", "group"))
    out = reduce("sum", X, ("batch",), mask)
    assert out.axes == ("pos", "head", "group")
    assert torch.allclose(out.data[..., 0], DATA[:2].sum(0))
    assert torch.allclose(out.data[..., 1], DATA[1])


def test_errors() -> None:
    with pytest.raises(ValueError, match="no axis 'layer'"):
        reduce("mean", X, ("layer",))
    with pytest.raises(ValueError, match="no reduction"):
        reduce("median", X, ("pos",))
    with pytest.raises(ValueError, match="Bool"):
        reduce("mean", X, ("pos",), NT(torch.ones(4), ("pos",)))


@pytest.mark.parametrize("op", [o for o in REDUCTIONS if o not in ("count", "any", "all")])
def test_gradient(op: str) -> None:
    mask = NT(MASK.data[:2], MASK.axes)
    data = torch.randn(2, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if op in ("std", "var"):
        mask = NT(torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).bool(), MASK.axes)

    def f(x: Tensor) -> Tensor:
        return reduce(op, NT(x, ("batch", "pos")), ("pos",), mask).data

    assert torch.autograd.gradcheck(f, data.requires_grad_())


@pytest.mark.parametrize("op", [o for o in REDUCTIONS if o not in ("count", "any", "all")])
def test_masked_elements_leak_nothing(op: str) -> None:
    data = DATA.clone()
    data[0, 3] = math.inf
    data[1, 1:] = math.nan
    data[2] = math.nan
    data.requires_grad_()
    out = reduce(op, NT(data, X.axes), ("batch", "pos"), MASK)
    (slope,) = torch.autograd.grad(out.data.sum(), data)
    assert slope.isfinite().all()
    assert (slope[~MASK.data] == 0).all()


def test_a_constant_has_no_spread_and_no_slope() -> None:
    data = torch.ones(4, dtype=torch.float64, requires_grad=True)
    out = reduce("std", NT(data, ("i",)), ("i",)).data
    (slope,) = torch.autograd.grad(out, data)
    assert out == 0 and (slope == 0).all()
