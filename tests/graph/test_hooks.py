"""A model that branches on its data runs on hooks, and says why."""

import pytest
import torch
from torch import Tensor, nn

from midsl.graph.hooks import HookModel, hook_model, module_site
from midsl.graph.sites import ExportFailed, SiteConflict, build_model_graph
from tests.graph.families import Model, rows


class Branching(nn.Module):
    """Skips its second block where the first one's output is mostly negative: no graph can say that."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(64, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, 64)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            y = block(input=x)
            x = x + y if y.mean().item() > -10 else x
        out: Tensor = self.head(x)
        return out


@pytest.fixture(scope="module")
def branching() -> HookModel:
    module = Branching()
    model = Model(module, module, "branching", "test-branching", "blocks", None)
    with pytest.raises(ExportFailed) as failed:
        build_model_graph(model)
    assert "torch.export refused it" in failed.value.reason
    return hook_model(model, failed.value.reason, {"d_model": 8})


def test_says_that_it_is_the_hook_engine_and_why(branching: HookModel) -> None:
    assert branching.info.engine == "hooks"
    assert "torch.export" in branching.info.why
    assert branching.info.sizes == {"d_model": 8, "layer": 2}


def test_reads_what_modules_take_and_give(branching: HookModel) -> None:
    ids, mask = rows()
    net = branching.forward
    read = branching.run(
        ids,
        mask,
        reads=[("resid_pre", 0), ("resid_post", 1), (module_site("head", "input"), None), ("logits", None)],
    )
    assert torch.equal(read["resid_pre", 0], net.embed(ids))  # type: ignore[operator]
    assert torch.equal(read["logits", None], net(ids, mask))
    assert torch.equal(net.head(read[module_site("head", "input"), None]), read["logits", None])  # type: ignore[operator]


def test_an_edit_is_what_the_rest_of_the_model_sees(branching: HookModel) -> None:
    ids, mask = rows()
    net = branching.forward
    site = (module_site("head", "input"), None)
    out = branching.run(ids, mask, {site: lambda x: x * 0}, [site, ("logits", None)])
    assert not out[site].any()
    assert torch.equal(out["logits", None], net.head.bias.expand(3, 7, 64))  # type: ignore[union-attr, operator]
    assert torch.equal(branching.run(ids, mask, reads=[("logits", None)])["logits", None], net(ids, mask))


def test_edits_at_both_ends_of_a_block_apply_in_order(branching: HookModel) -> None:
    ids, mask = rows()
    block = branching.forward.get_submodule("blocks.0")
    out = branching.run(
        ids,
        mask,
        {("resid_pre", 0): lambda x: x + 1, ("resid_post", 0): lambda y: y * 2},
        [("resid_pre", 0), ("resid_post", 0)],
    )
    assert torch.equal(out["resid_post", 0], 2 * block(out["resid_pre", 0]))


def test_refuses_sites_it_does_not_have(branching: HookModel) -> None:
    with pytest.raises(SiteConflict, match=r"no site attn\.z"):
        branching.run(*rows(), reads=[("attn.z", 0)])
    with pytest.raises(SiteConflict, match="no block 2"):
        branching.run(*rows(), reads=[("resid_pre", 2)])
