"""Named tensors: combining by name."""

import pytest
import torch

from midsl.ops.named import NT, align


def t(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)


def test_rank_and_names_are_checked() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        NT(t(2, 3), ("batch",))
    with pytest.raises(ValueError, match="twice"):
        NT(t(2, 2), ("batch", "batch"))


def test_align_is_the_union_in_order_of_appearance() -> None:
    a, b = NT(t(2, 3), ("batch", "pos")), NT(t(3, 4, 5), ("pos", "@", "head"))
    (x, y), axes = align(a, b)
    assert axes == ("batch", "pos", "@", "head")
    total = x + y
    assert total.shape == (2, 3, 4, 5)
    assert total[1, 2, 3, 4] == a.data[1, 2] + b.data[2, 3, 4]


def test_align_permutes() -> None:
    a, b = NT(t(2, 3), ("batch", "pos")), NT(t(3, 2), ("pos", "batch"))
    (x, y), axes = align(a, b)
    assert axes == ("batch", "pos")
    assert torch.equal(x + y, a.data + b.data.T)


def test_align_names_the_axis_that_disagrees() -> None:
    with pytest.raises(ValueError, match="'pos': 3 against 4"):
        align(NT(t(2, 3), ("batch", "pos")), NT(t(4), ("pos",)))


def test_a_scalar_does_not_change_precision() -> None:
    a = NT(torch.ones(2, 3), ("batch", "pos"))
    (x, y), axes = align(a, NT(torch.tensor(2.0, dtype=torch.float64), ()))
    assert (x * y).dtype == torch.float32
    assert axes == ("batch", "pos")


def test_expand_and_permute_to() -> None:
    a = NT(t(2, 3), ("batch", "pos"))
    wide = a.expand({"head": 4, "pos": 3, "batch": 2})
    assert wide.data.shape == (4, 3, 2)
    assert torch.equal(wide.data[3], a.data.T)
    assert torch.equal(a.permute_to(("pos", "batch")).data, a.data.T)
    with pytest.raises(ValueError, match="axis 'pos'"):
        a.expand({"batch": 2})
    with pytest.raises(ValueError, match="order"):
        a.permute_to(("batch", "head"))
