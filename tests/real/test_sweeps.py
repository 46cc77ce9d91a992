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
from midsl.reach import trusting
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
    compiled = compile_spec(spec, trust=trusting(False, [DATA]))
    said = explain(compiled)
    assert said.naive.flops > LEAST_WIN[model] * said.optimised.flops
    execution = Execution(compiled)
    execution.run()
    assert execution.totals == execution.predicted == said.optimised
    assert all(c.passed for s in execution.stages for c in s.checks)
    done = verify(compiled, points=24)
    assert done.agrees and done.worst < 1e-9


FEATURES = """experiment features {
  let base = run m on d.clean
  sweep f in sae.code[feature: *]
  let cut  = run m on d.clean do { f := 0 }
  report effect = mean(ld(cut) - ld(base), over: batch)
  report live   = mean(max(base[f], over: pos), over: batch)
}
"""


@pytest.mark.parametrize("model", [pytest.param(m, marks=needs(m)) for m in MODELS])
def test_silent_features_of_a_dictionary_cost_nothing(model: str, tmp_path: Path) -> None:
    """Each feature of a drawn dictionary set to zero: as the oracle has it, for fewer FLOPs."""
    spec = tmp_path / f"{model}.mi"
    text = HEAD.format(model=MODELS[model])
    text = text.replace("import std.models", "from std.decomp import topk_sae\nimport std.models", 1)
    text += "decomposition sae = topk_sae(at: m.blocks[1].resid_pre, d_sae: 96, k: 4)\n"
    spec.write_text(text + FEATURES)
    compiled = compile_spec(spec, trust=trusting(False, [DATA]))
    said = explain(compiled)
    execution = Execution(compiled)
    execution.run()
    tables = {t.report: t for s in execution.stages for t in s.tables}
    live = tables["live"].value
    assert 0 < (live > 0).mean() < 0.9, "some features are silent everywhere"
    assert all(e == 0 for e, v in zip(tables["effect"].value, live, strict=True) if v == 0)
    assert execution.totals == execution.predicted
    assert said.naive.flops > LEAST_WIN[model] * execution.totals.flops
    done = verify(compiled, points=24)
    assert done.agrees and done.worst < 1e-9
