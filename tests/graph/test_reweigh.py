"""Weights of a graph's own: what is written is read back, nothing else moves, and the model follows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from midsl.graph.info import WeightRow
from midsl.graph.reweigh import put, with_own
from midsl.graph.sites import ModelGraph
from tests.graph.families import CONFIGS, graph

IDS = torch.tensor([[1, 9, 3, 7], [2, 5, 5, 8]])


def logits(mg: ModelGraph) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = mg.gm(IDS, torch.ones_like(IDS))
    return found


def everything(mg: ModelGraph) -> dict[tuple[str, int | None], torch.Tensor]:
    def layers(row: WeightRow) -> Sequence[int | None]:
        return range(len(mg.parts.blocks)) if row.per_block else [None]

    keys = [(row.name, layer) for row in mg.info.weights for layer in layers(row)]
    return {key: mg.weight(*key).detach().clone() for key in keys}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_each_weight_is_written_alone(name: str) -> None:
    mg = graph(name)
    before, plain = everything(mg), logits(mg)
    for key, old in before.items():
        try:
            own = with_own(mg, [key])
        except KeyError:
            left_out = ".b_" in f".{key[0]}" and not old.any()  # a bias that there is not
            scaled = key[0] == "W_E" and name.startswith("gemma")
            assert left_out or scaled or key[0].startswith("ln")
            continue
        assert torch.equal(logits(own), plain)
        new = old + torch.arange(old.numel()).reshape(old.shape).to(old.dtype) % 5 + 1
        put(own, *key, new)
        after = everything(own)
        assert torch.equal(after.pop(key), new), key
        for other, value in after.items():
            assert torch.equal(value, before[other]), (key, other)
        moved = not torch.allclose(logits(own), plain, atol=1e-7)
        assert moved or key[0].endswith("b_K"), key  # a bias of keys moves all scores of a query alike
    assert torch.equal(logits(mg), plain)


def test_a_tied_table_is_two_weights() -> None:
    mg = graph("gpt2")
    assert torch.equal(mg.weight("W_E"), mg.weight("W_U").t())
    own = with_own(mg, [("W_U", None)])
    put(own, "W_U", None, torch.zeros_like(mg.weight("W_U")))
    assert not logits(own).any()
    assert torch.equal(own.weight("W_E"), mg.weight("W_E"))


def test_a_weight_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        with_own(graph("gpt2"), [("mlp.W_gate", 0)])
    with pytest.raises(KeyError):
        with_own(graph("gpt2"), [("mlp.W_in", 2)])
