"""Papers whose methods are fitted: claims on three seeds, numbers, the question in SQL, a broken method.

Each ends its docs with a line `SQL:`, a query of the results that answers the paper's headline question.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.examples.common import EXAMPLES, ask, midsl

SEEDS = (20, 21, 22)


@dataclass(frozen=True)
class Paper:
    """What is tried of an example.

    Attributes:
        broken: what of its text is replaced and by what, so that the method does not do what it should.
        fails: the experiment and how its claim begins that must notice.
        golden: values at seed 20 by query.
        rel: how far these may be off, as a share; more where a whole model is trained.
        fast: whether all of that is done in CI proper.
    """

    broken: tuple[str, str]
    fails: tuple[str, str]
    golden: dict[str, float] = field(default_factory=dict)
    rel: float = 2e-3
    fast: bool = True


PAPERS = {
    "02_subspace_illusion": Paper(
        ("do { part.code := clean }", "do { part.code := corrupt }"),
        ("hidden", 'fldd[part: "full"] >= 0.8'),
        {
            "SELECT value FROM hidden.fldd WHERE part = 'full'": 1.701,
            "SELECT value FROM hidden.fldd WHERE part = 'row'": 0.341,
            "SELECT value FROM hidden.whole": 0.00311,
            "SELECT value FROM stream.effect": 2.126,
            "SELECT value FROM stream.truth": 0.9705,
        },
    ),
    "04_stitching": Paper(
        ("take: novel)", "take: known)"),
        ("stitching", "with_novel < base"),
        {
            "SELECT value FROM stitching.base": 0.01819,
            "SELECT value FROM stitching.with_novel": 0.01115,
            "SELECT value FROM stitching.with_known": 0.034,
            "SELECT value FROM meta.explained_of": 0.8987,
            "SELECT value FROM meta.of_random": 0.6726,
        },
        rel=0.03,
        fast=False,
    ),
    "05_snmf": Paper(
        ("rank: 10, keep: keep, steps: 500", "rank: 10, keep: keep, steps: 1"),
        ("planted", "close[keep: 0.15] >= 0.85"),
        {
            "SELECT value FROM planted.close WHERE keep < 0.5": 0.9045,
            "SELECT value FROM planted.close WHERE keep > 0.5": 0.5992,
            "SELECT value FROM concepts.distinct": 9.0,
        },
    ),
    "25_transcoders": Paper(
        ("writers(tc.decoder)[target: j]", "writers(tc.decoder)[target: j + 1]"),
        ("circuits", "own_after <= 0.5"),
        {
            "SELECT value FROM latents.f1 WHERE l1 BETWEEN 0.02 AND 0.05": 0.7825,
            "SELECT value FROM latents.sae_f1 WHERE l1 BETWEEN 0.02 AND 0.05": 0.5866,
            "SELECT value FROM latents.knows": 0.962,
            "SELECT value FROM circuits.pairs": 1.0,
            "SELECT value FROM circuits.own_after": 0.0,
        },
        rel=0.03,
        fast=False,
    ),
    "40_mp_sae": Paper(
        ("in_order_of(truth, mp.decoder", "in_order_of(truth, none.decoder"),
        ("found", "mean(mp_close, over: vocab) >= 0.98"),
        {
            "SELECT avg(value) AS value FROM found.mp_close": 0.99998,
            "SELECT avg(value) AS value FROM found.l1_close": 0.8979,
            "SELECT value FROM found.l1_parent_child": 0.6267,
            "SELECT value FROM found.mp_l0": 1.372,
            "SELECT value FROM found.l1_gram": 0.06343,
        },
    ),
    "41_attention_sae": Paper(
        ("told(r, sae, code)", "told(r, sae, shuffle(code, seed: 1))"),
        ("sources", "source >= 0.6"),
        {
            "SELECT value FROM quality.on": 9.404,
            "SELECT value FROM quality.recovered": 0.9998,
            "SELECT value FROM quality.fvu": 0.2192,
            "SELECT value FROM sources.source": 1.0,
            "SELECT value FROM causes.takes": 2.587,
        },
        rel=0.03,
        fast=False,
    ),
}


def cases(fast: bool) -> list[Any]:
    """Names of examples; the slow ones are marked so where the test is one of CI proper."""
    return [pytest.param(n, marks=() if p.fast or not fast else pytest.mark.slow) for n, p in PAPERS.items()]


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where the results of an example are, which runs once."""

    @cache
    def run(name: str) -> Path:
        store = tmp_path_factory.mktemp(name)
        done = midsl("run", EXAMPLES / f"{name}.mi", "--store", store)
        assert done.exit_code == 0, done.output
        return store

    return run


@pytest.mark.parametrize("name", cases(fast=True))
def test_its_numbers(name: str, ran: Any) -> None:
    store = ran(name)
    found = {query: ask(store, query)[0]["value"] for query in PAPERS[name].golden}
    assert found == pytest.approx(PAPERS[name].golden, rel=PAPERS[name].rel, abs=1e-6)


@pytest.mark.parametrize("name", cases(fast=True))
def test_its_question_is_answered(name: str, ran: Any) -> None:
    text = (EXAMPLES / f"{name}.mi").read_text(encoding="utf-8")
    (query,) = re.findall(r"^## SQL: (SELECT .*)$", text, re.M)
    assert ask(ran(name), query)


@pytest.mark.parametrize("name", cases(fast=True))
def test_a_broken_method_fails_its_claims(name: str, tmp_path: Path) -> None:
    text = (EXAMPLES / f"{name}.mi").read_text(encoding="utf-8")
    paper = PAPERS[name]
    right, wrong = paper.broken
    assert text.count(right) == 1
    spec = tmp_path / f"{name}.mi"
    spec.write_text(text.replace(right, wrong), encoding="utf-8")
    experiment, claim = paper.fails
    done = midsl("run", spec, "--select", experiment, "--store", tmp_path / "store")
    assert done.exit_code == 3, done.output
    assert f"✗ expect {claim}" in done.output


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", cases(fast=False))
def test_its_claims_hold_on_each_seed(name: str, seed: int, tmp_path: Path) -> None:
    done = midsl("run", EXAMPLES / f"{name}.mi", "-p", f"seed={seed}", "--store", tmp_path / "store")
    assert done.exit_code == 0, done.output


@pytest.mark.slow
@pytest.mark.parametrize("name", cases(fast=False))
def test_it_agrees_with_the_oracle(name: str) -> None:
    done = midsl("verify", EXAMPLES / f"{name}.mi", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["worst"] <= 1e-9
