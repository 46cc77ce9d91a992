"""Gradients along paths are lanes of one pass; contextual decomposition adds up in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from midsl.plan.driver import Execution, compile_spec
from tests.plan.corpus import cells, exact_session, tables

HEAD = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import logit_diff
from std.attribution.contextual import cd_blocks, cd_mlp, cd_source_head, cd_to_logits
from std.attribution.integrated import integrated_gradients
model  m  = models.toy(layers: 2, heads: 2, d_model: 8, d_mlp: 12, vocab: 16, ctx: 12, seed: 0)
data   d  = induction(m.tokenizer, n: 3, period: 3, corrupt: "cue")
metric ld = logit_diff(correct: .answer, wrong: .wrong)
"""
PATH = """experiment e {
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  site x      = m.blocks[0].resid_post
  report each = integrated_gradients(ld, m, on: d.corrupt, from: corrupt, to: clean, at: x,
    over: [batch, d_model], steps: 5)
}
"""
PARTS = """experiment e {
  let r     = run m on d.clean
  let how   = { norm: "layer", act: "gelu_tanh", attention: "RULE", scale: 0.5, stabilise: STEADY }
  let zs    = mean(r[m.blocks[0].attn.z], over: [batch, pos])
  let start = cd_mlp(r, m, 0, cd_source_head(r, m, 0, zs, how), how)
  let l     = cd_to_logits(r, m, cd_blocks(r, m, 1, 1, start, how), how)
  report left = max(abs(l.rel + l.irrel - r.logits))
  report size = max(abs(l.rel))
}
"""


def test_five_points_are_one_forward_and_one_pass_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "path.mi"
    spec.write_text(HEAD + PATH)
    compiled = compile_spec(spec)
    execution, session = Execution(compiled), exact_session(compiled)
    calls: list[int] = []
    grad = torch.autograd.grad

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    execution.run(session=session)
    assert execution.totals == execution.predicted
    assert execution.totals.forwards == 3, "clean, corrupt, and the path"
    (step,) = [s for s in compiled.plan.runs if s.grads]
    assert step.stacked and [session.sizing.points_of(s) for s in step.sweeps] == [5]
    assert session.sizing.backwards(step) == len(calls) == 1


@pytest.mark.parametrize(
    ("rule", "steady"), [("fixed", "false"), ("rel_scores", "false"), ("rel_scores", "true")]
)
def test_both_parts_add_up_to_the_logits(tmp_path: Path, rule: str, steady: str) -> None:
    spec = tmp_path / "parts.mi"
    spec.write_text(HEAD + PARTS.replace("RULE", rule).replace("STEADY", steady))
    compiled = compile_spec(spec)
    execution = Execution(compiled)
    execution.run(session=exact_session(compiled))
    found = tables(execution)
    assert cells(found["e.left"])[()][0] < 1e-10
    assert cells(found["e.size"])[()][0] > 0.01
