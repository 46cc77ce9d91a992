"""Draws: functions of seed, stream and coordinates, and of nothing else."""

import numpy as np
import pytest

from midsl.ops.random import draw, permutation

IDS = np.array([3, 17, 4, 100000])
POS, DIM = np.arange(5), np.arange(8)


def test_chunks_and_order_of_axes_do_not_matter() -> None:
    whole = draw("normal", 0, "noise", {"batch": IDS, "pos": POS, "d": DIM})
    assert whole.shape == (4, 5, 8)
    part = draw("normal", 0, "noise", {"batch": IDS[2:3], "pos": POS[1:3], "d": DIM})
    np.testing.assert_array_equal(part, whole[2:3, 1:3])
    turned = draw("normal", 0, "noise", {"d": DIM, "batch": IDS, "pos": POS})
    np.testing.assert_array_equal(turned.transpose(1, 2, 0), whole)


def test_seed_stream_and_axis_names_matter() -> None:
    base = draw("uniform", 0, "noise", {"batch": IDS})
    for other in (
        draw("uniform", 1, "noise", {"batch": IDS}),
        draw("uniform", 0, "other", {"batch": IDS}),
        draw("uniform", 0, "noise", {"pos": IDS}),
        draw("uniform", 0, 0, {"batch": IDS}),
    ):
        assert not np.isclose(base, other).any()
    assert (draw("uniform", 0, 0, {"batch": IDS}) != draw("uniform", 0, "0", {"batch": IDS})).all()


def test_no_two_coordinates_share_a_value() -> None:
    x = draw("uniform", 0, "s", {"a": np.arange(100), "b": np.arange(100)})
    assert len(np.unique(x)) == 10_000  # (i, j) and (j, i) too


def test_moments() -> None:
    u = draw("uniform", 5, "s", {"batch": np.arange(400), "d": np.arange(500)})
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.003 and abs(u.var() - 1 / 12) < 0.001
    z = draw("normal", 5, "s", {"batch": np.arange(400), "d": np.arange(500)})
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert abs((np.abs(z) < 1.96).mean() - 0.95) < 0.003
    neighbours = np.corrcoef(z[:, :-1].ravel(), z[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.01
    rows = np.corrcoef(z[:-1].ravel(), z[1:].ravel())[0, 1]
    assert abs(rows) < 0.01


def test_permutations() -> None:
    p = permutation(0, "shuffle", {"batch": IDS, "head": np.arange(3)}, "batch")
    assert p.shape == (4, 3)
    assert (np.sort(p, axis=0) == np.arange(4)[:, None]).all()
    many = permutation(0, "s", {"rep": np.arange(600), "batch": np.arange(3)}, "batch")
    _, counts = np.unique(many, axis=0, return_counts=True)
    assert len(counts) == 6 and counts.min() > 60  # every order, about as often


def test_permutation_within_groups() -> None:
    groups = np.array([0, 1, 0, 1, 1, 0])
    p = permutation(3, "s", {"rep": np.arange(50), "batch": np.arange(6)}, "batch", within=groups)
    assert (groups[p] == groups).all()
    assert (np.sort(p, axis=1) == np.arange(6)).all()
    assert (p != np.arange(6)).any()


def test_unknown_distribution() -> None:
    with pytest.raises(ValueError, match="no distribution"):
        draw("cauchy", 0, "s", {"batch": IDS})
