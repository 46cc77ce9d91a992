"""Models of planted rows: what is planted is there, is held, and is known without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from midsl.data.planted import KINDS, planted
from midsl.diagnostics.model import MiError
from midsl.models.facts import static_key, static_sizes
from midsl.models.table import bystander, table

RECIPES: dict[str, dict[str, Any]] = {
    "sums": {"atoms": 6}, "tree": {"d": 20, "level": 3}, "pairs": {"each": 3}, "factors": {"rank": 3},
    "words": {"each": 4, "topics": 2}, "ands": {"features": 8},
}  # fmt: skip
WIDTH = {"words": 4, "ands": 3}


def recipe(kind: str) -> dict[str, Any]:
    return {"kind": kind, "n": 40, "d": 8, "seed": 1, **RECIPES[kind]}


def test_each_kind_is_tried() -> None:
    assert set(RECIPES) == set(KINDS)


@pytest.mark.parametrize("kind", RECIPES)
def test_rows_and_directions_are_where_they_should_be(kind: str) -> None:
    rows, width = recipe(kind), WIDTH.get(kind, 0)
    model, made = table(rows, width, d_mlp=5), planted(rows, width)
    module: Any = model.module
    d = rows["d"]
    assert np.allclose(module.embed.weight[:, :d].numpy(), made.rows, atol=1e-6)
    assert not module.embed.weight[:, d:].any()
    k = len(made.directions)
    assert np.allclose(module.unembed.weight[:k].numpy(), made.directions, atol=1e-6)
    assert not module.unembed.weight[k:].any()
    assert static_key("midsl.models.table:table", {"rows": rows, "width": width, "d_mlp": 5}) == model.key
    sizes = static_sizes("midsl.models.table:table", {"rows": rows, "width": width, "d_mlp": 5})
    assert sizes == model.sizes and sizes is not None and sizes["d_model"] == d + width
    assert {n for n, _ in module.named_parameters()} - set(model.held) == {
        f"blocks.0.mlp.{x}.{y}" for x in ("up", "down") for y in ("weight", "bias")
    }


def test_attention_adds_nothing() -> None:
    model = table(recipe("sums"))
    module: Any = model.module
    ids = torch.arange(40)[:, None]
    with torch.no_grad():
        logits = model.forward(ids, torch.ones_like(ids))[:, 0]
        assert torch.allclose(logits, module.embed.weight @ module.unembed.weight.T, atol=1e-6)


def test_a_tree_is_one() -> None:
    made = planted({"kind": "tree", "n": 20000, "d": 20, "level": 3, "seed": 0})
    cosines = made.directions @ made.directions.T
    for parent in range(3):
        children = [3 + 3 * parent + c for c in range(3)]
        assert np.abs(cosines[parent, children]).max() < 1e-12
        assert cosines[children[0], children[1]] == pytest.approx(0.3, abs=2e-3)
    assert cosines[0, 12] == pytest.approx(0.3, abs=2e-3)
    sizes = np.linalg.lstsq(made.directions.T, made.rows.T, rcond=None)[0].T
    on = np.abs(sizes) > 1e-9
    assert on.sum(1).mean() == pytest.approx(1.36, abs=0.03), "as the paper's tree has"
    assert (on[:, 3:12].sum(1) <= 1).all() and (on[:, :3].sum(1) <= 1).all()
    assert (on[:, 3:12].reshape(-1, 3, 3).any(2) <= on[:, :3]).all(), "no child without its parent"


def test_a_pair_of_features_is_a_target() -> None:
    made = planted({"kind": "ands", "n": 500, "d": 30, "features": 6, "seed": 2}, 3)
    assert made.fired is not None
    assert 0.5 < made.fired.any(1).mean() < 0.7
    assert np.allclose(made.directions[:3, 30:], np.eye(3))
    sizes = np.linalg.lstsq(made.directions[3:, :30].T, made.rows.T, rcond=None)[0].T
    assert np.allclose(sizes.round(), sizes) and (made.fired == (sizes[:, ::2] * sizes[:, 1::2] > 0.5)).all()


@pytest.mark.parametrize(
    "rows",
    [
        {"kind": "heap", "n": 4, "d": 4, "seed": 0},
        {"kind": "sums", "n": 4, "d": 4, "seed": 0},
        {"kind": "sums", "n": 4, "d": 4, "seed": 0, "atoms": 3, "odd": 1},
        {"kind": "pairs", "n": 0, "d": 4, "seed": 0},
    ],
)
def test_what_is_no_recipe_is_refused(rows: dict[str, Any]) -> None:
    with pytest.raises(MiError) as err:
        table(rows)
    assert err.value.diagnostics[0].code == "MI0511"


def test_the_bystander_answers_by_its_stream() -> None:
    """To exchange the whole hidden layer changes nothing; the answer is bit 0."""
    model = bystander(seed=3)
    module: Any = model.module
    ids = torch.arange(512)
    with torch.no_grad():
        x = module.embed(ids)
        mlp = module.blocks[0].mlp
        h = mlp.act(mlp.up(x))
        answer = module.unembed.weight[1] - module.unembed.weight[0]
        score = (x + mlp.down(h)) @ answer
        swapped = (x + mlp.down(h[ids ^ 1])) @ answer
        truth = (ids % 2 * 2 - 1).float()
        assert (score.sign() == truth).all()
        assert abs(float(((swapped - score) * truth).mean())) < 0.05
        assert float((mlp.down.weight.T @ answer).norm()) == pytest.approx(0.2, rel=1e-3)
