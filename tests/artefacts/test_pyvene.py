"""Interchange interventions in pyvene and here: the same module, rows and rotation give the same logits.

pyvene is no dependency of midsl; without it the test is skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import midsl
from tests.artefacts.test_peers import peer

CLEAN = [[1, 5, 9, 2, 7], [3, 3, 8, 1, 4], [6, 2, 2, 9, 5]]
CORRUPT = [[1, 5, 4, 2, 7], [3, 9, 8, 1, 4], [8, 2, 2, 9, 1]]
LAYER, RANK = 1, 4


def words(rows: list[list[int]]) -> str:
    return ", ".join(f'"{" ".join(map(str, row))}"' for row in rows)


SPEC = f"""language mi 1
from std.tasks import pairs
from std.decomp import random_subspace
data d = pairs(m.tokenizer, clean: [{words(CLEAN)}], corrupt: [{words(CORRUPT)}],
  answer: ["1", "2", "3"], wrong: ["2", "3", "1"])
site x = m.blocks[{LAYER}].resid_post[pos: .end]
decomposition part = random_subspace(at: x, rank: {RANK}, seed: 7)
experiment e {{
  let given  = run m on d.corrupt
  let plain  = run m on d.clean
  let whole  = run m on d.clean do {{ x := given }}
  let turned = run m on d.clean do {{ part.code := given }}
  report basis = part.decoder
  report still = mean(plain.logits - turned.logits, over: [batch, pos, vocab])
  report other = mean(plain.logits - whole.logits, over: [batch, pos, vocab])
}}
"""


def swapped(pyvene: Any, module: Any, basis: Tensor | None) -> Tensor:
    """What the corrupt rows have at their end behind a block, put into the clean ones, whole or by a basis.

    Returns logits [batch, pos, vocab]. A basis is [d_model, rank].
    """
    kind = pyvene.VanillaIntervention if basis is None else pyvene.LowRankRotatedSpaceIntervention
    place = {"layer": LAYER, "component": "block_output", "intervention_type": kind}
    made = pyvene.IntervenableModel(
        pyvene.IntervenableConfig([place | ({} if basis is None else {"low_rank_dimension": RANK})]), module
    )
    if basis is not None:
        (turn,) = (v[0] if isinstance(v, (list, tuple)) else v for v in made.interventions.values())
        turn.rotate_layer.weight = basis
    _, done = made(
        {"input_ids": torch.tensor(CLEAN)},
        [{"input_ids": torch.tensor(CORRUPT)}],
        {"sources->base": len(CLEAN[0]) - 1},
    )
    logits: Tensor = done.logits
    return logits


def test_interchanges_are_pyvenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyvene, transformers = peer("pyvene"), peer("transformers")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=3, n_head=2, n_embd=16, vocab_size=24, n_positions=32)
    module = transformers.GPT2LMHeadModel(config).eval()
    done = midsl.run(SPEC, bind={"m": module})
    basis = torch.tensor([row[2] for row in done["basis"].rows()], dtype=torch.float32).reshape(16, RANK)
    plain, whole, turned = (done[name]["m.logits"] for name in ("plain", "whole", "turned"))
    with torch.no_grad():
        assert torch.allclose(swapped(pyvene, module, None), whole, atol=1e-6)
        assert torch.allclose(swapped(pyvene, module, basis), turned, atol=1e-6)
    assert (whole - plain).abs().max() > 0.1 and (turned - plain).abs().max() > 0.01, "they do something"
    assert not torch.allclose(whole, turned, atol=1e-2), "and not the same"
