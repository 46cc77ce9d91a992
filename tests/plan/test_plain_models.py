"""An MLP and a CNN in the oracle matrix: no attention, no stream of sums; in the CNN positions meet."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from midsl.plan.driver import Execution
from midsl.plan.explain import explain
from tests.plan import corpus
from tests.plan.corpus import CHUNKS, SUBSETS, planned
from tests.plan.plain_models import build
from tests.plan.test_oracle import agree

SPEC = """language mi 1
from std.tasks import pairs
from std.metrics import logit_diff
extern fn plain(kind: String, seed: Int = 0) -> Model = "tests.plan.plain_models:build"
model m = plain(kind: "KIND", seed: 1)
data  d = pairs(m.tokenizer,
  clean: ["5 6 7 8 9", "9 4 11 12 13 14 15", "3 21 22 3"],
  corrupt: ["5 6 31 8 9", "9 16 11 12 33 14 9", "23 21 22 3"],
  answer: ["1", "2", "4"], wrong: ["3", "4", "5"])
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
site x = m.blocks[*].resid_pre
experiment stream {
  sweep h in m.blocks[*].resid_pre[pos: *]
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do { h := clean }
  report effect = mean(ld(patched) - ld(corrupt), over: batch)
}
experiment scaled {
  sweep h in m.blocks[*].resid_post, k in [0.0, 0.5, 1.0]
  let base = run m on d.clean
  let cut  = run m on d.clean do { h := k * self }
  report effect = mean(ld(cut) - ld(base), over: batch)
  expect all(abs(effect[k: 1.0]) ~= 0)
}
experiment frozen {
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let sent    = run m on d.clean do {
    m.blocks[0].resid_post := corrupt, m.blocks[2].resid_pre[pos: 0..2] := clean
  }
  report effect = mean(ld(sent) - ld(clean), over: batch)
}
experiment gradients {
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let g       = grad(mean(ld(corrupt), over: batch), at: x)
  let score   = sum((clean[x] - corrupt[x]) * g, over: [batch, pos, d_model])
  report estimate = score
  sweep h in top_sites(abs(score), k: 2)
  let patched = run m on d.corrupt do { h := clean }
  report exact = mean(ld(patched) - ld(corrupt), over: batch)
}
"""
KINDS = ("mlp", "cnn")
FEW = ("all passes", "none", "without narrow_positions", "only cut_cones")


@cache
def at_hand(kind: str, folder: Path) -> str:
    path = folder / f"{kind}.mi"
    path.write_text(SPEC.replace("KIND", kind), encoding="utf-8")
    corpus.ELSEWHERE[kind] = path
    corpus.TRUSTED.add(kind)
    return kind


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plain")


@pytest.mark.parametrize("kind", KINDS)
def test_plans_agree_with_the_oracle(kind: str, folder: Path) -> None:
    name = at_hand(kind, folder)
    for i, subset in enumerate(FEW):
        agree(name, subset, CHUNKS[i % len(CHUNKS)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_pass_subset(kind: str, folder: Path) -> None:
    name = at_hand(kind, folder)
    for i, subset in enumerate(SUBSETS):
        agree(name, subset, CHUNKS[i % len(CHUNKS)])


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_as_predicted(kind: str, folder: Path) -> None:
    execution = Execution(planned(at_hand(kind, folder)))
    execution.run()
    assert execution.totals == execution.predicted


def test_positions_that_do_not_meet_cost_less(folder: Path) -> None:
    """One patched position of an MLP is one row; in a CNN it may be any, so that whole rows run."""
    said = {k: explain(planned(at_hand(k, folder))) for k in KINDS}
    runs = {k: [x for x in s.lines if "do {" in x.what and x.counts is not None] for k, s in said.items()}
    assert "whole rows" not in " ".join(x.reason for x in runs["mlp"][:1])
    assert "whole rows" in " ".join(x.reason for x in runs["cnn"][:1])
    assert said["mlp"].optimised.flops < 0.5 * said["mlp"].naive.flops


def test_a_patched_position_is_what_a_plain_hook_gives(folder: Path) -> None:
    """The third pair differs at its first position, and the second layer of convolutions sees it there."""
    execution = Execution(planned(at_hand("cnn", folder)))
    execution.run()
    table = next(t for s in execution.stages for t in s.tables if t.experiment == "stream")
    found = {
        (a, b): float(v) for a, b, v in zip(table.keys["layer"], table.keys["pos"], table.value, strict=True)
    }
    model = build("cnn", 1).module
    rows = [
        ([5, 6, 7, 8, 9], [5, 6, 31, 8, 9], 1, 3),
        ([9, 4, 11, 12, 13, 14, 15], [9, 16, 11, 12, 33, 14, 9], 2, 4),
        ([3, 21, 22, 3], [23, 21, 22, 3], 4, 5),
    ]
    place = model.get_submodule("blocks.1")
    for pos in (0, 2):
        effects = []
        for clean, corrupt, answer, wrong in rows:
            kept: list[Tensor] = []
            handle = place.register_forward_pre_hook(lambda _, a, kept=kept: kept.append(a[0].clone()))
            ends = [_last(model, clean), _last(model, corrupt)]
            handle.remove()

            def patch(_: object, args: tuple[Tensor], kept: list[Tensor] = kept) -> tuple[Tensor]:
                x = args[0].clone()
                x[:, pos] = kept[0][:, pos]  # noqa: B023
                return (x,)

            handle = place.register_forward_pre_hook(patch)
            ends.append(_last(model, corrupt))
            handle.remove()
            effects.append(float((ends[2] - ends[1])[answer] - (ends[2] - ends[1])[wrong]))
        assert found[1, pos] == pytest.approx(sum(effects) / 3, abs=1e-5)


def _last(model: nn.Module, ids: list[int]) -> Tensor:
    tokens = torch.tensor([ids])
    with torch.no_grad():
        out: Tensor = model(tokens, torch.ones_like(tokens))[0, -1]
    return out
