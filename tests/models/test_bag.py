"""Bags of tokens: logits are those of a sum, by the hidden layer alone, and training leaves the frame."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from midsl.diagnostics.model import MiError
from midsl.graph.sites import build_model_graph
from midsl.models.bag import bag
from midsl.models.facts import static_key, static_sizes

SIZES: dict[str, Any] = {"vocab": 7, "d_embed": 4, "d_mlp": 9}


def test_logits_are_those_of_a_sum() -> None:
    model = bag(**SIZES, seed=3)
    weights: dict[str, Any] = dict(model.module.named_parameters())
    embed, up, down = (weights[n] for n in ("embed.weight", "blocks.0.up.weight", "blocks.0.down.weight"))
    ids = torch.tensor([[1, 5, 5], [2, 0, 6]])
    with torch.no_grad():
        weights["blocks.0.up.bias"].copy_(torch.arange(9.0) / 9)
        weights["blocks.0.up.weight"][:, 4:] = 1.0  # of what no embedding has
        weights["embed.weight"][:, 4:] = 1.0
        x = embed[ids][..., :4].cumsum(1)
        hidden = torch.relu(x @ up[:, :4].T + torch.arange(9.0) / 9)
        assert torch.allclose(model.forward(ids, torch.ones_like(ids)), hidden @ down[4:].T, atol=1e-5)


def test_weights_are_drawn_from_the_seed() -> None:
    one, same, other = (bag(**SIZES, seed=s).weights_sha256 for s in (1, 1, 2))
    assert one == same != other


def test_no_gradient_leaves_the_frame() -> None:
    model = bag(**SIZES)
    ids = torch.tensor([[1, 5, 5], [2, 0, 6]])
    model.module.requires_grad_(True)
    model.forward(ids, torch.ones_like(ids))[:, 1].logsumexp(-1).sum().backward()
    grads = {n: p.grad for n, p in model.module.named_parameters()}
    assert set(model.held) == {"unembed.weight", "blocks.0.down.bias"}
    assert not grads["embed.weight"][:, 4:].any() and grads["embed.weight"][:, :4].any()  # type: ignore[index]
    assert not grads["blocks.0.up.weight"][:, 4:].any()  # type: ignore[index]
    assert not grads["blocks.0.down.weight"][:4].any()  # type: ignore[index]


def test_it_is_known_before_it_is_made() -> None:
    model = bag(**SIZES)
    assert static_key("midsl.models.bag:bag", SIZES) == model.key
    assert static_sizes("midsl.models.bag:bag", SIZES) == model.sizes
    rows = {s.name: s for s in build_model_graph(model).info.sites}
    for name in ("embed", "resid_pre", "mlp.pre", "mlp.post", "mlp_out", "resid_post", "logits"):
        assert rows[name].readable and rows[name].writable, name


@pytest.mark.parametrize("wrong", [{"vocab": 0}, {"d_mlp": "many"}, {"act": "step"}])
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MiError) as caught:
        bag(**(SIZES | wrong))
    assert caught.value.diagnostics[0].code == "MI0509"
