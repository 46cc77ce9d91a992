"""Selection along a named axis."""

import pytest
import torch
from torch import Tensor

from midsl.ops.index import select, span_select
from midsl.ops.named import NT

DATA = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
X = NT(DATA, ("batch", "pos", "vocab"))


def ints(values: list[int] | list[list[int]], *axes: str) -> NT:
    return NT(torch.tensor(values), axes)


def test_one_index_takes_the_axis_away() -> None:
    assert torch.equal(select(X, "pos", 2).data, DATA[:, 2])
    assert select(X, "pos", -1).axes == ("batch", "vocab")
    with pytest.raises(IndexError):
        select(X, "pos", 4)
    with pytest.raises(ValueError, match="no axis"):
        select(X, "head", 0)


def test_a_list_keeps_the_axis() -> None:
    out = select(X, "vocab", [3, 0])
    assert out.axes == X.axes
    assert torch.equal(out.data, DATA[:, :, [3, 0]])
    assert torch.equal(select(X, "pos", [1]).data, DATA[:, [1]])


def test_one_index_per_row() -> None:
    out = select(X, "pos", ints([3, 1], "batch"))
    assert out.axes == ("batch", "vocab")
    assert torch.equal(out.data, torch.stack([DATA[0, 3], DATA[1, 1]]))


def test_one_index_per_row_and_position() -> None:
    at = ints([[0, 1, 2, 3], [4, 3, 2, 1]], "batch", "pos")
    out = select(X, "vocab", at)
    assert out.axes == ("batch", "pos")
    assert torch.equal(out.data, DATA.gather(2, at.data[..., None])[..., 0])
    other_way = select(X, "vocab", NT(at.data.T, ("pos", "batch")))
    assert torch.equal(other_way.data, out.data)


def test_an_index_may_bring_axes() -> None:
    out = select(X, "vocab", ints([[0, 1, 2], [3, 4, 0]], "batch", "@"))
    assert out.axes == ("batch", "pos", "@")
    assert torch.equal(out.data[1, :, 1], DATA[1, :, 4])
    points = select(X, "pos", ints([2, 0], "@"))
    assert points.axes == ("batch", "vocab", "@")
    assert torch.equal(points.data[..., 0], DATA[:, 2])


def test_a_stretch_per_row() -> None:
    out = span_select(X, "pos", ints([1, 3], "batch"), 2)
    assert out.axes == X.axes
    assert torch.equal(out.data[0], DATA[0, 1:3])
    assert torch.equal(out.data[1, 0], DATA[1, 3])
    assert (out.data[1, 1] == 0).all()  # beyond the end
    assert torch.equal(span_select(X, "pos", 1, 3).data, DATA[:, 1:])
    assert torch.equal(span_select(X, "pos", 0, 2, step=3).data, DATA[:, ::3])
    assert (span_select(X, "pos", -1, 2).data[:, 0] == 0).all()


def test_gradients_go_back_to_what_was_taken() -> None:
    def f(x: Tensor) -> Tensor:
        n = NT(x, X.axes)
        return torch.cat(
            [
                select(n, "pos", ints([3, 3], "batch")).data.reshape(-1),
                select(n, "vocab", [1, 1]).data.reshape(-1),
                span_select(n, "pos", ints([1, 3], "batch"), 2).data.reshape(-1),
            ]
        )

    assert torch.autograd.gradcheck(f, DATA.clone().requires_grad_())
