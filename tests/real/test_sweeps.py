"""Whole sweeps on real weights: the stream at every position, and every head, as the oracle has them.

The win is counted, not timed: FLOPs of the plan against a run for every point. How much there is to win
depends on the shape: five or two layers leave less than twelve do.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.plan.driver import Execution, compile_spec
from midsl.plan.explain import explain
from midsl.plan.verify import verify
from tests.real.common import DATA, needs

STORIES, MAKEMORE = DATA / "stories260k", DATA / "induction_makemore"
MODELS = {
    "stories260k": f'''model m = models.llama2c(
  "{STORIES / "stories260K.bin"}", tokenizer: "{STORIES / "tok512.bin"}", transposes: 5
)
data d = pairs(m.tokenizer,
  clean: ["One day, Lily was sad.", "Once upon a time, Lily ate a cake."],
  corrupt: ["One day, Tim was sad.", "Once upon a time, Tim ate a cake."],
  answer: [" She", " She"], wrong: [" He", " He"])''',
    "induction_makemore": f'''model m = models.state_dict(
  "{MAKEMORE / "model.pt"}", arch: {{ heads: 1 }}, names: "minGPT",
  chars: ".abcdefghijklmnopqrstuvwxyz", bos: "."
)
data d = pairs(m.tokenizer,
  clean: ["abcdefgabcdef", "qwertyqwert"], corrupt: ["abcdefxabcdef", "qwertxqwert"],
  answer: ["g", "y"], wrong: ["x", "x"])''',
}
HEAD = """language mi 1
import std.models as models
from std.tasks import pairs
from std.metrics import logit_diff
{model}
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
"""
SWEEPS = {
    "stream": "m.blocks[*].resid_pre[pos: *]",
    "heads": "m.blocks[*].attn.z[head: *]",
    "heads_last": "m.blocks[*].attn.z[head: *, pos: .end]",
}
BODY = """experiment {name} {{
  sweep h in {site}
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do {{ h := clean }}
  report effect = mean(ld(patched) - ld(corrupt), over: batch)
  expect mean(ld(clean) - ld(corrupt), over: batch) > 1, "the model does the task"
}}
"""
LEAST_WIN = {"stories260k": 3.0, "induction_makemore": 2.0}
"""How many times fewer FLOPs than naively, at least, over the three sweeps."""


@pytest.mark.parametrize("model", [pytest.param(m, marks=needs(m)) for m in MODELS])
def test_sweeps_agree_with_the_oracle_and_cost_less(model: str, tmp_path: Path) -> None:
    spec = tmp_path / f"{model}.mi"
    bodies = "".join(BODY.format(name=n, site=s) for n, s in SWEEPS.items())
    spec.write_text(HEAD.format(model=MODELS[model]) + bodies)
    compiled = compile_spec(spec)
    said = explain(compiled)
    assert said.naive.flops > LEAST_WIN[model] * said.optimised.flops
    execution = Execution(compiled)
    execution.run()
    assert execution.totals == execution.predicted == said.optimised
    assert all(c.passed for s in execution.stages for c in s.checks)
    done = verify(compiled, points=24)
    assert done.agrees and done.worst < 1e-9
