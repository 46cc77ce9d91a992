"""Operations that decompositions are written with: entries kept, slopes by decree, symmetric matrices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from midsl.ops.named import NT
from midsl.ops.registry import apply_op

RNG = torch.Generator().manual_seed(1)


def run(name: str, *args: NT, **attrs: Any) -> NT:
    return apply_op(name, args, attrs)


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RNG, dtype=torch.float64)


def test_another_name_is_all_that_changes() -> None:
    x = NT(rand(2, 3), ("b", "i"))
    got = run("rename", x, old="i", new="j")
    assert got.axes == ("b", "j") and torch.equal(got.data, x.data)


def test_the_largest_of_a_whole_batch() -> None:
    x = NT(torch.tensor([[4.0, 3.0, 2.0], [1.0, 0.5, 0.0]]), ("b", "i"))
    both = run("top_mask", x, k=2, over=("b", "i"))
    assert both.data.tolist() == [[4, 3, 0], [0, 0, 0]]
    each = run("top_mask", x, k=2, over=("b", "i"), per="b")  # two for each of two examples
    assert each.data.tolist() == [[4, 3, 2], [1, 0, 0]]
    assert run("top_mask", x, k=2, over=("i", "b")).data.tolist() == both.data.tolist()


def test_the_largest_of_each_stretch() -> None:
    x = NT(torch.tensor([[1.0, 3.0, 3.0, -1.0], [0.0, 0.0, -2.0, -1.0]]), ("b", "i"))
    assert run("group_max", x, k=2, over="i").data.tolist() == [[0, 3, 3, 0], [0, 0, 0, -1]]
    assert run("group_max", x, k=4, over="i").data.tolist() == x.data.tolist()
    along = run("group_max", NT(x.data.T, ("i", "b")), k=2, over="i")
    assert along.axes == ("i", "b") and along.data.T.tolist() == [[0, 3, 3, 0], [0, 0, 0, -1]]


def test_a_constant_for_gradients() -> None:
    x = rand(4).requires_grad_()
    (run("stop_gradient", NT(x, ("i",))).data * x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and torch.equal(x.grad, x.detach())


def test_a_step_has_the_slope_of_a_ramp() -> None:
    x = torch.tensor([-1.0, -0.2, 0.0, 0.2, 1.0], requires_grad=True)
    y = run("step", NT(x, ("i",)), width=0.5).data
    assert y.tolist() == [0, 0, 0, 1, 1]
    (y * torch.arange(1.0, 6.0)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.tolist() == [0, 4, 6, 8, 0]


def test_eigenvectors_are_those_of_the_matrix() -> None:
    a = rand(5, 5)
    symmetric = a @ a.T
    got = run("eigenvectors", NT(symmetric, ("d", "e")), over="d", into="c", k=3)
    assert got.axes == ("d", "c")
    v = got.data
    assert torch.allclose(v.T @ v, torch.eye(3, dtype=torch.float64), atol=1e-12)
    values = torch.linalg.eigvalsh(symmetric).flip(0)[:3]
    assert torch.allclose(symmetric @ v, v * values, atol=1e-10)
    assert (v.gather(0, v.abs().argmax(0, keepdim=True)) > 0).all()
    with pytest.raises(ValueError, match="square"):
        run("eigenvectors", NT(rand(2, 3), ("d", "e")), over="d", into="c", k=1)


def test_solving_gives_what_the_matrix_maps_there() -> None:
    a = rand(4, 4)
    symmetric, b = a @ a.T, rand(4, 2)
    x = run("solve", NT(symmetric, ("d", "e")), NT(b, ("d", "k")), over="d")
    assert x.axes == ("e", "k") and torch.allclose(symmetric @ x.data, b, atol=1e-9)
    shrunk = run("solve", NT(symmetric, ("d", "e")), NT(b, ("d", "k")), over="d", ridge=2.0)
    assert torch.allclose((symmetric + 2 * torch.eye(4)) @ shrunk.data, b, atol=1e-9)
    flat = torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64))  # of no inverse: the smallest solution
    least = run("solve", NT(flat, ("d", "e")), NT(torch.ones(2, dtype=torch.float64), ("d",)), over="d")
    assert least.data.tolist() == [0.5, 0]
    many, right = torch.stack([symmetric, 2 * symmetric]), rand(4, 2)
    each = run("solve", NT(many, ("c", "d", "e")), NT(right, ("d", "c")), over="d")
    assert each.axes == ("c", "e"), "a matrix for each column"
    assert torch.allclose(torch.einsum("cde,ce->dc", many, each.data), right, atol=1e-9)


def test_gradients_of_symmetric_matrices() -> None:
    a, b = rand(4, 4).requires_grad_(), rand(4).requires_grad_()

    def solved(a: Tensor, b: Tensor) -> Tensor:
        m = a @ a.T + torch.eye(4)
        return run("solve", NT(m, ("d", "e")), NT(b, ("d",)), over="d", ridge=0.1).data

    def main_direction(a: Tensor) -> Tensor:
        m = a @ a.T
        return run("eigenvectors", NT(m, ("d", "e")), over="d", into="c", k=2).data

    assert gradcheck(solved, (a, b))
    assert gradcheck(main_direction, (a,))


def test_several_axes_at_once() -> None:
    x, y = rand(2, 3, 4), rand(3, 4, 5)
    got = run("dot", NT(x, ("b", "i", "j")), NT(y, ("i", "j", "k")), over=("i", "j"))
    assert torch.allclose(got.data, torch.einsum("bij,ijk->bk", x, y))
