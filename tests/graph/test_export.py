"""The graph is the model: equal bits over shapes, shared parameters, and a float64 twin."""

import pytest
import torch
from torch import Tensor, nn

from midsl.graph.export import TIED, ExportFailed, export_graph
from midsl.graph.sites import build_model_graph
from tests.graph.families import ALL, ALL_LIFTED, empty, graph, model, rows, run, tiny

SHAPES = [(1, 1), (1, 7), (3, 1), (4, 20), (2, 64)]


@pytest.mark.parametrize("name", ALL)
def test_logits_are_the_models_own_bit_for_bit(name: str) -> None:
    mg, forward = graph(name), model(name).forward
    for batch, length in SHAPES:
        for pads in (0, 3):
            ids, mask = rows(batch, length, pads)
            with torch.no_grad():
                assert torch.equal(mg.gm(ids, mask), forward(ids, mask)), (batch, length, pads)


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_the_models_own(name: str) -> None:
    own = {id(p) for p in model(name).forward.parameters()}
    ours = {id(p) for p in graph(name).gm.parameters()}
    assert ours == own


@pytest.mark.parametrize("name", ALL_LIFTED)
def test_the_lifted_graph_is_the_same_model_in_float64(name: str) -> None:
    mg, lifted = graph(name), graph(name, lift=True)
    ids, mask = rows()
    with torch.no_grad():
        small, large = mg.gm(ids, mask)[mask.bool()], lifted.gm(ids, mask)[mask.bool()]
    assert large.dtype == torch.float64
    assert (small - large).abs().max() < 2e-5 * large.abs().max()
    for node in lifted.gm.graph.nodes:
        value = node.meta.get("val")
        assert not isinstance(value, Tensor) or value.dtype not in (torch.float32, torch.bfloat16), node
    assert set(lifted.sites) == set(mg.sites)


def test_a_tied_table_has_a_node_for_each_use() -> None:
    mg = graph("gpt2")
    assert mg.unembed is not None
    tokens = mg.parts.frame.tokens.args[0]
    head = mg.parts.head
    assert isinstance(tokens, torch.fx.Node) and head is not None
    assert tokens is not head.projection.weight
    assert mg.gm.meta[TIED] == {tokens.target: head.projection.weight.target}
    assert mg.gm.get_parameter(str(tokens.target)) is mg.gm.get_parameter(str(head.projection.weight.target))


class InPlace(nn.Module):
    """Changes a value after others have read it, and reads it again."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 8)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids) * 1.5
        before = x + 1
        x.mul_(3.0)
        out: Tensor = x + before
        return out


def test_in_place_operations_become_functional() -> None:
    module = InPlace()
    gm = export_graph(module, 8, None)
    ids, mask = torch.randint(0, 8, (3, 4)), torch.ones(3, 4, dtype=torch.int64)
    assert torch.equal(gm(ids, mask), module(ids, mask))
    assert not any("mul_" in str(n.target) for n in gm.graph.nodes)


class Unsupported(nn.Module):
    """Branches on a value."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return input_ids * 2.0 if input_ids.sum() > 3 else input_ids * 3.0


def test_a_module_that_cannot_be_traced_says_so() -> None:
    with pytest.raises(ExportFailed, match=r"torch\.export refused it: \w+: .{10}"):
        export_graph(Unsupported(), 8, None)


@pytest.mark.parametrize(
    "name",
    [
        "tiny_gated",
        "gpt2",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("llama", "gemma2", "mixtral")),
    ],
)
def test_the_table_needs_no_weights(name: str) -> None:
    assert build_model_graph(empty(name)).info == graph(name).info


def test_a_classifier_at_a_position() -> None:
    made = tiny("classifier", {"d_mlp": 48, "logits_at": 5, "causal": False, "norm": "rms"})
    mg = build_model_graph(made)
    logits, final = mg.info.site("logits"), mg.info.site("ln_final.scale")
    assert logits is not None and logits.axes == ("batch", "vocab")
    assert final is not None and final.axes == ("batch",)
    value = run(mg, rows(), [("logits", None), ("ln_final.scale", None)])
    assert value["ln_final.scale", None].shape == (3,)
    with torch.no_grad():
        assert torch.allclose(value["logits", None], made.forward(*rows()), atol=1e-6)
    assert mg.unembed is not None and mg.unembed.input.layout == ("batch", "d_model")
