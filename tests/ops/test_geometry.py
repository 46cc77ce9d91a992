"""Shapes of representations: goldens of fixed drawings, and shesha-geometry where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from midsl.lib import geometry


def some() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """40 rows in 16 dimensions, others of them in 10, and three classes."""
    rng = np.random.default_rng(7)
    y = np.arange(40) % 3
    x = rng.normal(size=(40, 16)) + 1.5 * rng.normal(size=(3, 16))[y]
    return x, x[:, :10] + 0.5 * rng.normal(size=(40, 10)), y.astype(np.float64)


def test_it_is_what_shesha_says() -> None:
    shesha = pytest.importorskip("shesha")
    x, other, y = some()
    for metric in ("cosine", "correlation"):
        for seed in (0, 320):
            theirs = shesha.feature_split(x, n_splits=9, metric=metric, seed=seed)
            assert geometry.feature_split(x, 9, metric, seed) == pytest.approx(theirs, abs=1e-12)
    for metric in geometry.METRICS:
        theirs = shesha.sim.rdm_similarity(x, other, metric=metric)
        assert geometry.rdm_similarity(x, other, metric) == pytest.approx(theirs, abs=1e-10)
    assert geometry.cka(x, other) == pytest.approx(shesha.sim.cka_linear(x, other), abs=1e-10)
    theirs = shesha.supervised_alignment(x, y, seed=0)
    assert geometry.supervised_alignment(x, y) == pytest.approx(theirs, abs=1e-10)
    assert geometry.variance_ratio(x, y) == pytest.approx(shesha.variance_ratio(x, y), abs=1e-10)
