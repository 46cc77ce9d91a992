"""The oracle's models: the whole graph of a real small transformer, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from midsl.data.dataset import Part
from midsl.diagnostics.model import MiError
from midsl.ir import nodes as ir
from midsl.models.config import TinyConfig
from midsl.models.tiny import TinyTransformer
from midsl.ops.named import NT
from midsl.oracle.inputs import Taken
from midsl.oracle.model import GraphModel

LENGTHS = np.array([6, 4, 2])
TOKENS = np.random.default_rng(0).integers(1, 11, (3, 6)) * (np.arange(6)[None, :] < LENGTHS[:, None])
PART = Part(TOKENS.astype(np.int64), LENGTHS, {})
REAL = torch.arange(6)[None, :] < torch.as_tensor(LENGTHS)[:, None]
CONFIG = TinyConfig(vocab=11, layers=2, heads=2, d_model=8, d_head=4, d_mlp=12, ctx=16, seed=3)


RUN = ir.Forward(ir.Model("toy"), ir.Part(ir.Data("toy")))
GRAD = ir.Grad(ir.Const(0.0), RUN, ir.Site(RUN.model, "logits"))


@dataclass
class Transformer:
    """As much of a loaded model as the graph needs."""

    forward: nn.Module
    arch: str = "tiny"
    key: str = "tiny"
    blocks_path: str | None = "blocks"
    max_pos: int | None = 16


def module() -> nn.Module:
    return TinyTransformer(CONFIG).eval().requires_grad_(False)


@cache
def model() -> GraphModel:
    return GraphModel.of(Transformer(module()))


def values(*reads: tuple[str, int | None], **edits: object) -> dict[tuple[str, int | None], NT]:
    return model().run(PART, edits, reads)  # type: ignore[arg-type]


def test_logits_are_the_models_own() -> None:
    own = module().double()(torch.as_tensor(PART.tokens), REAL.long())
    got = values(("logits", None))["logits", None]
    assert got.axes == ("batch", "pos", "vocab")
    assert got.data.dtype == torch.float64
    torch.testing.assert_close(got.data[REAL], own[REAL], rtol=1e-12, atol=1e-12)


def test_each_site_has_the_axes_of_the_table() -> None:
    sizes = {**model().info.sizes, "batch": 3, "pos": 6, "key_pos": 6}
    for row in model().info.sites:
        if row.readable:
            address = (row.name, (row.layers or (0,))[0] if row.per_block else None)
            found = values(address)[address]
            assert found.axes == row.axes, row.name
            assert list(found.data.shape) == [sizes[a] for a in row.axes], row.name
            assert found.data.dtype == torch.float64, row.name


def test_the_stream_adds_up() -> None:
    names = [("resid_pre", 0), ("attn_out", 0), ("resid_mid", 0), ("mlp_out", 0), ("resid_post", 0)]
    v = {n: x.data for (n, _), x in values(*names).items()}
    torch.testing.assert_close(v["resid_mid"], v["resid_pre"] + v["attn_out"], rtol=0, atol=1e-14)
    torch.testing.assert_close(v["resid_post"], v["resid_mid"] + v["mlp_out"], rtol=0, atol=1e-14)


def test_pattern_is_the_softmax_of_the_scores() -> None:
    v = values(("attn.scores", 1), ("attn.pattern", 1), ("attn.v", 1), ("attn.z", 1))
    scores, pattern = v["attn.scores", 1], v["attn.pattern", 1]
    assert pattern.axes == ("batch", "head", "pos", "key_pos")
    torch.testing.assert_close(torch.softmax(scores.data, -1), pattern.data)
    z = torch.einsum("bhqk,bkhd->bqhd", pattern.data, v["attn.v", 1].data)
    torch.testing.assert_close(z[REAL], v["attn.z", 1].data[REAL])


def test_a_write_flows_on_from_its_site() -> None:
    def zero(x: NT) -> NT:
        data = x.data.clone()
        data[:, :, 1] = 0
        return NT(data, x.axes)

    reads = [("attn.z", 0), ("attn_out", 0), ("resid_mid", 0), ("resid_pre", 0), ("logits", None)]
    before = model().run(PART, {}, reads)
    after = model().run(PART, {("attn.z", 0): zero}, reads)
    assert (after["attn.z", 0].data[:, :, 1] == 0).all()
    assert torch.equal(after["resid_pre", 0].data, before["resid_pre", 0].data)
    w = model().weight("attn.W_O", 0)  # [head, d_head, d_model]
    lost = before["attn.z", 0].data[:, :, 1] @ w[1]
    torch.testing.assert_close(after["attn_out", 0].data, before["attn_out", 0].data - lost)
    assert not torch.allclose(after["logits", None].data, before["logits", None].data)


def test_two_names_for_one_node_are_one_address() -> None:
    def plus(x: NT) -> NT:
        return NT(x.data + 1, x.axes)

    def times(x: NT) -> NT:
        return NT(x.data * 3, x.axes)

    reads = [("resid_post", 0), ("resid_pre", 1)]
    base = values(*reads)["resid_post", 0].data
    got = model().run(PART, {("resid_pre", 1): plus, ("resid_post", 0): times}, reads)
    for r in reads:
        torch.testing.assert_close(got[r].data, (base + 1) * 3)


def test_gradients_are_those_of_the_module() -> None:
    sites = [("resid_post", 0), ("resid_pre", 1), ("attn.z", 1), ("attn.z", 0), ("logits", None)]
    found = model().run(PART, {}, sites, Taken(GRAD, tuple(sites)))
    scalar = found["logits", None].data[:, 1, 3].sum()
    slopes = torch.autograd.grad(scalar, [found[s].data for s in sites])
    assert torch.equal(slopes[0], slopes[1])
    h = 1e-6
    for (name, layer), slope in zip(sites[1:4], slopes[1:4], strict=True):
        direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

        def at(step: Tensor, name: str = name, layer: int | None = layer) -> Tensor:
            change = {(name, layer): lambda x: NT(x.data + step, x.axes)}
            return model().run(PART, change, [("logits", None)])["logits", None].data[:, 1, 3].sum()

        want = (at(h * direction) - at(-h * direction)) / (2 * h)
        torch.testing.assert_close((slope * direction).sum(), want, rtol=1e-6, atol=1e-9)


def test_runs_leave_no_trace() -> None:
    first = values(("logits", None))["logits", None].data
    model().run(PART, {("resid_post", 0): lambda x: NT(x.data * 0, x.axes)}, [("logits", None)])
    assert torch.equal(values(("logits", None))["logits", None].data, first)
    assert not first.requires_grad


def test_unknown_weight() -> None:
    with pytest.raises(MiError, match="MI0401"):
        model().weight("W_nothing", None)
