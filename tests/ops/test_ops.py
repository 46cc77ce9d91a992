"""Every operation against plain torch, its gradient against finite differences, padding against absence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from midsl.ops.catalog import CATALOG
from midsl.ops.named import NT
from midsl.ops.registry import REGISTRY, UnknownOp, apply_op, load_families

RNG = torch.Generator().manual_seed(0)


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RNG, dtype=torch.float64)


X = NT(rand(2, 3, 4), ("batch", "pos", "vocab"))
Y = NT(rand(4, 2), ("vocab", "batch"))  # lacks pos, other order
Y_WIDE = Y.data.T[:, None, :]


def run(name: str, *args: NT, **attrs: Any) -> NT:
    return apply_op(name, args, attrs)


def test_catalog_and_registry_agree() -> None:
    load_families()
    assert set(CATALOG) == set(REGISTRY)


def test_unknown_operation() -> None:
    with pytest.raises(UnknownOp, match=r"internal error.*'nope'"):
        run("nope", X)


def test_wrong_arity() -> None:
    with pytest.raises(ValueError, match="2 operands, not 1"):
        run("add", X)


UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "neg": lambda x: -x,
    "abs": np.abs,
    "relu": lambda x: np.maximum(x, 0),
    "exp": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sign": np.sign,
    "square": lambda x: x * x,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    out = run(name, X)
    assert out.axes == X.axes and out.data.dtype == torch.float64
    np.testing.assert_allclose(out.data.numpy(), UNARY[name](X.data.numpy()), rtol=1e-12, atol=1e-15)


def test_log_and_sqrt() -> None:
    x = NT(X.data.abs(), X.axes)
    np.testing.assert_allclose(run("log", x).data.numpy(), np.log(x.data.numpy()))
    np.testing.assert_allclose(run("sqrt", x).data.numpy(), np.sqrt(x.data.numpy()))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("div", torch.div),
        ("minimum", torch.minimum), ("maximum", torch.maximum), ("lt", torch.lt), ("le", torch.le),
        ("gt", torch.gt), ("ge", torch.ge), ("eq", torch.eq), ("ne", torch.ne),
    ],
)  # fmt: skip
def test_binary_combines_by_name(name: str, plain: Callable[[Tensor, Tensor], Tensor]) -> None:
    out = run(name, X, Y)
    assert out.axes == X.axes
    assert torch.equal(out.data, plain(X.data, Y_WIDE))


def test_whole_numbers() -> None:
    a, b = NT(torch.tensor([7, -7]), ("i",)), NT(torch.tensor(2), ())
    assert run("div", a, b).data.tolist() == [3.5, -3.5]
    assert run("div", a, b).data.dtype == torch.float64
    assert run("mod", a, b).data.tolist() == [1, 1]  # the sign of the divisor, as in Python
    assert run("pow", a, b).data.tolist() == [49, 49]
    assert run("pow", a, NT(torch.tensor(-1), ())).data.tolist() == [1 / 7, -1 / 7]
    assert run("add", NT(torch.tensor([True, False]), ("i",)), b).data.tolist() == [3, 2]
    assert run("exp", b).data.dtype == torch.float64


def test_precision_is_kept() -> None:
    x = NT(torch.ones(2, dtype=torch.float32), ("i",))
    half = NT(torch.tensor(0.5, dtype=torch.float64), ())
    for name in ("add", "mul", "div", "maximum"):
        assert run(name, x, half).data.dtype == torch.float32
    assert run("softmax", x, over="i").data.dtype == torch.float32


def test_logic() -> None:
    a, b = NT(torch.tensor([True, True, False]), ("i",)), NT(torch.tensor([True, False, False]), ("i",))
    assert run("and", a, b).data.tolist() == [True, False, False]
    assert run("or", a, b).data.tolist() == [True, True, False]
    assert run("not", b).data.tolist() == [False, True, True]
    with pytest.raises(ValueError, match="truth value"):
        run("and", X, a)


def test_approx() -> None:
    a = NT(torch.tensor([0.0, 1.0, 1e6, math.nan, math.inf, math.inf], dtype=torch.float64), ("i",))
    near = torch.tensor([5e-10, 5e-10, 5e-4, math.nan, math.inf, 0.0], dtype=torch.float64)
    b = NT(torch.where(torch.tensor([False, True, True, False, False, False]), a.data + near, near), ("i",))
    assert run("approx", a, b).data.tolist() == [True, True, True, False, True, False]
    c, d = NT(torch.tensor(1.0), ()), NT(torch.tensor(1.01), ())
    assert not run("approx", c, d).data
    assert run("approx", c, d, tol=0.02).data
    assert not run("approx", c, d, tol=0.001).data
    # a literal has no precision of its own: float32 decides
    e, f = NT(torch.full((1,), 1 / 3), ("i",)), NT(torch.tensor(1 / 3, dtype=torch.float64), ())
    assert run("approx", e, f).data.all()


def test_clamp_where_isfinite() -> None:
    assert torch.equal(run("clamp", X, min=-0.5, max=0.5).data, X.data.clamp(-0.5, 0.5))
    assert torch.equal(run("clamp", X, min=0.1).data, X.data.clamp(min=0.1))
    with pytest.raises(ValueError, match="min, max"):
        run("clamp", X)
    cond = NT(Y.data > 0, Y.axes)
    assert torch.equal(
        run("where", cond, X, Y).permute_to(X.axes).data, torch.where(Y_WIDE > 0, X.data, Y_WIDE)
    )
    bad = NT(torch.tensor([1.0, math.nan, math.inf]), ("i",))
    assert run("isfinite", bad).data.tolist() == [True, False, False]


def test_softmax_family() -> None:
    assert torch.allclose(run("softmax", X, over="pos").data, torch.softmax(X.data, 1))
    assert torch.allclose(run("log_softmax", X, over="vocab").data, torch.log_softmax(X.data, 2))
    joint = run("softmax", X, over=("pos", "vocab"))
    assert joint.axes == X.axes
    assert torch.allclose(joint.data, torch.softmax(X.data.reshape(2, -1), 1).reshape(2, 3, 4))
    out = run("logsumexp", X, over=("vocab", "batch"))
    assert out.axes == ("pos",)
    assert torch.allclose(out.data, torch.logsumexp(X.data, (0, 2)))


def test_norms() -> None:
    assert torch.allclose(run("norm", X, over="vocab").data, X.data.pow(2).sum(2).sqrt())
    unit = run("normalize", X, over="pos")
    assert torch.allclose(unit.data.pow(2).sum(1), torch.ones(2, 4, dtype=torch.float64))
    zero = NT(torch.zeros(3, dtype=torch.float64), ("i",))
    assert run("normalize", zero, over="i").data.tolist() == [0, 0, 0]
    assert run("cosine", zero, zero, over="i").data == 0


def test_orderings() -> None:
    x = NT(torch.tensor([[3.0, 1.0, 3.0, 2.0], [0.0, 5.0, 5.0, -1.0]]), ("b", "i"))
    assert run("argmax", x, over="i").data.tolist() == [0, 1]
    assert run("argmin", x, over="i").data.tolist() == [1, 3]
    assert run("argmax", x, over="b").data.tolist() == [0, 1, 1, 0]
    assert run("sort", x, over="i").data[0].tolist() == [1, 2, 3, 3]
    assert run("rank", x, over="i").data.tolist() == [[0, 3, 0, 2], [2, 0, 0, 3]]
    assert run("cumsum", x, over="i").data[0].tolist() == [3, 4, 7, 9]
    assert run("top_mask", x, k=1, over="i").data.tolist() == [[3, 0, 0, 0], [0, 5, 0, 0]]
    assert run("top_mask", x, k=9, over="i").data.tolist() == x.data.tolist()
    with pytest.raises(ValueError, match="exactly one axis"):
        run("argmax", x, over=("b", "i"))


def test_dot_matches_einsum() -> None:
    w = NT(rand(4, 5, 3), ("vocab", "k", "pos"))
    out = run("dot", X, w, over="vocab")
    assert out.axes == ("batch", "pos", "k")
    assert torch.allclose(out.data, torch.einsum("bpv,vkp->bpk", X.data, w.data))
    both = run("dot", X, w, over=("vocab", "pos"))
    assert torch.allclose(both.data, torch.einsum("bpv,vkp->bk", X.data, w.data))
    with pytest.raises(ValueError, match="no axis 'pos'"):
        run("dot", X, Y, over="pos")
    ints = NT(torch.tensor([1, 2]), ("i",))
    assert run("dot", ints, ints, over="i").data == 5


def test_cosine() -> None:
    out = run("cosine", X, Y, over="vocab")
    want = torch.cosine_similarity(X.data, Y_WIDE.expand(2, 3, 4), dim=-1)
    assert out.axes == ("batch", "pos")
    assert torch.allclose(out.data, want)


def test_distributions() -> None:
    p, q = torch.softmax(X.data, -1), torch.softmax(Y_WIDE.expand(2, 3, 4), -1)
    m = (p + q) / 2
    kl = (p * (p / q).log()).sum(-1)
    js = ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2
    assert torch.allclose(run("kl", X, Y, over="vocab").data, kl)
    assert torch.allclose(run("js", X, Y, over="vocab").data, js)
    assert torch.allclose(run("entropy", X, over="vocab").data, -(p * p.log()).sum(-1))
    assert run("kl", X, X, over="vocab").data.abs().max() < 1e-15


def test_distributions_at_the_limits() -> None:
    inf = math.inf
    a = NT(torch.tensor([0.0, 0.0, -inf], dtype=torch.float64), ("v",))
    b = NT(torch.tensor([0.0, -inf, -inf], dtype=torch.float64), ("v",))
    assert run("kl", b, a, over="v").data == pytest.approx(math.log(2))
    assert run("kl", a, b, over="v").data == inf
    assert run("entropy", a, over="v").data == pytest.approx(math.log(2))
    c = NT(torch.tensor([-inf, -inf, 0.0], dtype=torch.float64), ("v",))
    assert run("js", b, c, over="v").data == pytest.approx(math.log(2))
    far = NT(torch.tensor([0.0, 1000.0], dtype=torch.float64), ("v",))
    near = NT(torch.tensor([1000.0, 0.0], dtype=torch.float64), ("v",))
    assert run("kl", far, near, over="v").data == pytest.approx(1000.0)


OVER = {n: dict.fromkeys(i.attrs, 2) | {"over": "i"} for n, i in CATALOG.items() if i.pad is not None}


@pytest.mark.parametrize("name", OVER)
def test_padding_is_as_good_as_absence(name: str) -> None:
    short = [NT(rand(2, 3), ("b", "i")) for _ in range(CATALOG[name].arity or 2)]
    pad = torch.full((2, 2), 1e6, dtype=torch.float64)
    long = [NT(torch.cat([x.data, pad], 1), x.axes) for x in short]
    mask = NT(torch.tensor([True] * 3 + [False] * 2), ("i",))
    attrs = OVER[name]
    want = apply_op(name, short, attrs)
    got = apply_op(name, long, attrs, mask)
    if CATALOG[name].rule == "along_axis":
        got = NT(got.data[:, :3], got.axes)
    assert torch.allclose(got.data.double(), want.data.double(), atol=1e-14)


def test_a_mask_where_nothing_is_masked_is_refused() -> None:
    with pytest.raises(ValueError, match="no mask applies"):
        apply_op("add", [X, X], {}, NT(torch.tensor([True, True]), ("batch",)))


OWN = (
    *("rename", "stop_gradient", "step", "eigenvectors", "solve", "extern", "lay_out", "spread", "numbers"),
    *("contexts", "top_values"),
)
"""Those whose gradients are tested elsewhere: they have none, or are about matrices and places."""
# square roots and logarithms need positive arguments, comparisons have no slope
SMOOTH = [
    n for n, i in CATALOG.items() if i.result in ("float", "same") and n not in ("mod", "sign", "where", *OWN)
]


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient(name: str) -> None:
    info = CATALOG[name]
    attrs: dict[str, Any] = {
        a: {"over": "i", "k": 2, "min": 0.3, "max": 1.5, "axis": "new", "labels": (1, 2)}[a]
        for a in info.attrs
    }
    data = [(rand(2, 4).abs() + 0.2).requires_grad_() for _ in range(info.arity or 2)]

    def f(*xs: Tensor) -> Tensor:
        return apply_op(name, [NT(x, ("b", "i")) for x in xs], attrs).data

    assert gradcheck(f, data)


def test_gradients_do_not_leak_out_of_padding() -> None:
    mask = NT(torch.tensor([[True, True, False], [False, False, False]]), ("b", "i"))
    for name, attrs in OVER.items():
        info = CATALOG[name]
        if info.result == "int":
            continue
        data = torch.tensor([[0.3, -0.2, math.inf], [math.nan, 1.0, 2.0]], dtype=torch.float64)
        xs = [data.clone().requires_grad_() for _ in range(info.arity or 2)]
        out = apply_op(name, [NT(x, ("b", "i")) for x in xs], attrs, mask).data
        total = out[0] if out[0].dim() == 0 else out[0, :2].sum()
        for slope in torch.autograd.grad(total, xs):
            assert slope[0].isfinite().all(), name
            assert slope[0, 2] == 0, name


def test_stack_lays_values_along_a_new_axis() -> None:
    x = NT(torch.ones(2, 3), ("b", "i"))
    got = run(
        "stack",
        x,
        NT(torch.tensor([5.0, 6.0]), ("b",)),
        NT(torch.tensor(7, dtype=torch.float64), ()),
        axis="k",
    )
    assert got.axes == ("k", "b", "i") and got.data.dtype == torch.float32
    assert got.data[:, 1, 0].tolist() == [1, 6, 7]
    whole = run("stack", NT(torch.tensor(1), ()), NT(torch.tensor(0.5, dtype=torch.float64), ()), axis="k")
    assert whole.data.tolist() == [1.0, 0.5]


def test_put_replaces_one_entry_along_an_axis() -> None:
    x = NT(torch.zeros(2, 3), ("b", "i"))
    got = run("put", x, NT(torch.tensor([0, 2]), ("b",)), NT(torch.tensor(5.0), ()), over="i")
    assert got.permute_to(("b", "i")).data.tolist() == [[5, 0, 0], [0, 0, 5]]
    points = run("put", x, NT(torch.tensor([1, 1]), ("@",)), NT(torch.tensor([1.0, 2.0]), ("@",)), over="i")
    assert points.permute_to(("@", "b", "i")).data[:, 0].tolist() == [[0, 1, 0], [0, 2, 0]]


def test_count_up_numbers_an_axis() -> None:
    got = run("count_up", axis="e", size=3)
    assert got.axes == ("e",) and got.data.tolist() == [0, 1, 2]


def test_lay_out_puts_entries_on_a_grid() -> None:
    x = NT(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), ("b", "e"))
    got = run("lay_out", x, over="e", places=(2, -1, 0, 1), axes=("i", "j"), shape=(2, 2))
    assert got.axes == ("b", "i", "j") and got.data[1].tolist() == [[6, 0], [4, 5]]
    one = run("lay_out", NT(torch.tensor([True, False]), ("e",)), over="e", places=(0,), axes=(), shape=())
    assert one.axes == () and one.data.item() == 1.0
    data = rand(3).requires_grad_()

    def f(t: Tensor) -> Tensor:
        attrs = {"over": "e", "places": (2, -1, 0), "axes": ("i",), "shape": (3,)}
        return apply_op("lay_out", [NT(t, ("e",))], attrs).data

    assert gradcheck(f, [data])


def test_projections_keep_what_lies_in_the_span_and_drop_the_rest() -> None:
    onto = NT(torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), ("d", "k"))  # a span of one dimension
    x = NT(torch.tensor([[2.0, 0.0, 3.0]]), ("r", "d"))
    row = run("project", x, onto, over="d")
    assert torch.allclose(row.permute_to(("r", "d")).data, torch.tensor([[1.0, 1.0, 0.0]]))
    unit = run("orthonormal", row, over="d")
    assert torch.allclose(unit.permute_to(("r", "d")).data, torch.tensor([[0.5, 0.5, 0.0]]) ** 0.5)
    nothing = run("orthonormal", NT(torch.zeros(1, 3), ("r", "d")), over="d")
    assert (nothing.data == 0).all()
