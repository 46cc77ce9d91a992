"""Every site is what its definition says, by identities and against module hooks; every write acts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from midsl.graph.sites import ModelGraph, SiteConflict, specialise
from tests.graph.families import ALL, ALL_LIFTED, TINY, Site, graph, model, rows, run

TOLERANCE = 2e-5


def close(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> bool:
    return bool((a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max())))


def real(x: Tensor) -> Tensor:
    """The rows of real tokens of the standard input."""
    return x[rows()[1].bool()]


def every_site(mg: ModelGraph, readable: bool = True, writable: bool = False) -> list[Site]:
    out: list[Site] = []
    for row in mg.info.sites:
        if row.readable >= readable and row.writable >= writable:
            out += [(row.name, i) for i in (range(mg.info.sizes["layer"]) if row.per_block else (None,))]
    return out


def has(mg: ModelGraph, name: str) -> bool:
    row = mg.info.site(name)
    assert row is not None
    return row.readable


# ---------------------------------------------------------------- identities


@pytest.mark.parametrize("name", ALL)
def test_identities_of_the_definitions(name: str) -> None:
    mg = graph(name)
    value = run(mg, rows(), every_site(mg))
    for i in range(mg.info.sizes["layer"]):
        at = {n: v for (n, layer), v in value.items() if layer == i}
        if "resid_mid" in at:
            assert torch.equal(at["resid_mid"], at["resid_pre"] + at["attn_out"])
            assert torch.equal(at["resid_post"], at["resid_mid"] + at["mlp_out"])
        else:
            branches = at["attn_out"] + at.get("mlp_out", 0)
            assert close(at["resid_post"], at["resid_pre"] + branches)
        bias = mg.weight("attn.b_O", i) if any(w.name == "attn.b_O" for w in mg.info.weights) else 0
        assert close(at["attn.result"].sum(2) + bias, at["attn.out"])
        v = at["attn.v"].repeat_interleave(mg.info.sizes["head"] // at["attn.v"].shape[2], 2)
        assert close(real(torch.einsum("bhqk,bkhd->bqhd", at["attn.pattern"], v)), real(at["attn.z"]))
        assert close(at["attn.pattern"].sum(-1), torch.ones(()))
        assert close(at["attn.scores"].softmax(-1), at["attn.pattern"])
        assert torch.equal(at["attn_in"], at["resid_pre"])
        for short in ("q_input", "k_input", "v_input"):
            wide = at[f"attn.{short}"]
            assert torch.equal(wide, at["resid_pre"][:, :, None].expand_as(wide))
        for ln, into in (("ln1", "attn_in"), ("ln2", "mlp_in")):
            if f"{ln}.scale" in at:
                x, scale = at[into], at[f"{ln}.scale"][..., None]
                centred = x - x.mean(-1, keepdim=True)
                assert close(scale * at[f"{ln}.normalized"], x) or close(
                    scale * at[f"{ln}.normalized"], centred
                )
    if has(mg, "pos_embed"):
        assert torch.equal(value["resid_pre", 0], value["embed", None] + value["pos_embed", None])
    else:
        assert torch.equal(value["resid_pre", 0], value["embed", None])


@pytest.mark.parametrize("name", ALL)
def test_weights_explain_the_activations(name: str) -> None:
    mg = graph(name)
    names = {w.name: w for w in mg.info.weights}
    ids, mask = rows()
    value = run(mg, (ids, mask), every_site(mg))
    assert torch.equal(mg.weight("W_E")[ids], value["embed", None])
    if "W_pos" in names:
        assert torch.equal(
            mg.weight("W_pos")[: ids.shape[1]].expand(3, -1, -1)[0], value["pos_embed", None][0]
        )
    for row in mg.info.weights:
        shape = tuple(mg.info.sizes[a] for a in row.axes if a != "pos")
        own = mg.weight(row.name, 0 if row.per_block else None).shape
        assert tuple(own)[len(own) - len(shape) :] == shape, row.name
    for i in range(mg.info.sizes["layer"]):

        def bias(name: str, layer: int = i) -> Tensor | int:
            return mg.weight(name, layer) if name in names else 0

        z = value["attn.z", i]
        result = torch.einsum("bphd,hdm->bphm", z, mg.weight("attn.W_O", i))
        assert close(result, value["attn.result", i])
        if "mlp.W_out" in names:
            out = value["mlp.post", i] @ mg.weight("mlp.W_out", i) + bias("mlp.b_out")
            if name not in ("gemma2", "gemma3"):  # a post-norm stands after it
                assert close(out, value["mlp_out", i])
        if ("ln1.normalized", i) in value and "attn.W_V" in names:
            read = value["ln1.normalized", i] * mg.weight("ln1.w", i) + mg.weight("ln1.b", i)
            v = torch.einsum("bpm,hmd->bphd", read, mg.weight("attn.W_V", i)) + mg.weight("attn.b_V", i)
            assert close(v, value["attn.v", i]), "what a norm multiplies by and adds"
        if ("ln2.normalized", i) in value and "mlp.W_in" in names:
            read = value["ln2.normalized", i] * mg.weight("ln2.w", i) + mg.weight("ln2.b", i)
            site = "mlp.pre_linear" if ("mlp.pre_linear", i) in value else "mlp.pre"
            assert close(read @ mg.weight("mlp.W_in", i) + mg.weight("mlp.b_in", i), value[site, i])
    assert mg.unembed is not None
    if has(mg, "ln_final.normalized") and not mg.unembed.post:
        read = value["ln_final.normalized", None] * mg.weight("ln_final.w") + mg.weight("ln_final.b")
        assert close(read @ mg.weight("W_U") + mg.weight("b_U"), value["logits", None])


@pytest.mark.parametrize("name", ALL)
def test_logits_from_rows_of_the_unembedding(name: str) -> None:
    mg = graph(name)
    assert mg.unembed is not None
    value = mg.gm(*rows())
    u, chosen = mg.unembed, torch.tensor([3, 17, 40])
    weight: Any = mg.gm.get_parameter(u.weight)
    weight = weight.t() if u.in_first else weight
    got: list[Tensor] = []
    by_name = {n.name: n for n in mg.gm.graph.nodes}
    from midsl.graph.walk import evaluate

    ids, mask = rows()
    given = {mg.parts.frame.ids: ids, mg.parts.frame.mask: mask}
    x = evaluate(mg.gm, by_name[u.input.node], given)
    part = x @ weight[chosen].t()
    if u.bias is not None:
        part = part + mg.gm.get_parameter(u.bias)[chosen]
    env = {by_name[u.node]: part}
    for node in u.post:
        env[by_name[node]] = evaluate(mg.gm, by_name[node], given | env)
    got.append(env[by_name[u.post[-1]]] if u.post else part)
    assert close(got[0], value[..., chosen])


# ---------------------------------------------------------------- expansions and writes


@pytest.mark.parametrize("name", ALL_LIFTED)
def test_touching_every_site_leaves_the_logits_in_float64(name: str) -> None:
    mg = graph(name, lift=True)
    base = real(run(mg, rows())["logits", None])
    assert close(real(run(mg, rows(), every_site(mg))["logits", None]), base, 1e-12)


@pytest.mark.parametrize("name", ALL)
def test_writing_a_value_back_changes_nothing_and_zero_changes_something(name: str) -> None:
    mg = graph(name)
    base = real(run(mg, rows())["logits", None])
    for site in every_site(mg, writable=True):
        if site[1] == 1 and site[0] not in ("attn.k_input", "attn.z", "resid_mid"):
            continue  # the layers are alike: most sites in one of them will do
        same = run(mg, rows(), [site], {site: lambda x: x.clone()})
        assert close(real(same["logits", None]), base), site
        zero = run(mg, rows(), [site], {site: torch.zeros_like})
        assert not zero[site].any(), site
        # the causal models' last layer keys of pads are not seen, all others are
        assert not close(real(zero["logits", None]), base, 1e-3), site


@pytest.mark.parametrize("name", ALL)
def test_the_rows_without_a_site_say_why(name: str) -> None:
    mg = graph(name)
    for row in mg.info.sites:
        if row.readable and row.writable:
            assert row.why == ""
        else:
            assert len(row.why.split()) > 3, row
            with pytest.raises(SiteConflict):
                site = (row.name, 0 if row.per_block else None)
                specialise(mg, [site], [site])


def test_capabilities_that_families_differ_in() -> None:
    def why(name: str, site: str) -> str:
        row = graph(name).info.site(site)
        assert row is not None
        return row.why

    assert "parallel" in why("neox", "resid_mid")
    assert "not gated" in why("gpt2", "mlp.pre_linear")
    assert "rotary" in why("gpt2", "attn.rot_q")
    assert "no MLP" in why("tiny_attn_only", "mlp_out")
    assert "norm" in why("tiny_bare", "ln1.scale")
    assert "position embedding" in why("llama", "pos_embed")
    llama = graph("llama").info
    keys, module = llama.site("attn.k"), llama.site("mlp.post")
    assert keys is not None and keys.axes == ("batch", "pos", "kv_head", "d_head")
    assert module is not None and module.module == "model.model.layers.{layer}.mlp"
    assert llama.sizes == {
        "layer": 2, "d_model": 32, "vocab": 64, "head": 4, "kv_head": 2, "d_head": 8, "d_mlp": 48,
    }  # fmt: skip
    assert graph("gpt2").info.causal and not graph("tiny_encoder").info.causal


@pytest.mark.slow
def test_experts_have_no_hidden_layer() -> None:
    row = graph("mixtral").info.site("mlp.post")
    assert row is not None and "experts" in row.why


# ---------------------------------------------------------------- against module hooks

Where = tuple[str, str]
MODULES: dict[str, dict[str, Where]] = {
    "gpt2": {
        "resid_post": ("model.transformer.h.{}", "out"),
        "attn.out": ("model.transformer.h.{}.attn.c_proj", "out"),
        "attn.z": ("model.transformer.h.{}.attn.c_proj", "in"),
        "mlp.pre": ("model.transformer.h.{}.mlp.c_fc", "out"),
        "mlp.post": ("model.transformer.h.{}.mlp.c_proj", "in"),
        "mlp_out": ("model.transformer.h.{}.mlp", "out"),
        "attn_in": ("model.transformer.h.{}.ln_1", "in"),
        "mlp_in": ("model.transformer.h.{}.ln_2", "in"),
    },
    "llama": {
        "resid_post": ("model.model.layers.{}", "out"),
        "attn.q": ("model.model.layers.{}.self_attn.q_proj", "out"),
        "attn.k": ("model.model.layers.{}.self_attn.k_proj", "out"),
        "attn.v": ("model.model.layers.{}.self_attn.v_proj", "out"),
        "attn.z": ("model.model.layers.{}.self_attn.o_proj", "in"),
        "attn.out": ("model.model.layers.{}.self_attn.o_proj", "out"),
        "mlp.pre": ("model.model.layers.{}.mlp.gate_proj", "out"),
        "mlp.pre_linear": ("model.model.layers.{}.mlp.up_proj", "out"),
        "mlp.post": ("model.model.layers.{}.mlp.down_proj", "in"),
        "attn_in": ("model.model.layers.{}.input_layernorm", "in"),
        "mlp_in": ("model.model.layers.{}.post_attention_layernorm", "in"),
    },
    "neox": {
        "resid_post": ("model.gpt_neox.layers.{}", "out"),
        "attn.z": ("model.gpt_neox.layers.{}.attention.dense", "in"),
        "mlp.post": ("model.gpt_neox.layers.{}.mlp.dense_4h_to_h", "in"),
        "attn_in": ("model.gpt_neox.layers.{}.input_layernorm", "in"),
        "mlp_in": ("model.gpt_neox.layers.{}.post_attention_layernorm", "in"),
    },
    "gemma2": {
        "attn.out": ("model.model.layers.{}.self_attn.o_proj", "out"),
        "attn_out": ("model.model.layers.{}.post_attention_layernorm", "out"),
        "mlp_out": ("model.model.layers.{}.post_feedforward_layernorm", "out"),
        "attn.q": ("model.model.layers.{}.self_attn.q_proj", "out"),
        "mlp.post": ("model.model.layers.{}.mlp.down_proj", "in"),
    },
    "tiny_gated": {
        "attn.q": ("blocks.{}.attn.q", "out"),
        "attn.k": ("blocks.{}.attn.k", "out"),
        "attn.rot_q": ("blocks.{}.attn.rotary", "out"),
        "attn.z": ("blocks.{}.attn.o", "in"),
        "mlp.pre": ("blocks.{}.mlp.gate", "out"),
        "attn_in": ("blocks.{}.ln1", "in"),
    },
    "qwen3": {
        "attn.q": ("model.model.layers.{}.self_attn.q_proj", "out"),
        "attn.k": ("model.model.layers.{}.self_attn.k_proj", "out"),
    },
    "phi3": {"mlp.post": ("model.model.layers.{}.mlp.down_proj", "in")},
    "opt": {
        "attn.q": ("model.model.decoder.layers.{}.self_attn.q_proj", "out"),
        "attn.z": ("model.model.decoder.layers.{}.self_attn.out_proj", "in"),
        "mlp.pre": ("model.model.decoder.layers.{}.fc1", "out"),
        "mlp_out": ("model.model.decoder.layers.{}.fc2", "out"),
        "attn_in": ("model.model.decoder.layers.{}.self_attn_layer_norm", "in"),
        "mlp_in": ("model.model.decoder.layers.{}.final_layer_norm", "in"),
    },
    "mixtral": {"mlp_out": ("model.model.layers.{}.mlp", "out")},
}


@contextmanager
def hooked(module: nn.Module, side: str, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Apply a function to the first input or output of a module."""

    def before(_m: nn.Module, args: Any, kwargs: Any) -> Any:
        return ((edit(args[0]), *args[1:]), kwargs) if args else (args, kwargs)

    def after(_m: nn.Module, _args: Any, out: Any) -> Any:
        return (edit(out[0]), *out[1:]) if isinstance(out, tuple) else edit(out)

    if side == "in":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


HOOKED = [
    pytest.param(
        n, s, marks=[] if n in TINY or n in ("gpt2", "llama", "neox", "gemma2") else pytest.mark.slow
    )
    for n, sites in MODULES.items()
    for s in sites
]


@pytest.mark.parametrize(("name", "site"), HOOKED)
def test_reading_and_writing_is_what_a_module_hook_does(name: str, site: str) -> None:
    mg, net = graph(name), model(name).forward
    path, side = MODULES[name][site]
    inputs = rows()
    row = mg.info.site(site)
    assert row is not None
    for layer in range(2):
        module = net.get_submodule(path.format(layer))
        seen: list[Tensor] = []
        with hooked(module, side, _recorder(seen)), torch.no_grad():
            net(*inputs)
        ours = run(mg, inputs, [(site, layer)])[site, layer]
        heads_first = site == "attn.rot_q"
        theirs = seen[0].transpose(1, 2) if heads_first else seen[0]
        assert torch.equal(ours, theirs.reshape(ours.shape)), site
        with hooked(module, side, _first_call(_stretch, heads_first)), torch.no_grad():
            expected = net(*inputs)
        got = run(mg, inputs, [], {(site, layer): _stretch})["logits", None]
        assert close(real(got), real(expected)), site
        assert not close(real(got), real(run(mg, inputs)["logits", None]), 1e-4)


def _recorder(seen: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def record(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    return record


def _stretch(x: Tensor) -> Tensor:
    """Scale each coordinate of [batch, pos, ...] by its own factor, whatever the last axes' grouping."""
    flat = x.reshape(3, 7, -1)
    return (flat * torch.linspace(-1, 2, flat.shape[-1])).reshape(x.shape)


def _first_call(edit: Callable[[Tensor], Tensor], heads_first: bool) -> Callable[[Tensor], Tensor]:
    """Edit only the first call (one rotary module serves queries, then keys)."""
    calls: list[int] = []

    def once(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 1:
            return x
        return edit(x.transpose(1, 2)).transpose(1, 2) if heads_first else edit(x)

    return once


# ---------------------------------------------------------------- what is particular


def test_one_head_of_z_is_one_stretch_of_the_projections_input() -> None:
    mg, net = graph("llama"), model("llama").forward

    def zero_head(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :, 2] = 0
        return x

    def zero_stretch(x: Tensor) -> Tensor:
        x = x.clone()
        x[..., 16:24] = 0
        return x

    with (
        hooked(net.get_submodule("model.model.layers.0.self_attn.o_proj"), "in", zero_stretch),
        torch.no_grad(),
    ):
        expected = net(*rows())
    got = run(mg, rows(), [], {("attn.z", 0): zero_head})["logits", None]
    assert torch.equal(got, expected)
    # the same head, removed from the sum of results
    assert close(run(mg, rows(), [], {("attn.result", 0): zero_head})["logits", None], expected)


NORM = {"gpt2": "model.transformer.h.1.ln_1", "neox": "model.gpt_neox.layers.1.input_layernorm",
        "llama": "model.model.layers.1.input_layernorm", "gemma2": "model.model.layers.1.input_layernorm",
        "tiny_gated": "blocks.1.ln1", "tiny_bare": "", "phi3": "model.model.layers.1.input_layernorm",
        "qwen3": "model.model.layers.1.input_layernorm"}  # fmt: skip
SLOW = ("phi3", "qwen3")
BY_HAND = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NORM]


@pytest.mark.parametrize("short", ["q", "k", "v"])
@pytest.mark.parametrize("name", BY_HAND)
def test_an_input_write_is_that_heads_own_norm_and_projection(name: str, short: str) -> None:
    """Writing X into every head of a group equals writing norm(X) @ W + b into q, k or v."""
    mg, net = graph(name), model(name).forward
    head_input, projected = (f"attn.{short}_input", 1), (f"attn.{short}", 1)
    own = run(mg, rows(), [head_input, projected])
    x = torch.randn_like(own[head_input][:, :, 0])
    norm = net.get_submodule(NORM[name]) if NORM[name] else nn.Identity()
    weight = mg.weight(f"attn.W_{short.upper()}", 1)
    names = {w.name for w in mg.info.weights}
    bias = mg.weight(f"attn.b_{short.upper()}", 1) if f"attn.b_{short.upper()}" in names else 0
    group = mg.info.sizes["head"] // weight.shape[0]
    value = torch.einsum("bpm,hmd->bphd", norm(x), weight) + bias

    def heads(v: Tensor) -> Tensor:
        v = v.clone()
        v[:, :, group : 2 * group] = x[:, :, None]
        return v

    def by_hand(v: Tensor) -> Tensor:
        v = v.clone()
        v[:, :, 1] = value[:, :, 1]
        return v

    got = run(mg, rows(), [("attn.pattern", 1)], {head_input: heads})
    expected = run(mg, rows(), [("attn.pattern", 1)], {projected: by_hand})
    assert close(real(got["logits", None]), real(expected["logits", None]))
    assert not close(real(got["logits", None]), real(run(mg, rows())["logits", None]), 1e-3)


@pytest.mark.parametrize("name", ["llama", "gemma2", "tiny_gated"])
def test_a_key_input_of_one_query_head_moves_only_that_heads_pattern(name: str) -> None:
    mg = graph(name)
    site, pattern = ("attn.k_input", 0), ("attn.pattern", 0)
    base = run(mg, rows(), [pattern])[pattern]

    def third_head(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :, 2] = -x[:, :, 2].flip(-1)
        return x

    moved = run(mg, rows(), [pattern], {site: third_head})[pattern]
    changes = (moved - base).abs().amax(dim=(0, 2, 3))
    assert changes[2] > 1e-3
    assert changes[[0, 1, 3]].max() < 1e-6


@pytest.mark.parametrize("name", ["gpt2", "llama", "tiny_attn_only", "tiny_gated"])
def test_doubling_a_scale_halves_what_is_normalised(name: str) -> None:
    mg = graph(name)
    doubled = run(mg, rows(), [("ln1.normalized", 0)], {("ln1.scale", 0): lambda x: 2 * x})
    halved = run(mg, rows(), [("ln1.normalized", 0)], {("ln1.normalized", 0): lambda x: x / 2})
    assert close(doubled["ln1.normalized", 0], halved["ln1.normalized", 0])
    assert close(real(doubled["logits", None]), real(halved["logits", None]))


def test_a_pattern_write_acts_through_the_values() -> None:
    mg = graph("llama")
    uniform = torch.ones(7, 7).tril() / torch.arange(1, 8)[:, None]
    out = run(
        mg, rows(), [("attn.z", 0), ("attn.v", 0)], {("attn.pattern", 0): lambda x: uniform.expand_as(x)}
    )
    v = out["attn.v", 0].repeat_interleave(2, 2)
    assert close(out["attn.z", 0], torch.einsum("qk,bkhd->bqhd", uniform, v))


def test_reads_see_edits_upstream_and_at_the_site() -> None:
    mg = graph("gpt2")
    out = run(
        mg,
        rows(),
        [("resid_post", 0), ("resid_pre", 1), ("resid_mid", 0), ("attn_in", 1)],
        {("resid_post", 0): lambda x: x * 0 + 3, ("attn_out", 0): lambda x: x * 0},
    )
    assert (out["resid_pre", 1] == 3).all() and (out["resid_post", 0] == 3).all()
    assert (out["attn_in", 1] == 3).all()
    base = run(mg, rows(), [("resid_pre", 0)])["resid_pre", 0]
    assert torch.equal(out["resid_mid", 0], base)


def test_two_names_of_one_node_are_one_address() -> None:
    info = graph("gpt2").info
    assert info.address("resid_pre", 1) == info.address("resid_post", 0)
    assert info.address("attn.out", 0) == info.address("attn_out", 0)
    assert info.address("resid_pre", 0) != info.address("embed", None)
    assert graph("llama").info.address("resid_pre", 0) == ("embed", None)
    gemma = graph("gemma2").info
    assert gemma.address("attn.out", 0) != gemma.address("attn_out", 0)


def test_no_dimension_is_flattened_after_specialise() -> None:
    mg = graph("tiny_gated")
    _, places = specialise(mg, every_site(mg), [])
    assert all(isinstance(d, str) for p in places.values() for d in p.layout)


def test_what_is_touched_again_is_a_copy_of_what_was_made() -> None:
    mg = graph("tiny_gated")
    sites: list[Site] = [("attn.pattern", 0), ("attn.q_input", 1)]
    one, places = specialise(mg, sites, [("attn.q_input", 1)])
    made = [n.format_node() for n in one.nodes]
    one.erase_node(next(n for n in reversed(one.nodes) if n.op == "output"))
    known = len(mg.expanded)
    two, again = specialise(mg, reversed(sites), [("attn.q_input", 1)])
    assert [n.format_node() for n in two.nodes] == made and again == places
    assert len(mg.expanded) == known
    read, _ = specialise(mg, sites, [])
    assert [n.format_node() for n in read.nodes] != made, "what is only read hangs at the side"


@pytest.mark.slow
def test_flattened_sites_are_taken_apart_and_written_back() -> None:
    mg = graph("opt")
    assert mg.sites["attn.q", 0].layout == ("batch", "pos", ("head", "d_head"))
    assert mg.sites["mlp.post", 0].layout == (("batch", "pos"), "d_mlp")
    _, places = specialise(mg, [("attn.q", 0), ("mlp.post", 0)], [("mlp.post", 0)])
    assert places["attn.q", 0].layout == ("batch", "pos", "head", "d_head")
    assert places["mlp.post", 0].layout == ("batch", "pos", "d_mlp")


def test_refuses_what_cannot_be_touched_together() -> None:
    mg = graph("llama")
    with pytest.raises(SiteConflict, match="per query head"):
        specialise(mg, [("attn.k", 0)], [("attn.k_input", 0)])
    with pytest.raises(SiteConflict, match="norm of its own"):
        specialise(mg, [], [("attn.q_input", 0), ("ln1.scale", 0)])
    with pytest.raises(SiteConflict, match="2 blocks"):
        specialise(mg, [("attn.z", 2)], [])
    with pytest.raises(SiteConflict, match="not in the table"):
        specialise(mg, [("attn.zz", 0)], [])
    with pytest.raises(SiteConflict, match="not in the table"):
        specialise(mg, [("attn.z", None)], [])


def test_the_base_graph_stays_as_it_was() -> None:
    mg = graph("gpt2")
    before = str(mg.gm.graph)
    sites = every_site(mg, writable=True)
    specialise(mg, sites[:5], sites[:5])
    assert str(mg.gm.graph) == before


def test_new_nodes_know_their_block_and_shape() -> None:
    mg = graph("gpt2")
    table, places = specialise(mg, [("attn.pattern", 1)], [])
    node = next(n for n in table.nodes if n.name == places["attn.pattern", 1].node)
    assert node.meta["block"] == 1
    assert len(node.meta["val"].shape) == 4


@pytest.mark.parametrize("site", [("attn.z", 0), ("attn.q", 0), ("resid_pre", 1), ("attn.pattern", 1)])
def test_gradients_at_sites_are_finite_differences(site: Site) -> None:
    mg = graph("llama", lift=True)
    value = run(mg, rows(), [site])[site]
    leaf = value.clone().requires_grad_()
    target = torch.randn(64, dtype=torch.float64)

    def loss(x: Tensor, grad: bool) -> Tensor:
        with torch.set_grad_enabled(grad):
            return run(mg, rows(), [], {site: lambda _: x}, grad)["logits", None][0, -1] @ target

    (gradient,) = torch.autograd.grad(loss(leaf, True), leaf)
    direction = torch.randn_like(value)
    step = 1e-5
    slope = (loss(value + step * direction, False) - loss(value - step * direction, False)) / (2 * step)
    assert torch.isclose((gradient * direction).sum(), slope, rtol=1e-6)
