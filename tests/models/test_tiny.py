"""The small transformer: against an independent implementation, under export, and as a seeded thing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from midsl.diagnostics.model import MiError
from midsl.models.config import TinyConfig, tiny_config
from midsl.models.tiny import TinyTransformer

LLAMA = dict(norm="rms", gated=True, d_mlp=24, act="silu", bias=False, eps=1e-6)
SHAPES: dict[str, dict[str, object]] = {
    "attention only": dict(),
    "no norm, no positions": dict(norm="none", pos="none", act="relu", d_mlp=8),
    "llama": dict(pos="rotary", kv_heads=2, **LLAMA),
    "llama2.c": dict(pos="rotary_pairs", kv_heads=1, tied=True, **LLAMA),
    "encoder": dict(causal=False, d_mlp=16, act="gelu"),
    "classifier": dict(logits_at=2, unembed_bias=True, final_norm=False),
}


def build(**fields: object) -> TinyTransformer:
    base: dict[str, object] = {"d_model": 16, "heads": 4, "vocab": 11, "ctx": 12}
    return TinyTransformer(tiny_config(base | fields)).eval()


def rows(batch: int, pos: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(11, (batch, pos), generator=torch.Generator().manual_seed(batch * 100 + pos))
    return ids, torch.ones_like(ids)


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_export_with_dynamic_batch_and_pos_is_bit_equal(fields: dict[str, object]) -> None:
    model = build(**fields)
    batch, pos = Dim("batch", min=1, max=64), Dim("pos", min=1, max=12)
    low = int(str(fields.get("logits_at", 0))) + 1  # a classifier's row has its position
    axes = {0: batch, 1: pos}
    with torch.no_grad():
        program = torch.export.export(model, rows(3, 7), dynamic_shapes=(axes, axes), strict=False)
        for shape in ((1, low), (1, 5), (4, low), (6, 12)):
            ids, mask = rows(*shape)
            assert torch.equal(program.module()(ids, mask), model(ids, mask))


def test_llama_shape_equals_transformers_llama() -> None:
    """Weights moved tensor by tensor into transformers' Llama give the same logits."""
    transformers = pytest.importorskip("transformers")
    model = build(**SHAPES["llama"], layers=3, rope_base=500.0)
    config = transformers.LlamaConfig(
        hidden_size=16, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3, vocab_size=11,
        intermediate_size=24, rms_norm_eps=1e-6, max_position_embeddings=12, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval()
    names = {
        "embed": "model.embed_tokens", "ln_final": "model.norm", "unembed": "lm_head",
        "blocks": "model.layers", "ln1": "input_layernorm", "ln2": "post_attention_layernorm",
        "attn": "self_attn", "q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj",
        "gate": "gate_proj", "up": "up_proj", "down": "down_proj",
    }  # fmt: skip
    moved = {
        ".".join(names.get(part, part) for part in name.split(".")): tensor + 0.1 * torch.rand_like(tensor)
        for name, tensor in model.state_dict().items()
    }
    theirs.load_state_dict(moved)
    back = {name: moved[".".join(names.get(p, p) for p in name.split("."))] for name in model.state_dict()}
    model.load_state_dict(back)
    ids, mask = rows(3, 9)
    with torch.no_grad():
        wanted = theirs(input_ids=ids, attention_mask=mask, use_cache=False).logits
        assert torch.allclose(model(ids, mask), wanted, atol=1e-5)


@pytest.mark.parametrize("fields", [SHAPES["llama"], SHAPES["encoder"]], ids=["causal", "encoder"])
def test_padding_changes_nothing(fields: dict[str, object]) -> None:
    model = build(**fields)
    ids, mask = rows(2, 8)
    mask[1, 5:] = 0
    with torch.no_grad():
        padded, alone = model(ids, mask)[1, :5], model(ids[1:, :5], mask[1:, :5])[0]
    assert torch.allclose(padded, alone, atol=1e-6)


def test_only_an_encoder_sees_the_future() -> None:
    ids, mask = rows(1, 6)
    other = ids.clone()
    other[0, 5] = (ids[0, 5] + 1) % 11
    for causal in (True, False):
        model = build(causal=causal)
        with torch.no_grad():
            same = torch.equal(model(ids, mask)[0, :5], model(other, mask)[0, :5])
        assert same is causal


def test_classifier_reads_its_position() -> None:
    one, every = build(logits_at=2), build()
    one.load_state_dict(every.state_dict())
    ids, mask = rows(3, 5)
    with torch.no_grad():
        assert torch.equal(one(ids, mask), every(ids, mask)[:, 2])


def test_seed_alone_draws_the_weights() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = build(seed=1), build(seed=1), build(seed=2)
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.embed.weight, other.embed.weight)


def test_attention_scale_and_ties() -> None:
    ids, mask = rows(2, 6)
    plain, scaled = build(), build(attn_scale=2.0)
    with torch.no_grad():
        assert not torch.allclose(plain(ids, mask), scaled(ids, mask), atol=1e-3)
        for name, weight in plain.named_parameters():
            if "attn.q" in name:
                weight.mul_(4.0)  # d_head 4: the usual scale is 1/2
        assert torch.allclose(plain(ids, mask), scaled(ids, mask), atol=1e-6)
    tied = build(tied=True)
    assert tied.unembed.weight is tied.embed.weight


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"layer": 3}, "did you mean `layers`?"),
        ({"d_model": 30}, "not a multiple of heads"),
        ({"kv_heads": 3}, "not a multiple of kv_heads"),
        ({"norm": "batch"}, "norm"),
        ({"pos": "rotary", "d_head": 3}, "is odd"),
        ({"gated": True}, "needs d_mlp"),
        ({"logits_at": 99}, "not a position below ctx"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"ctx": 1}, "ctx must be at least 2"),
        ({"heads": "four"}, "heads"),
        ({"d_head": -2}, "d_head must be at least 1"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(MiError) as caught:
        tiny_config(fields)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "MI0509"
    assert says in f"{diagnostic.message} {diagnostic.help}"


def test_zeros_stand_for_usual_values() -> None:
    config = TinyConfig(d_model=32, heads=8, kv_heads=0, d_head=0, attn_scale=0.0, logits_at=-1)
    assert (config.kv_heads, config.d_head, config.attn_scale, config.logits_at) == (8, 4, 0.5, None)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"layers": "2"}, "layers: '2' is not of type int"),
        ({"layers": True}, "layers: True is not of type int"),
        ({"bias": 1}, "bias: 1 is not of type bool"),
        ({"eps": "small"}, "eps: 'small' is not of type float"),
        ({"norm": "batch"}, "norm: 'batch' is none of 'layer', 'rms', 'none'"),
        ({"logits_at": 1.5}, "logits_at: 1.5 is not of type int or none"),
        ({"layers": 0}, "layers must be at least 1, not 0"),
    ],
)
def test_a_field_that_does_not_fit_is_refused(given: dict[str, object], reason: str) -> None:
    with pytest.raises(MiError) as refused:
        tiny_config(given)
    assert refused.value.diagnostics[0].message == f"this model: {reason}"


def test_whole_numbers_are_numbers() -> None:
    whole, real = tiny_config({"rope_base": 500}), tiny_config({"rope_base": 500.0})
    assert whole == real
    assert repr(whole) == repr(real)
