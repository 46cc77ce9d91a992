"""What a sweep costs grows as theory says, by count: no clock is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.plan.driver import compile_spec
from midsl.plan.explain import explain
from tests.bench.minimal import Shape
from tests.bench.scaling import SMALL, flops


def of(workload: str, **sizes: int) -> int:
    return flops(workload, {**SMALL, **sizes})


def test_cost_is_linear_in_the_rows_of_the_data() -> None:
    assert of("w1", n=8) == 2 * of("w1", n=4)
    assert of("w2last", n=6) == 3 * of("w2last", n=2)


def test_edits_at_the_last_position_cost_one_row_whatever_the_length() -> None:
    """Without the two unedited runs, only the keys that a row looks at grow with the length."""

    def lanes(length: int) -> int:
        shape = Shape(SMALL["layers"], SMALL["heads"], SMALL["width"], SMALL["n"], length)
        return of("w2last", length=length) - 2 * shape.base

    assert lanes(32) < 1.25 * lanes(16)


@pytest.mark.slow
def test_steering_is_linear_in_the_length() -> None:
    """Twice the rows; attention grows with the square, and the query of the last layer not at all."""
    one, two, four = (of("w6", length=t) for t in (8, 16, 32))
    assert two / one == pytest.approx(2, rel=0.1)
    assert four / two == pytest.approx(2, rel=0.1)


@pytest.mark.slow
def test_cost_in_layers_is_of_the_second_degree() -> None:
    """A sweep over layers runs what is behind each: l (l - 1) / 2 blocks for l layers."""
    three, six, twelve = (of("w6", layers=n) for n in (3, 6, 12))
    second = (twelve - 2 * six, six - 2 * three)
    assert second[0] / second[1] == pytest.approx(4, rel=0.15)


def test_the_vocabulary_costs_nothing(tmp_path: Path) -> None:
    """A difference of two logits takes two rows of the unembedding."""
    spec = """language mi 1
import std.models as models
from std.tasks import random_pairs
from std.metrics import logit_diff
model m = models.hf_random("gpt2", config: {{ n_layer: 2, n_head: 2, n_embd: 16, vocab_size: {vocab} }})
data d = random_pairs(m.tokenizer, n: 2, length: 8, seed: 0)
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
experiment e {{
  sweep x in m.blocks[*].resid_pre[pos: *]
  let clean = run m on d.clean
  let corrupt = run m on d.corrupt
  report effect = mean(ld(run m on d.corrupt do {{ x := clean }}) - ld(corrupt), over: batch)
}}
"""
    found = []
    path = tmp_path / "spec.mi"
    for vocab in (100, 1000):
        path.write_text(spec.format(vocab=vocab))
        found.append(explain(compile_spec(path)))
    assert found[0].optimised.flops == found[1].optimised.flops
    assert found[1].naive.flops > found[0].naive.flops
