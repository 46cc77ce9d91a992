"""Long chains of runs, each made of the one before, as a bisection is: the oracle follows them, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.examples.common import midsl

SPEC = """language mi 1

import std.models as models
from std.tasks import repeats

model m = models.toy(layers: 1, heads: 1, d_model: 4, d_mlp: 4, vocab: 8, ctx: 8)
data  d = repeats(m.tokenizer, n: 2, period_min: 3, period_max: 3, ctx: 6, seed: 0)
site  x = m.blocks[0].mlp.post[pos: 1]

fn next(v: Any) -> Any = where((run m on d do { x := v }).logits[pos: 1, vocab: 0] > 100.0, v, 0.9 * v + 0.1)

experiment chain {
  report last = sum(iterate((run m on d)[x], next, steps: 90), over: d_mlp)
}
"""


@pytest.mark.slow
def test_the_oracle_follows_a_chain_of_ninety_runs(tmp_path: Path) -> None:
    spec = tmp_path / "chain.mi"
    spec.write_text(SPEC, encoding="utf-8")
    done = midsl("verify", spec, "--json", "--store", tmp_path)
    assert done.exit_code == 0, done.output[-500:]
    assert json.loads(done.output)["agrees"]
