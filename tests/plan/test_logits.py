"""One logit and all of them: the greatest logit is the greatest, in float32 and to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.plan.driver import Execution, compile_spec
from midsl.plan.verify import verify

SPEC = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import accuracy, rank_of
model m = models.toy(layers: 1, heads: 2, d_model: 48, vocab: 40, ctx: 30, seed: 0)
data  d = induction(m.tokenizer, n: 32, period: 12, corrupt: "cue", seed: 0)
experiment e {
  sweep v in 0..40
  let r   = run m on d.clean
  let all = r.logits[pos: .end]
  let one = r.logits[pos: .end, vocab: v]
  report first  = count(one >= max(all, over: vocab), over: v)
  report metric = sum(accuracy(v)(r), over: v)
  report ranks  = sum(rank_of(v)(r), over: v)
}
"""


@pytest.mark.parametrize("off", [(), ("cse",), ("narrow_positions",), ("fuse_captures",)])
def test_each_row_has_one_greatest_logit(tmp_path: Path, off: tuple[str, ...]) -> None:
    path = tmp_path / "spec.mi"
    path.write_text(SPEC, encoding="utf-8")
    compiled = compile_spec(path, off=off)
    execution = Execution(compiled)
    execution.run()
    first, metric, ranks = execution.stages[0].tables
    assert list(first.value) == [1.0] * 32, "the greatest equals the greatest"
    assert list(metric.value) == [1.0] * 32
    assert list(ranks.value) == [sum(range(40))] * 32
    assert verify(compiled).agrees
