"""Plans agree with the oracle on every family of models, not only on toys: the same questions to each.

Each family has its own norms, positions, attention and order of branches, so it takes its own way through
the passes. CI proper runs a part of the families under a few pass subsets, all else is `slow`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from midsl.plan.driver import Execution
from tests.graph.families import CONFIGS
from tests.plan import corpus
from tests.plan.corpus import CHUNKS, SUBSETS, planned
from tests.plan.test_oracle import agree

HEAD = """language mi 1
import std.models as models
from std.tasks import pairs
from std.metrics import logit_diff
model m = {model}
data  d = pairs(m.tokenizer,
  clean: ["5 6 7 8 9", "9 4 11 12 13 14 15", "3 21 22 3"],
  corrupt: ["5 6 31 8 9", "9 16 11 12 33 14 15", "23 21 22 3"],
  answer: ["1", "2", "4"], wrong: ["3", "4", "5"])
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
site z = m.blocks[*].attn.z[head: *]
"""

BODY = """experiment heads {
  sweep h in z
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do { h := clean }
  report effect = mean(ld(patched) - ld(corrupt), over: batch)
}
experiment stream {
  sweep x in m.blocks[*].resid_pre[pos: *]
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do { x := clean }
  report effect = mean(ld(patched) - ld(corrupt), over: batch)
}
experiment ablate {
  sweep y in m.blocks[*].mlp_out[pos: .end], k in [0.0, 0.5]
  let base = run m on d.clean
  let cut  = run m on d.clean do { y := k * self }
  report effect = mean(ld(cut) - ld(base), over: batch)
}
experiment frozen {
  sweep h in m.blocks[0].attn.z[head: *]
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let sent    = run m on d.clean do { h := corrupt, except(z, h) := clean }
  report effect = mean(ld(sent) - ld(clean), over: batch)
}
experiment gradients {
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let g       = grad(mean(ld(corrupt), over: batch), at: z)
  let score   = sum((clean[z] - corrupt[z]) * g, over: [batch, pos, d_head])
  report estimate = score
  sweep h in top_sites(abs(score), k: 3)
  let patched = run m on d.corrupt do { h := clean }
  report exact = mean(ld(patched) - ld(corrupt), over: batch)
}
experiment patterns {
  sweep h in m.blocks[*].attn.pattern[head: *]
  let base = run m on d.clean
  let off  = run m on d.clean do { h := 0 }
  report effect = mean(ld(off) - ld(base), over: batch)
}
"""
TOYS = {
    "toy_encoder": 'causal: false, act: "relu", d_mlp: 48',
    "toy_attention_only": "d_mlp: 0",
    "toy_gated": 'd_mlp: 48, norm: "rms", gated: true, pos: "rotary", kv_heads: 2, tied: true',
}
EXTRA = {
    "gptj": (
        "gptj",
        {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    )
}
FAMILIES = [*CONFIGS, *EXTRA, *TOYS]
QUICK = ("gpt2", "llama", "gemma2")
FEW = ("all passes", "none", "without narrow_positions", "only cut_cones")
ABSENT = {
    "toy_attention_only": ("ablate", "it has no MLP"),
}


def record(fields: dict[str, object]) -> str:
    """A Python dictionary as a record of the language."""

    def value(v: object) -> str:
        if isinstance(v, bool):
            return str(v).lower()
        if isinstance(v, str):
            return f'"{v}"'
        return f"[{', '.join(map(value, v))}]" if isinstance(v, list) else str(v)

    return "{ " + ", ".join(f"{k}: {value(v)}" for k, v in fields.items()) + " }"


def text_of(family: str) -> str:
    """The spec of a family: without the questions that it has no place for."""
    if family in TOYS:
        model = f"models.toy(layers: 2, heads: 4, d_model: 32, vocab: 64, ctx: 64, {TOYS[family]})"
    else:
        kind, fields = EXTRA[family] if family in EXTRA else (CONFIGS[family][0], CONFIGS[family][2])
        model = f'models.hf_random("{kind}", seed: 0, perturb: 0.1, config: {record(dict(fields))})'
    body = BODY
    gone, _ = ABSENT.get(family, ("", ""))
    if gone:
        start = body.index(f"experiment {gone} ")
        body = body[:start] + body[body.index("experiment", start + 1) :]
    return HEAD.format(model=model) + body


@cache
def at_hand(family: str, folder: Path) -> str:
    """The name under which the corpus knows a family's spec."""
    path = folder / f"{family}.mi"
    path.write_text(text_of(family), encoding="utf-8")
    corpus.ELSEWHERE[family] = path
    return family


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def marked(names: list[str]) -> list[object]:
    return [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("family", marked(FAMILIES))
def test_plans_agree_with_the_oracle(family: str, folder: Path) -> None:
    name = at_hand(family, folder)
    for i, subset in enumerate(FEW):
        agree(name, subset, CHUNKS[(i + FAMILIES.index(family)) % len(CHUNKS)])


@pytest.mark.parametrize("family", marked(FAMILIES))
def test_counts_are_as_predicted(family: str, folder: Path) -> None:
    execution = Execution(planned(at_hand(family, folder)))
    execution.run()
    assert execution.totals == execution.predicted


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_pass_subset(family: str, folder: Path) -> None:
    name = at_hand(family, folder)
    for i, subset in enumerate(SUBSETS):
        agree(name, subset, CHUNKS[i % len(CHUNKS)])
