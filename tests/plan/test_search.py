"""Searches scored on a program whose circuit is known: sorting, where one gradient does not see all of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from midsl.plan.driver import Execution
from tests.plan import corpus
from tests.plan.corpus import planned, tables

HEAD = """language mi 1
import std.models as models
from std.tasks import program_pairs
from std.metrics import kl, logit_diff
from std.search import acdc, eap, eap_ig, edge_pruning, greedy, mib, patched, random_score
from std.stats import auroc
model m = models.compiled("sort", length: 3)
data d = program_pairs(m.tokenizer, "sort", length: 3, n: 24, seed: 0)
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .query)
let moves = m.edges[src: m.embed | m.blocks[*].attn.z[head: *] | m.blocks[*].mlp_out].backwards
let carry = m.edges[
  "embed->m0", "m0->a1.h0<q>", "m0->a1.h0<k>", "a1.h0->m1", "m1->a2.h0<k>", "embed->a2.h0<v>", "a2.h0->logits"
]
experiment e {
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let truth   = numbered([e in carry for e in moves], moves)
  let known   = numbered([e in m.circuit for e in carry], carry)
  report inside = count(known, over: edge)
"""
SCORES = """
  let exact = patched(ld, m, moves, on: d.clean, from: clean, to: corrupt)
  let along = eap_ig(ld, m, moves, on: d.clean, from: clean, to: corrupt, steps: 5)
  let sizes = mib(ld, m, moves, d.clean, exact, corrupt)
  report by_exact = auroc(abs(exact), truth, over: edge)
  report by_eap = auroc(abs(eap(ld, moves, from: clean, to: corrupt)), truth, over: edge)
  report by_eap_ig = auroc(abs(along), truth, over: edge)
  report by_chance = auroc(random_score(moves.number, 0), truth, over: edge)
  report cpr = sizes.cpr
  report cmd = sizes.cmd
  report curve = sizes.faithfulness
}
"""
SEARCHES = """language mi 1
import std.models as models
from std.tasks import program_pairs
from std.metrics import kl, logit_diff
from std.search import acdc, greedy
from std.stats import auroc
model m = models.compiled("frac_prevs", length: 3)
data d = program_pairs(m.tokenizer, "frac_prevs", length: 3, n: 16, seed: 0)
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .query)
let moves = m.edges[src: m.embed | m.blocks[*].attn.z[head: *] | m.blocks[*].mlp_out].backwards
let carry = m.edges["embed->m0", "m0->a1.h0<v>", "a1.h0->logits"]
experiment e {
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let truth   = numbered([e in carry for e in moves], moves)
"""
ACDC = """
  let loss    = fn (r) => mean(kl(clean, r), over: pos)
  let found   = acdc(loss, m, moves, moves.number, d.clean, corrupt, tau: 0.01)
  report kept = where(found.keep, 1, 0)
  report known = where(truth, 1, 0)
  report runs = found.evaluations
}
"""
GREEDY = """
  let left    = greedy(ld, m, moves, moves.number, d.clean, corrupt, steps: 4, per: 5)
  report right = auroc(left.score, truth, over: edge)
  report size = count(truth, over: edge) + count(not truth, over: edge)
  report runs = left.evaluations
}
"""


def found(body: str, name: str, folder: Path) -> dict[str, list[float]]:
    corpus.ELSEWHERE[name] = folder / f"{name}.mi"
    corpus.ELSEWHERE[name].write_text(body, encoding="utf-8")
    execution = Execution(planned(name))
    execution.run()
    return {k.removeprefix("e."): list(t.value) for k, t in tables(execution).items()}


def test_exact_patching_and_gradients_along_the_way_see_what_one_gradient_does_not(tmp_path: Path) -> None:
    """A saturated softmax has no gradient: EAP is blind to what goes through keys, EAP-IG is not."""
    got = found(HEAD + SCORES, "search_scores", tmp_path)
    assert got["inside"] == [7], "the edges that carry what differs are part of the circuit"
    assert got["by_exact"] == [1.0] and got["by_eap_ig"] == [1.0]
    assert 0.6 < got["by_eap"][0] < 0.8
    assert 0.2 < got["by_chance"][0] < 0.8
    # 0, 0, 0, 0, 0, 2, 4, 9, 23 and 46 of 46 edges
    assert got["curve"][:5] == pytest.approx([0] * 5, abs=1e-5)
    assert got["curve"][7:] == pytest.approx([1] * 3, abs=1e-5)
    shares = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    f = got["curve"]
    steps = [(b - a, i) for i, (a, b) in enumerate(pairwise(shares))]
    assert got["cpr"] == pytest.approx([sum(w * (f[i] + f[i + 1]) / 2 for w, i in steps)], rel=1e-5)
    assert got["cmd"] == pytest.approx(
        [sum(w * (abs(1 - f[i]) + abs(1 - f[i + 1])) / 2 for w, i in steps)], rel=1e-5
    )


@pytest.mark.slow
def test_acdc_finds_the_circuit(tmp_path: Path) -> None:
    got = found(SEARCHES + ACDC, "search_acdc", tmp_path)
    assert got["kept"] == got["known"] and sum(got["known"]) == 3
    assert got["runs"] == [len(got["known"])]


@pytest.mark.slow
def test_greedy_search_leaves_the_circuit_for_last(tmp_path: Path) -> None:
    got = found(SEARCHES + GREEDY, "search_greedy", tmp_path)
    assert got["right"] == [1.0]
    assert got["runs"] == [4 * got["size"][0]]
