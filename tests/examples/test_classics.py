"""The classics: every claim holds on the model at hand, and fails when the method is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.common import EXAMPLES, ROOT, midsl
from tests.examples.test_specs import changed

CLASSICS = EXAMPLES / "classics"
STORIES = ROOT.parent / "shared" / "data" / "stories260k"
GIVEN = {
    "bin": STORIES / "stories260K.bin",
    "tokenizer": STORIES / "tok512.bin",
    "text": STORIES / "expected_greedy_200.txt",
}
BROKEN = {
    "causal_scrubbing": (
        'except(z, z["0.0", "0.1", "0.3", "1.2"])',
        'except(z, z["0.0", "0.1", "0.3", "1.1"])',
    ),
    "causal_tracing": (
        "m.blocks[l].resid_post[pos: at] := clean",
        "m.blocks[l].resid_post[pos: .end] := clean",
    ),
    "eap_ig_circuits": ("from: clean, to: corrupt, steps: 5)", "from: clean, to: clean, steps: 5)"),
    "ioi_path_patching": ("attn.v_input[head: h]]", "attn.q_input[head: h]]"),
    "grokking": ("batch: 128,", "batch: 1,"),
    "das": ("steps: 200", "steps: 1"),
    "direction_in_generation": (
        "girl - boy",
        "girl + boy",
    ),
    "logit_and_tuned_lens": ("ends[m.blocks[l].resid_post] }", "ends[m.blocks[l].resid_pre] }"),
    "probe_with_controls": (
        "label: upper, ridge: 10.0)",
        "label: fn (r) => shuffle(upper(r), seed: 1), ridge: 10.0)",
    ),
    "fis_table": (
        "interaction(product, t.x, p, t.y, i, j)",
        "effect_of(product, t.x, p, t.y, only(t.x[row: 0], i) + only(t.x[row: 0], j))",
    ),
    "vision_patches": ("here    = differs[pos: p]", "here    = 1 - differs[pos: p]"),
    "sae_at_two_sites": ("optim: adam(lr: 3e-3), steps: 1500", "optim: adam(lr: 3e-3), steps: 1"),
}
"""What breaks the method of each, in the place where its claims should notice."""


def run(spec: Path, store: Path) -> int:
    text = spec.read_text()
    wanted = [k for k in GIVEN if f"param {k}:" in text]
    if wanted and not STORIES.exists():
        pytest.skip("the story model is not on this machine")
    given = [x for k in wanted for x in ("-p", f"{k}={GIVEN[k]}")]
    done = midsl("run", spec, *given, "--store", store)
    assert done.exit_code in (0, 3), done.output
    return done.exit_code


def test_each_classic_is_here() -> None:
    assert {p.stem for p in CLASSICS.glob("*.mi")} == set(BROKEN)


def test_causal_tracing(tmp_path: Path) -> None:
    assert run(CLASSICS / "causal_tracing.mi", tmp_path) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BROKEN))
def test_claims_hold(tmp_path: Path, name: str) -> None:
    assert run(CLASSICS / f"{name}.mi", tmp_path) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BROKEN))
def test_claims_fail_when_the_method_is_broken(tmp_path: Path, name: str) -> None:
    old, new = BROKEN[name]
    assert run(changed(CLASSICS / f"{name}.mi", tmp_path, old, new), tmp_path / "store") == 3
