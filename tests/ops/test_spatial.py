"""Moran's I: a plain loop, numbers that are known, and esda where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from midsl.diagnostics.model import MiError
from midsl.lib.spatial import local_moran, moran, nearest, scattered


def by_loop(y: np.ndarray, near: np.ndarray) -> float:
    """Moran's I as its definition says, one pair after the other."""
    z = y - sum(y) / len(y)
    n, k = near.shape
    weights = {(i, int(j)): 1.0 / k for i in range(n) for j in near[i]}
    above = sum(w * z[i] * z[j] for (i, j), w in weights.items())
    return float(n / sum(weights.values()) * above / sum(v * v for v in z))


def some(n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p = scattered(n, 4)
    return p["east"], p["north"], np.stack([np.sin(4 * p["east"]) + 0.3 * p["noise"], p["noise"]], 1)


def test_it_is_the_plain_loop() -> None:
    east, north, y = some()
    near = nearest(east, north, 5)
    far = np.hypot(east[:, None] - east, north[:, None] - north)
    for i, row in enumerate(near):
        others = np.delete(far[i], [i, *row])
        assert i not in row and far[i, row].max() < others.min()
    found = moran(east, north, y, 5, 99, 0)
    assert np.allclose(found["i"], [by_loop(y[:, u], near) for u in range(2)], rtol=1e-13, atol=0)
    each = local_moran(east, north, y[:, 0], 5, 99, 0)
    assert each["i"].mean() == pytest.approx(found["i"][0], abs=1e-13)


def test_goldens() -> None:
    """Numbers of this very drawing; the expected I of noise is -1 / (n - 1)."""
    east, north, y = some(400)
    found = moran(east, north, y, 8, 999, 0)
    assert found["i"] == pytest.approx([0.7019336719, 0.0136779085], abs=1e-9)
    assert found["folded_p"] == pytest.approx([0.001, 0.25], abs=0.2)
    many = moran(east, north, np.random.default_rng(0).normal(size=(400, 300)), 8, 199, 1)
    assert many["i"].mean() == pytest.approx(-1 / 399, abs=0.003) and many["i"].max() < 0.3
    assert (many["folded_p"] < 0.01).mean() < 0.04


def test_too_many_neighbours_are_refused() -> None:
    with pytest.raises(MiError, match="8 neighbours among 5 rows"):
        nearest(np.arange(5.0), np.zeros(5), 8)


def test_it_is_what_esda_says() -> None:
    esda = pytest.importorskip("esda")
    libpysal = pytest.importorskip("libpysal")
    east, north, y = some(200)
    weights = libpysal.weights.KNN(np.stack([east, north], 1), k=8)
    weights.transform = "R"
    found = moran(east, north, y, 8, 999, 0)
    for u in range(2):
        theirs = esda.Moran(y[:, u], weights, permutations=999)
        assert found["i"][u] == pytest.approx(theirs.I, abs=1e-14)
        assert found["folded_p"][u] == pytest.approx(theirs.p_sim, abs=0.06)
    local = esda.Moran_Local(y[:, 0], weights, permutations=999, seed=1)
    own = local_moran(east, north, y[:, 0], 8, 999, 0)
    # esda divides by n - 1, as of its newer versions
    ratio = own["i"] / local.Is
    assert np.allclose(ratio, ratio[0], rtol=1e-10) and abs(ratio[0] - 1) < 0.01
    assert np.mean(np.abs(own["folded_p"] - local.p_sim) < 0.08) > 0.97
    quadrant = np.where(own["high"], np.where(own["around_high"], 1, 4), np.where(own["around_high"], 2, 3))
    assert (quadrant == local.q).all()
