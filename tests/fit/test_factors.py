"""Semi-NMF by multiplicative steps, and pairing: against plain loops, and what must hold of every step."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from midsl.diagnostics.model import MiError
from midsl.lib.factors import SMALL, semi_nmf, updated
from midsl.lib.matching import assignment


def matrix(seed: int, n: int = 40, d: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.parametrize("seed", [20, 21, 22])
def test_with_all_entries_the_error_never_rises(seed: int) -> None:
    loss = semi_nmf(matrix(seed), rank=4, keep=1.0, steps=300, seed=seed)["loss"]
    assert (np.diff(loss) <= 1e-9 * loss[:-1]).all() and loss[-1] < 0.9 * loss[0]


def test_signs_and_sparsity() -> None:
    x = matrix(1)
    found = semi_nmf(x, rank=4, keep=0.3, steps=50, seed=0)
    assert (found["loadings"] >= 0).all()
    assert ((found["features"] != 0).sum(1) == math.ceil(0.3 * 12)).all()
    left = ((x - found["loadings"] @ found["features"]) ** 2).sum()
    assert left == pytest.approx(found["loss"].min()), "what is given is the best that was seen"
    assert found["features"].min() < 0, "features are of any sign"


def test_one_step_is_what_is_written_down() -> None:
    """Ding, Li and Jordan's update, entry by entry."""
    x, k, kept = matrix(3, n=7, d=5), 3, 2
    g = np.random.default_rng(4).random((7, k))
    f, after = updated(x, g, kept)
    gram = np.linalg.inv(g.T @ g + SMALL * np.eye(k))
    plain = np.zeros((k, 5))
    for j in range(k):
        for c in range(5):
            plain[j, c] = sum(gram[j, i] * sum(g[r, i] * x[r, c] for r in range(7)) for i in range(k))
    for row in plain:
        row[np.argsort(np.abs(row))[:-kept]] = 0.0
    sizes = [math.sqrt(sum(g[r, j] ** 2 for r in range(7))) for j in range(k)]
    for j in range(k):
        plain[j] *= sizes[j]
    assert np.allclose(f, plain, atol=1e-10)
    for r in range(7):
        for j in range(k):
            now = [g[r, i] / sizes[i] for i in range(k)]
            p = sum(x[r, c] * plain[j, c] for c in range(5))
            q = [sum(plain[i, c] * plain[j, c] for c in range(5)) for i in range(k)]
            up = max(p, 0) + sum(now[i] * max(-q[i], 0) for i in range(k))
            down = max(-p, 0) + sum(now[i] * max(q[i], 0) for i in range(k)) + SMALL
            assert after[r, j] == pytest.approx(now[j] * math.sqrt(up / down), rel=1e-8)


@pytest.mark.parametrize("bad", [{"rank": 0}, {"steps": 0}, {"keep": 0.0}, {"keep": 1.5}])
def test_what_makes_no_factors_is_refused(bad: dict[str, float]) -> None:
    given: dict[str, float] = {"rank": 2, "keep": 1.0, "steps": 3, "seed": 0, **bad}
    with pytest.raises(MiError) as err:
        semi_nmf(matrix(0), **given)  # type: ignore[arg-type]
    assert err.value.diagnostics[0].code == "MI0707"


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 3), (2, 5), (5, 2), (6, 6)])
def test_pairs_are_the_best_of_all(m: int, n: int) -> None:
    rng = np.random.default_rng(m * 10 + n)
    for _ in range(20):
        score = rng.normal(size=(m, n))
        pairs = assignment(score)
        few, many = sorted((m, n))
        wide = score if m <= n else score.T
        best = max(sum(wide[i, p[i]] for i in range(few)) for p in itertools.permutations(range(many), few))
        assert (pairs * score).sum() == pytest.approx(best)
        assert pairs.sum() == few and pairs.sum(0).max() <= 1 and pairs.sum(1).max() <= 1


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(MiError):
        assignment(np.array([[math.nan]]))
