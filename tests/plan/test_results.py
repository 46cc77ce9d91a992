"""Rows, n and se: against figures worked out by hand from the values of the examples."""

from __future__ import annotations

from functools import cache
from math import isnan, sqrt
from pathlib import Path

import numpy as np
import pytest

from midsl.plan.driver import Execution, compile_spec
from midsl.store.rows import ResultTable
from tests.plan.corpus import cells, load, tables

SPEC = """language mi 1
import std.models as models
from std.tasks import pairs
from std.metrics import logit_diff, nll
model  m  = models.toy(layers: 2, heads: 2, d_model: 16, vocab: 8, ctx: 24, bos: "the",
  words: ["the", "gave", "to", "ann", "bob", "cat", "dan", "eve"])
data   d  = pairs(m.tokenizer,
  clean:   ["ann gave bob to", "bob gave eve cat to to", "cat to", "dan gave bob to"],
  corrupt: ["cat gave bob to", "dan gave eve cat to to", "ann to", "eve gave bob to"],
  answer:  ["ann", "bob", "cat", "dan"], wrong: ["cat", "dan", "ann", "eve"])
metric ld = logit_diff(correct: .answer, wrong: .wrong)
experiment e {
  sweep p in [0, 2, 4, 6, 9]
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do { m.blocks[0].resid_post[pos: p] := clean }
  report each    = ld(patched) - ld(corrupt)
  report effect  = mean(ld(patched) - ld(corrupt), over: batch)
  report scaled  = 3 - 2 * mean(ld(patched) - ld(corrupt), over: batch) / 4
  report ratio   = mean(ld(patched), over: batch) / mean(ld(corrupt), over: batch)
  report total   = sum(ld(patched), over: batch)
}
experiment plain {
  let r = run m on d.clean
  report losses  = nll(r)
  report by_pos  = mean(nll(r), over: batch)
  report overall = mean(nll(r), over: [batch, pos])
  report some    = mean(ld(r), over: batch, where: ld(r) > 0)
  report none    = mean(ld(r), over: batch, where: ld(r) > 1000)
  report one     = ld(r)
}
"""
LENGTHS = (5, 7, 3, 5)
"""Tokens of each row, `the` in front included."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ResultTable]:
    path = Path(tmp_path_factory.mktemp("results")) / "spec.mi"
    path.write_text(SPEC)
    execution = Execution(compile_spec(path))
    execution.run()
    return tables(execution)


def by_example(table: ResultTable, p: int) -> np.ndarray:
    """The values of one point, one per example that has it."""
    return np.array([v for (q, _), (v, _, _) in cells(table).items() if q == p])


def test_rows_that_lack_a_position_are_not_there(found: dict[str, ResultTable]) -> None:
    rows = set(cells(found["e.each"]))
    assert rows == {(p, i) for p in (0, 2, 4, 6, 9) for i, n in enumerate(LENGTHS) if p < n}


def test_n_is_how_many_rows_have_the_position(found: dict[str, ResultTable]) -> None:
    n = {k: n for k, (_, n, _) in cells(found["e.effect"]).items()}
    assert n == {(p,): sum(p < length for length in LENGTHS) for p in (0, 2, 4, 6, 9)}


@pytest.mark.parametrize("p", [0, 2, 4])
def test_mean_and_se_by_hand(found: dict[str, ResultTable], p: int) -> None:
    each = by_example(found["e.each"], p)
    value, n, se = cells(found["e.effect"])[p,]
    assert n == len(each)
    assert value == pytest.approx(each.mean(), abs=1e-6)
    assert se == pytest.approx(each.std(ddof=1) / sqrt(n), rel=1e-4)


@pytest.mark.parametrize("p", [0, 2, 4])
def test_se_of_an_affine_report(found: dict[str, ResultTable], p: int) -> None:
    """3 - 2 x / 4 has half the standard error of x."""
    _, _, se = cells(found["e.effect"])[p,]
    _, _, scaled = cells(found["e.scaled"])[p,]
    assert scaled == pytest.approx(se / 2, rel=1e-5)


def test_a_ratio_and_a_sum_have_no_se(found: dict[str, ResultTable]) -> None:
    for report in ("e.ratio", "e.total", "e.each"):
        assert all(isnan(se) for _, _, se in cells(found[report]).values()), report


def test_where_no_row_is_eligible_the_value_is_null(found: dict[str, ResultTable]) -> None:
    for report in ("e.effect", "e.scaled", "e.ratio", "e.total"):
        value, n, se = cells(found[report])[9,]
        assert isnan(value) and n == 0 and isnan(se), report
    value, n, _ = cells(found["plain.none"])[()]
    assert isnan(value) and n == 0, "`where:` that keeps nothing"


def test_where_counts_what_it_keeps(found: dict[str, ResultTable]) -> None:
    kept = [v for v, _, _ in cells(found["plain.one"]).values() if v > 0]
    value, n, _ = cells(found["plain.some"])[()]
    assert n == len(kept) > 0
    assert value == pytest.approx(np.mean(kept), abs=1e-6)


def test_padded_positions_give_no_rows(found: dict[str, ResultTable]) -> None:
    """The last token predicts nothing: a row of five tokens has four losses."""
    rows = set(cells(found["plain.losses"]))
    assert rows == {(i, q) for i, n in enumerate(LENGTHS) for q in range(n - 1)}


def test_means_leave_padding_out(found: dict[str, ResultTable]) -> None:
    losses = {k: v for k, (v, _, _) in cells(found["plain.losses"]).items()}
    for (q,), (value, n, _) in cells(found["plain.by_pos"]).items():
        there = [v for (_, p), v in losses.items() if p == q]
        assert n == len(there)
        assert value == pytest.approx(np.mean(there), abs=1e-5)
    value, n, _ = cells(found["plain.overall"])[()]
    assert value == pytest.approx(np.mean(list(losses.values())), abs=1e-5), "every token counts once"
    assert n == len(LENGTHS)


@cache
def corpus_tables(name: str) -> dict[str, ResultTable]:
    execution = Execution(load(name))
    execution.run()
    return tables(execution)


def test_a_partial_reduction_keeps_the_other_coordinates() -> None:
    effect = {k: v for k, (v, _, _) in cells(corpus_tables("reductions")["reduce.effect"]).items()}
    by_layer = cells(corpus_tables("reductions")["reduce.by_layer"])
    assert set(by_layer) == {(0,), (1,)}
    for (layer,), (value, _, _) in by_layer.items():
        assert value == pytest.approx(np.mean([v for (k, _), v in effect.items() if k == layer]), abs=1e-6)


def test_n_of_a_swept_position() -> None:
    """Rows of 5, 7, 3 and 5 tokens, swept over all positions."""
    rows = cells(corpus_tables("resid_positions")["resid.effect"])
    assert {k: n for k, (_, n, _) in rows.items()} == {
        (layer, p): sum(p < length for length in LENGTHS) for layer in (0, 1) for p in range(7)
    }


def test_chosen_members_come_best_first() -> None:
    estimate = {k: v for k, (v, _, _) in cells(corpus_tables("attribution")["screen.estimate"]).items()}
    chosen = list(cells(corpus_tables("attribution")["screen.exact"]))
    assert chosen == sorted(estimate, key=lambda k: -abs(estimate[k]))[:3]
