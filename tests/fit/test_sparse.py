"""Losses of sparse codes, worked out at their entries alone, have the values and gradients of the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import midsl.fit.sparse as sparse
from midsl.fit.draw import draw_params
from midsl.ir import nodes as ir
from midsl.ops.elementwise import step
from midsl.ops.named import NT
from midsl.plan import fits, fitsparse
from midsl.plan.driver import compile_spec
from midsl.plan.fits import Fitter
from midsl.plan.fitsparse import sparse_parts
from tests.fit.common import write

N, D, F, E = 40, 6, 48, 5


def drawn(bias: bool = True) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    shapes: list[tuple[int, ...]] = [(N, D), (F, D), (F,), (F, E)]
    made = [torch.randn(s, generator=g).requires_grad_(True) for s in shapes]
    return made if bias else [made[0], made[1], made[3]]


def gradients(loss: Tensor, of: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of))


def near(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert all(torch.allclose(a, b, atol=2e-5, rtol=1e-4) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("k", [1, 5, F])
@pytest.mark.parametrize("room", [1 << 22, 7 * F])
def test_the_k_largest(k: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "ROOM", room)
    x, enc, b, dec = params = drawn()
    pull = torch.linspace(-1, 1, N * E).reshape(N, E)
    read = (x @ enc.T + b).relu()
    top = read.topk(k, dim=-1)
    whole = torch.zeros_like(read).scatter(-1, top.indices, top.values) @ dec
    found = sparse.TopWritten.apply(x, enc, b, dec, k)  # type: ignore[no-untyped-call]
    assert torch.allclose(found, whole, atol=1e-5)
    near(gradients((found * pull).sum(), params), gradients((whole * pull).sum(), params))
    no_bias = sparse.TopWritten.apply(x, enc, None, dec, k)  # type: ignore[no-untyped-call]
    zero = sparse.TopWritten.apply(x, enc, torch.zeros(F), dec, k)  # type: ignore[no-untyped-call]
    assert torch.allclose(no_bias, zero, atol=1e-6)


def test_of_equals_the_first_is_kept() -> None:
    read = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0], [0.0, 0.0, 5.0, -1.0, 0.0], [4.0, 1.0, 2.0, 3.0, 0.5]])
    value, at = sparse._top(read, 2)
    assert at[0].tolist() == [1, 2] and value[0].tolist() == [3.0, 2.0]
    assert value[1].tolist() == [5.0, 0.0] and at[2].tolist() == [0, 3]


@pytest.mark.parametrize("share", [0.0, 1 / 16, 1.0], ids=["whole", "some", "entries"])
@pytest.mark.parametrize("limit", [-0.2, 0.5, 2.5])
def test_what_is_above_a_threshold(share: float, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "SHARE", share)
    monkeypatch.setattr(sparse, "ROOM", 16 * F)
    x, enc, b, dec = drawn()
    threshold = (limit + 0.1 * torch.arange(F) / F).requires_grad_(True)
    params, width = [x, enc, b, threshold, dec], 1.5
    read = x @ enc.T + b
    on = step(NT((read.detach() - threshold), ("n", "f")), width=width).data
    code = read.relu() * on.detach() + threshold.detach() * (on - on.detach())
    whole = (code @ dec).square().sum() + 0.3 * (on.sum(1) * torch.arange(N)).sum()
    written, count = sparse.JumpWritten.apply(x, enc, b, threshold, dec, width)  # type: ignore[no-untyped-call]
    assert torch.allclose(written, code @ dec, atol=1e-4) and torch.equal(count, on.sum(1))
    found = written.square().sum() + 0.3 * (count * torch.arange(N)).sum()
    ours, theirs = gradients(found, params), gradients(whole, params)
    assert theirs[3].abs().max() > 0
    assert all(torch.allclose(a, b, atol=2e-3, rtol=1e-3) for a, b in zip(ours, theirs, strict=True))


LOSSES = {
    "topk": ("topk_sae(at: x, d_sae: 64, k: 3, {})", 1),
    "jumprelu": ("jumprelu_sae(at: x, d_sae: 64, threshold: 0.6, width: 0.5, {})", 2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_fit_goes_where_it_would(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's losses are known for what they are; fits end alike, and again the same."""
    monkeypatch.setattr(fitsparse, "LEAST", 1)
    declared, parts = LOSSES[name]
    fit = "fit: { on: d, steps: 25, batch: 16, optim: adam(lr: 1e-2) }"
    body = f"""decomposition s = {declared.format(fit)}
    experiment e {{ let r = run m on d  report c = mean(r[s.code], over: [batch, pos]) }}"""
    path = write(tmp_path, body)
    path.write_text(path.read_text().replace("import topk_sae", "import jumprelu_sae, topk_sae"))
    ended: list[dict[str, Tensor]] = []
    for fast in (True, True, False):
        place = tmp_path / f"cache{len(ended)}"
        monkeypatch.setattr(fits, "cache_dir", lambda place=place: place)
        if not fast:
            monkeypatch.setattr(fits, "sparse_parts", lambda loss, batch: {})
        compiled = compile_spec(path)
        ((_, node),) = compiled.program.fits
        assert isinstance(node, ir.Fit)
        assert len(sparse_parts(node.loss, 16)) == parts
        ended.append(Fitter()(compiled.binder, node))
    assert isinstance(node, ir.Fit)
    began = draw_params(node.params)
    for key, value in ended[2].items():
        assert torch.equal(ended[0][key], ended[1][key])
        assert torch.allclose(ended[0][key], value, atol=1e-4), key
        assert not torch.equal(value, began[key]), key


def test_small_codes_and_codes_with_other_uses_are_left_alone(tmp_path: Path) -> None:
    fit = "fit: { on: d, steps: 5, batch: 16 }"
    body = f"""decomposition raw = topk_sae(at: x, d_sae: 64, k: 3)
    decomposition s = topk_sae(at: x, d_sae: 64, k: 3, {fit})
    decomposition t = fitted(raw, loss: fn (v) => mse(v, raw.decode(raw.encode(v)), over: d_model)
      + sum(raw.encode(v), over: feature), {fit})
    experiment e {{
      let r = run m on d
      report a = mean(r[s.code], over: [batch, pos])
      report c = mean(r[t.code], over: [batch, pos])
    }}"""
    compiled = compile_spec(write(tmp_path, body))
    found = {name: node.loss for name, node in compiled.program.fits if isinstance(node, ir.Fit)}
    assert sparse_parts(found["s"], 16) == {} and len(sparse_parts(found["s"], 1 << 12)) == 1
    assert sparse_parts(found["t"], 1 << 12) == {}
