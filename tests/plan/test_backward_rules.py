"""Backward rules on every family: plan and oracle agree, and what must hold of linear maps holds.

With all rules a model without biases is linear in its embeddings, so that gradient times value adds up to
the logit: one factor that were not taken for a constant, or one too many, would break it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.plan.driver import Execution
from tests.graph.families import CONFIGS
from tests.plan import corpus
from tests.plan.corpus import planned
from tests.plan.test_families import HEAD, TOYS, record
from tests.plan.test_oracle import agree

ALL = '{ attn: "freeze", norm: "freeze_scale", act: "ratio", gate: "half" }'
BARE = 'bias: false, norm: "rms", pos: "rotary", d_mlp: 48'
MORE = {
    "bare_gated": f"{BARE}, gated: true, kv_heads: 2",
    "bare_plain": f'{BARE}, act: "gelu"',
    "bare_attention": 'bias: false, norm: "rms", pos: "rotary", d_mlp: 0',
}
LINEAR = [*MORE, "llama", "phi3", "qwen3", "gemma3"]
FAMILIES = [*(c for c in CONFIGS if c != "mixtral"), *TOYS, *MORE]
QUICK = ("llama", "bare_gated", "gpt2")


BODY = f"""
experiment rules {{
  let clean = run m on d.clean
  let s     = mean(ld(clean), over: batch)
  let every = grad(s, at: m.embed, rules: {ALL})
  report total    = sum(clean[m.embed] * every, over: [batch, pos, d_model]) / s
  report attn     = sum(grad(s, at: m.embed, rules: {{ attn: "freeze" }}), over: [batch, pos])
  report norm     = sum(grad(s, at: m.embed, rules: {{ norm: "freeze_scale" }}), over: [batch, pos])
  report act      = sum(grad(s, at: m.embed, rules: {{ act: "ratio", gate: "half" }}), over: [batch, pos])
  report plain    = sum(grad(s, at: m.embed), over: [batch, pos])
  report inside   = sum(grad(s, at: m.blocks[*].attn.pattern, rules: {ALL}), over: [batch, head])
  report frozen   = max(abs(grad(s, at: m.blocks[*].attn.scores, rules: {{ attn: "freeze" }})))
  report scale    = sum(grad(s, at: m.blocks[*].ln1.scale, rules: {ALL}), over: batch)
  let two = clean.logits[pos: .end, vocab: [3, 7]]
  report rows     = grad(two, at: m.blocks[1].resid_pre[pos: .end], rules: {ALL})
}}
experiment written {{
  let clean = run m on d.clean
  let fixed = run m on d.clean do {{ m.blocks[*].attn.pattern := clean }}
  let a     = grad(mean(ld(clean), over: batch), at: m.embed, rules: {{ attn: "freeze" }})
  let b     = grad(mean(ld(fixed), over: batch), at: m.embed)
  report apart  = max(abs(a - b))
  report moved  = max(abs(grad(mean(ld(clean), over: batch), at: m.embed) - b))
}}
"""


def at_hand(family: str, folder: Path) -> str:
    """The name under which the corpus knows the spec of a family."""
    if family in TOYS | MORE:
        model = f"models.toy(layers: 2, heads: 4, d_model: 32, vocab: 64, ctx: 64, {(TOYS | MORE)[family]})"
    else:
        kind, _, fields = CONFIGS[family]
        model = f'models.hf_random("{kind}", seed: 0, perturb: 0.1, config: {record(dict(fields))})'
    path = folder / f"{family}.mi"
    path.write_text(HEAD.format(model=model) + BODY, encoding="utf-8")
    corpus.ELSEWHERE[f"rules_{family}"] = path
    return f"rules_{family}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rules")


def marked(names: list[str]) -> list[object]:
    return [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("family", marked(FAMILIES))
def test_rules(family: str, folder: Path) -> None:
    name = at_hand(family, folder)
    agree(name, "all passes", None)
    found = corpus.truth(name).reports
    assert found["written.apart"][()] < 1e-12, "a pattern that is written is a constant"
    assert found["written.moved"][()] > 1e-6, "and without that there is more to the gradient"
    assert found["rules.frozen"][()] == 0
    if family in LINEAR:
        assert found["rules.total"][()] == pytest.approx(1, abs=1e-9)
        for one in ("attn", "norm", "act"):
            if (family, one) != ("bare_attention", "act"):
                assert found[f"rules.{one}"] != found["rules.plain"], one


@pytest.mark.parametrize("family", ["bare_gated"])
def test_all_rules_share_one_forward(family: str, folder: Path) -> None:
    execution = Execution(planned(at_hand(family, folder)))
    execution.run()
    assert execution.totals == execution.predicted
    assert execution.totals.forwards == 2, "one of each experiment's runs: the clean run is the same"
