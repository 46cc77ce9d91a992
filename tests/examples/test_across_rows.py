"""Edits whose value goes across the rows of the data: the same whether or not the rows run in chunks."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.plan import memory
from midsl.plan.driver import compile_spec
from midsl.plan.verify import verify

SPEC = """language mi 1
import std.models as models
from std.tasks import repeats
model m = models.toy(layers: 2, heads: 2, d_model: 8, vocab: 12, ctx: 10, seed: 3)
data  d = repeats(m.tokenizer, n: 7, period_min: 2, period_max: 4, ctx: 10, seed: 1)
site  x = m.blocks[0].resid_post
experiment ablate {
  let base   = run m on d
  let edited = run m on d do { x := VALUE }
  report change = mean(abs(edited.logits - base.logits), over: [pos, vocab])
}
experiment swept {
  sweep h in m.blocks[*].attn.z[head: *]
  let base   = run m on d
  let edited = run m on d do { h := HEAD }
  report change = mean(abs(edited.logits - base.logits), over: [batch, pos, vocab])
}
"""


@pytest.mark.parametrize(
    ("value", "head"),
    [
        ("mean(base[x], over: batch)", "mean(base[h], over: batch)"),
        ("mean(self, over: batch)", "max(self, over: batch)"),
        ("self - mean(self + base[x], over: batch)", "self - sum(base[h], over: batch)"),
        ("softmax(self, over: batch)", "base[h] * softmax(base[h], over: batch)"),
    ],
)
def test_rows_in_chunks(value: str, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "a.mi"
    spec.write_text(SPEC.replace("VALUE", value).replace("HEAD", head))
    monkeypatch.setattr(memory, "MAX_ROW_TOKENS", 20)  # two rows of ten tokens at a time
    done = verify(compile_spec(spec))
    assert done.agrees, [(v.name, v.error) for v in done.verdicts]
