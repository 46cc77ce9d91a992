"""Scores against their formulas in plain torch, and the same however many rows are run at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from midsl.plan import chunk, session
from midsl.plan.driver import Compiled, compile_spec
from tests.fit.common import HEAD, by_hand, tables

BODY = """decomposition s = topk_sae(at: x, d_sae: 24, k: 3)
experiment e {
  let r    = run m on d
  let c    = r[s.code]
  let b    = s.decode(c)
  let back = run m on d do { x := s.decode(s.encode(self)) }
  let none = run m on d do { x := 0 }
  report code    = c
  report again   = b
  report l0_     = l0(c)
  report l1_     = l1(c)
  report fvu_    = fvu(r[x], b, over: d_model)
  report ev      = explained_variance(r[x], b, over: d_model)
  report cos     = cosine_kept(r[x], b, over: d_model)
  report bias    = reconstruction_bias(r[x], b, over: d_model)
  report ratio   = length_ratio(r[x], b, over: d_model)
  report ce      = loss_recovered(r, back, none)
  report kept    = kl_recovered(r, back, none)
  report often   = density(c)
  report dead_   = dead(c)
  report dense_  = dense(c)
  report bar     = dense_between(c, 0.05, 0.2)
  report bars    = density_histogram(c)
  report near    = nearest_direction(s.decoder, over: d_model)
  report wide    = effective_directions(s.decoder, over: d_model)
  report table   = dictionary_scores(s, on: d, fit: d, k: 3)
  report dec     = s.decoder
}
"""
IMPORTS = """from std.scores import cosine_kept, dead, dense, dense_between, density, density_histogram
from std.scores import explained_variance, fvu, kl_recovered, l0, l1, length_ratio, loss_recovered
from std.scores import reconstruction_bias
from std.scores.geometry import effective_directions, nearest_direction
from std.scores.table import dictionary_scores
"""
PROBING = """from std.scores.probing import absorption_v1, absorbed_share_v1, among, gap, line, line_says
from std.scores.probing import scr_v1
from std.scores.probing import sparse_probing_v1, tpp_v1
data t = repeats(m.tokenizer, n: 60, period_min: 4, period_max: 4, ctx: 8, seed: 3)
data u = repeats(m.tokenizer, n: 60, period_min: 4, period_max: 4, ctx: 8, seed: 4)
decomposition s = topk_sae(at: x, d_sae: 24, k: 5)
experiment e {
  let a  = (run m on t)[x[pos: 3]]
  let b  = (run m on u)[x[pos: 3]]
  let ya = t.tokens[pos: 3] - 12.5
  let yb = u.tokens[pos: 3] - 12.5
  let za = t.tokens[pos: 2] - 12.5
  let zb = u.tokens[pos: 2] - 12.5
  let main = among(gap(s.encode(a), ya), k: 2, over: feature)
  let ties = [if i == 0 then ya else za for i in 0..2]
  let told = [if i == 0 then yb else zb for i in 0..2]
  report a_ = a
  report b_ = b
  report ya_ = ya
  report yb_ = yb
  report za_ = za
  report zb_ = zb
  report code_a  = s.encode(a)
  report code_b  = s.encode(b)
  report dec     = s.decoder
  report says    = line_says(line(a, ya), b, over: d_model)
  report sparse  = [sparse_probing_v1(s.encode(a), ya, s.encode(b), yb, k: k) for k in [1, 3, 24]]
  report absorbed = absorption_v1(s.encode(a), s.decoder, line(a, ya).w, ya, main)
  report share   = absorbed_share_v1(s.encode(a), s.decoder, line(a, ya).w, ya, main)
  report tpp     = tpp_v1(s, a, ties, b, told, k: 3)
  report scr     = scr_v1(s, a, ya + za, b, yb, zb, k: 3)
}
"""


def compiled(folder: Path, imports: str = IMPORTS, body: str = BODY) -> Compiled:
    spec = folder / "spec.mi"
    spec.write_text(HEAD.replace("import std.models", f"{imports}import std.models") + body)
    return compile_spec(spec)


def probing(folder: Path) -> Compiled:
    imports, body = PROBING.split("data t", 1)
    return compiled(folder, imports, "data t" + body)


def scored(of: Compiled) -> dict[str, np.ndarray]:
    return {n: t.value for n, t in tables(of).items()}


def test_scores_are_their_formulas(tmp_path: Path) -> None:
    spec = compiled(tmp_path)
    got = scored(spec)
    x = by_hand(spec)[0].double()
    code = torch.from_numpy(got["code"]).reshape(*x.shape[:2], 24)
    back = torch.from_numpy(got["again"]).reshape(x.shape)
    on = (code != 0).double()
    often = on.mean((0, 1))
    left = ((x - back) ** 2).sum() / ((x - x.mean((0, 1))) ** 2).sum()
    decoder = torch.from_numpy(got["dec"]).reshape(24, -1)
    cosines = (
        torch.nn.functional.normalize(decoder, dim=-1) @ torch.nn.functional.normalize(decoder, dim=-1).T
    )
    wanted = {
        "l0_": on.sum(-1).mean(),
        "l1_": code.abs().sum(-1).mean(),
        "fvu_": left,
        "ev": 1 - left,
        "cos": torch.cosine_similarity(x, back, dim=-1).mean(),
        "bias": (back**2).sum(-1).mean() / (x * back).sum(-1).mean(),
        "ratio": (back.norm(dim=-1) / x.norm(dim=-1)).mean(),
        "often": often,
        "dead_": (often == 0).double().mean(),
        "dense_": (often > 0.1).double().mean(),
        "bar": ((often >= 0.05) & (often < 0.2)).double().mean(),
        "bars": torch.stack(
            [((often >= 10.0**e) & (often < 10.0 ** (e + 1))).double().mean() for e in range(-6, 1)]
        ),
        "wide": decoder.square().sum() ** 2 / (decoder @ decoder.T).square().sum(),
        "near": (cosines - 3 * torch.eye(24)).max(-1).values,
    }
    for name, value in wanted.items():
        assert torch.allclose(torch.from_numpy(got[name]), value.reshape(-1).double(), atol=1e-5), name
    assert -1 < got["ce"][0] < 1 and -1 < got["kept"][0] < 1, "a random dictionary gets little back"


def test_the_table_has_the_scores_of_all_three(tmp_path: Path) -> None:
    spec = compiled(tmp_path)
    of = tables(spec)
    table, alone = of["table"], {n: t.value for n, t in of.items() if n != "table"}
    cells = zip(table.keys["which"], table.keys["score"], table.value, strict=True)
    found = {(w, s): v for w, s, v in cells}
    assert len(found) == 3 * 13 and {w for w, _ in found} == {"dictionary", "random", "pca"}
    named = {
        "l0_v1": "l0_", "l1_v1": "l1_", "fvu_v1": "fvu_", "explained_variance_v1": "ev", "cosine_v1": "cos",
        "bias_v1": "bias", "length_v1": "ratio", "ce_recovered_v1": "ce", "kl_recovered_v1": "kept",
        "dead_v1": "dead_", "dense_v1": "dense_", "directions_v1": "wide",
    }  # fmt: skip
    for score, report in named.items():
        assert found["dictionary", score] == pytest.approx(alone[report][0], rel=1e-6), score
    x = by_hand(spec)[0].double().flatten(0, 1)
    left = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))[:-3].sum() / x.var(0, correction=0).sum()
    assert found["pca", "fvu_v1"] == pytest.approx(float(left), rel=1e-3), "what the 3 main directions leave"
    assert found["random", "l0_v1"] <= 3 and found["random", "fvu_v1"] > found["pca", "fvu_v1"]


def logistic(x: Tensor, y: Tensor, ridge: float = 1e-2) -> tuple[Tensor, Tensor]:
    """Weights and constant of a penalised logistic regression on standardised values, by LBFGS."""
    centre, size = x.mean(0), x.std(0, correction=0) + 1e-9
    z, truth = (x - centre) / size, (y > 0).double()
    w = torch.zeros(z.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([w], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        miss = torch.nn.functional.binary_cross_entropy_with_logits(z @ w[:-1] + w[-1], truth)
        total = miss + ridge / 2 * w[:-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    weights = (w[:-1] / size).detach()
    return weights, w[-1].detach() - centre @ weights


def accuracy(w: tuple[Tensor, Tensor], x: Tensor, y: Tensor) -> float:
    return float((((x @ w[0] + w[1]) > 0) == (y > 0)).double().mean())


def test_scores_about_labels_are_their_formulas(tmp_path: Path) -> None:
    got = {n: torch.from_numpy(v) for n, v in scored(probing(tmp_path)).items()}
    a, b, dec = (got[n].reshape(-1, 12) for n in ("a_", "b_", "dec"))
    ca, cb = (got[n].reshape(60, 24) for n in ("code_a", "code_b"))
    ya, yb, za, zb = (got[n] for n in ("ya_", "yb_", "za_", "zb_"))
    probe = logistic(a, ya)
    assert torch.allclose(got["says"], b @ probe[0] + probe[1], atol=1e-3)

    def gap(c: Tensor, y: Tensor) -> Tensor:
        return c[y > 0].mean(0) - c[y <= 0].mean(0)

    for k, value in zip((1, 3, 24), got["sparse"], strict=True):
        keep = gap(ca, ya).abs().topk(k).indices
        assert float(value) == pytest.approx(accuracy(logistic(ca[:, keep], ya), cb[:, keep], yb)), k

    main = set(gap(ca, ya).topk(2).indices.tolist())
    unit = probe[0] / probe[0].norm()
    lost, shares = 0, []
    rows = ca[ya > 0]
    for row in rows:
        part = {f: float(row[f] * (dec[f] @ unit)) for f in range(24)}
        near = {f for f in range(24) if dec[f] @ unit / dec[f].norm() > 0.025} - main
        lost += all(row[f] == 0 for f in main) and any(part[f] > 0 for f in near)
        there, other = (sum(max(0, part[f]) for f in fs) for fs in (main, near))
        shares.append(other / (there + other) if there + other else 0)
    assert float(got["absorbed"]) == pytest.approx(lost / len(rows)) and 0 < lost < len(rows)
    assert float(got["share"]) == pytest.approx(sum(shares) / len(rows), abs=1e-4)

    def without(x: Tensor, c: Tensor, features: Tensor) -> Tensor:
        return x - c[:, features] @ dec[features]

    probes = [logistic(a, y) for y in (ya, za)]
    picks = [(gap(ca, y) * (dec @ w[0])).topk(3).indices for y, w in zip((ya, za), probes, strict=True)]
    drop = torch.tensor(
        [
            [
                accuracy(w, b, y) - accuracy(w, without(b, cb, p), y)
                for w, y in zip(probes, (yb, zb), strict=True)
            ]
            for p in picks
        ]
    )
    want = drop.diagonal().mean() - (drop.sum() - drop.trace()) / 2
    assert float(got["tpp"]) == pytest.approx(float(want), abs=1e-6)

    tied = logistic(a, ya + za)
    pick = (gap(cb, zb) * (dec @ logistic(b, zb)[0])).topk(3).indices
    base, best = accuracy(tied, b, yb), accuracy(logistic(b, yb), b, yb)
    after = accuracy(tied, without(b, cb, pick), yb)
    assert float(got["scr"]) == pytest.approx((after - base) / (best - base), abs=1e-6)


@pytest.mark.parametrize("spec", [compiled, probing])
def test_how_many_rows_are_run_at_a_time_changes_nothing(
    spec: Callable[[Path], Compiled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scored(spec(tmp_path))
    made: list[int] = []

    def watched(real: Callable[..., list[chunk.Piece]]) -> Callable[..., list[chunk.Piece]]:
        def cut(*args: Any) -> list[chunk.Piece]:
            found = real(*args)
            made.append(len(found))
            return found

        return cut

    for name in ("whole_pieces", "row_pieces"):
        monkeypatch.setattr(session, name, watched(getattr(chunk, name)))
    monkeypatch.setenv("MIDSL_MEMORY", "6e4")
    pieces = scored(spec(tmp_path))
    assert max(made) > 1, "more than one piece"
    for name, value in whole.items():
        assert np.allclose(value, pieces[name], rtol=1e-5, atol=1e-6), name
