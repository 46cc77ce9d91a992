"""Compiled programs as truth: their circuits are just the edges that matter, and gates act as theory says."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.plan.driver import Execution
from tests.plan import corpus
from tests.plan.corpus import planned, tables

HEAD = """language mi 1
import std.models as models
from std.tasks import pairs, program_pairs
from std.metrics import logit_diff
"""
MATTER = """
model m = models.compiled("{name}", length: {n}{beside})
data d = program_pairs(m.tokenizer, "{name}", length: {rows})
experiment each {{
  sweep e in m.edges
  let clean = run m on d.clean
  let cut   = run m on d.clean do {{ e := 0 }}
  report moved = max(abs(cut.logits - clean.logits)[pos: 1..], over: [batch, pos, vocab])
  report known = where(e in m.circuit, 1.0, 0.0)
}}
"""
GATE = """
model m = models.compiled("{name}", length: 2)
data d = pairs(m.tokenizer, clean: ["1 1"], corrupt: ["0 0"], answer: ["1"], wrong: ["0"])
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
experiment each {{
  sweep e in m.edges["a0.h0->m0", "a0.h1->m0"]
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let whole   = mean(ld(clean) - ld(corrupt), over: batch)
  report noised   = mean(ld(clean) - ld(run m on d.clean do {{ e := corrupt }}), over: batch) / whole
  report denoised = mean(ld(run m on d.corrupt do {{ e := clean }}) - ld(corrupt), over: batch) / whole
}}
experiment both {{
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let two     = m.edges["a0.h0->m0", "a0.h1->m0"]
  let whole   = mean(ld(clean) - ld(corrupt), over: batch)
  report noised   = mean(ld(clean) - ld(run m on d.clean do {{ two := corrupt }}), over: batch) / whole
  report denoised = mean(ld(run m on d.corrupt do {{ two := clean }}) - ld(corrupt), over: batch) / whole
}}
"""


def found(text: str, name: str, folder: Path) -> dict[str, list[float]]:
    corpus.ELSEWHERE[name] = folder / f"{name}.mi"
    corpus.ELSEWHERE[name].write_text(HEAD + text, encoding="utf-8")
    execution = Execution(planned(name))
    execution.run()
    return {k: list(t.value) for k, t in tables(execution).items()}


@pytest.mark.parametrize(
    ("name", "n", "beside"),
    [
        ("frac_prevs", 3, ""),
        ("and", 2, ""),
        pytest.param("frac_prevs", 4, "hist", marks=pytest.mark.slow),
        pytest.param("reverse", 3, "", marks=pytest.mark.slow),
        pytest.param("sort", 3, "reverse", marks=pytest.mark.slow),
        pytest.param("hist", 3, "", marks=pytest.mark.slow),
        pytest.param("or", 2, "and", marks=pytest.mark.slow),
    ],
)
def test_the_edges_of_a_circuit_matter_and_no_others(name: str, n: int, beside: str, tmp_path: Path) -> None:
    """Of `reverse` on rows that are not as long as may be: that long is what is said where nobody counts."""
    beside = f', beside: "{beside}"' if beside else ""
    rows = n - 1 if name == "reverse" else n
    got = found(MATTER.format(name=name, n=n, rows=rows, beside=beside), f"matter_{name}_{n}", tmp_path)
    moved, known = got["each.moved"], got["each.known"]
    assert 0 < sum(known) < len(known)
    assert all((m > 0.1) if k else (m < 1e-4) for m, k in zip(moved, known, strict=True))


@pytest.mark.parametrize(("name", "noised", "denoised"), [("and", 1.0, 0.0), ("or", 0.0, 1.0)])
def test_noising_and_denoising_differ_at_gates(
    name: str, noised: float, denoised: float, tmp_path: Path
) -> None:
    """One input of AND is necessary and not sufficient, one of OR sufficient and not necessary."""
    got = found(GATE.format(name=name), f"gate_{name}", tmp_path)
    assert got["each.noised"] == pytest.approx([noised, noised], abs=1e-5)
    assert got["each.denoised"] == pytest.approx([denoised, denoised], abs=1e-5)
    assert got["both.noised"] == pytest.approx([1.0], abs=1e-5)
    assert got["both.denoised"] == pytest.approx([1.0], abs=1e-5)
