"""Scores against their formulas in plain torch, and the same however many rows are run at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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
  report near    = nearest_direction(s.decoder, over: d_model)
  report dec     = s.decoder
}
"""
IMPORTS = """from std.scores import cosine_kept, dead, dense, dense_between, density, explained_variance
from std.scores import fvu, kl_recovered, l0, l1, length_ratio, loss_recovered
from std.scores import nearest_direction, reconstruction_bias
"""


def compiled(folder: Path) -> Compiled:
    spec = folder / "spec.mi"
    spec.write_text(HEAD.replace("import std.models", f"{IMPORTS}import std.models") + BODY)
    return compile_spec(spec)


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
        "near": (cosines - 3 * torch.eye(24)).max(-1).values,
    }
    for name, value in wanted.items():
        assert torch.allclose(torch.from_numpy(got[name]), value.reshape(-1).double(), atol=1e-5), name
    assert -1 < got["ce"][0] < 1 and -1 < got["kept"][0] < 1, "a random dictionary gets little back"


def test_how_many_rows_are_run_at_a_time_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scored(compiled(tmp_path))
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
    pieces = scored(compiled(tmp_path))
    assert max(made) > 1, "more than one piece"
    for name, value in whole.items():
        assert np.allclose(value, pieces[name], rtol=1e-5, atol=1e-6), name
