"""Plain state dicts: each naming convention gives the same model back, and what does not fit is refused."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from midsl.diagnostics.model import MiError
from midsl.models.config import tiny_config
from midsl.models.facts import describe
from midsl.models.state_dict import state_dict
from midsl.models.tiny import TinyTransformer

REF = "midsl.models.state_dict:state_dict"
IDS = torch.randint(7, (3, 6), generator=torch.Generator().manual_seed(0))


def model(**fields: object) -> TinyTransformer:
    base: dict[str, object] = {"layers": 2, "heads": 2, "d_model": 8, "d_mlp": 12, "vocab": 7, "ctx": 6}
    made = TinyTransformer(tiny_config(base | fields)).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.rand(weight.shape))
    return made


def mingpt(made: TinyTransformer) -> dict[str, Tensor]:
    """Rename as minGPT does, q, k and v one above the other, with the mask that it saves."""
    state = made.state_dict()
    out: dict[str, Tensor] = {}
    names = {
        "embed": "transformer.wte", "pos_embed": "transformer.wpe", "ln_final": "transformer.ln_f",
        "unembed": "lm_head", "ln1": "ln_1", "ln2": "ln_2", "attn.o": "attn.c_proj", "mlp.up": "mlp.c_fc",
        "mlp.down": "mlp.c_proj",
    }  # fmt: skip
    for name, tensor in state.items():
        part, kind = name.rsplit(".", 1)
        if part.startswith("blocks."):
            _, layer, rest = part.split(".", 2)
            part = f"transformer.h.{layer}.{names.get(rest, rest)}"
        else:
            part = names[part]
        if part[-2:] not in (".q", ".k", ".v"):
            out[f"{part}.{kind}"] = tensor
    for i in range(made.config.layers):
        for kind in ("weight", "bias") if made.config.bias else ("weight",):
            fused = [state[f"blocks.{i}.attn.{x}.{kind}"] for x in "qkv"]
            out[f"transformer.h.{i}.attn.c_attn.{kind}"] = torch.cat(fused)
        out[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, 6, 6)
    return out


def lens(made: TinyTransformer) -> dict[str, Tensor]:
    """Rename as TransformerLens does: per head, multiplied from the right, grouped keys under `_W_K`."""
    state, config, out = made.state_dict(), made.config, {}
    names = {
        "embed.weight": "embed.W_E", "pos_embed.weight": "pos_embed.W_pos", "unembed.weight": "unembed.W_U",
        "unembed.bias": "unembed.b_U", "attn.o.weight": "attn.W_O", "attn.o.bias": "attn.b_O",
        "mlp.up.weight": "mlp.W_in", "mlp.up.bias": "mlp.b_in", "mlp.gate.weight": "mlp.W_gate",
        "mlp.down.weight": "mlp.W_out", "mlp.down.bias": "mlp.b_out",
    }  # fmt: skip
    for name, tensor in state.items():
        block, rest = "", name
        if name.startswith("blocks."):
            block, rest = ".".join(name.split(".")[:2]) + ".", ".".join(name.split(".")[2:])
        if rest.startswith(("ln1", "ln2", "ln_final")):
            out[f"{block}{rest.split('.')[0]}.{rest.split('.')[1][0]}"] = tensor
        elif rest in names:
            looked_up = rest in ("embed.weight", "pos_embed.weight")
            flipped = tensor if looked_up or rest.endswith("bias") else tensor.T
            if rest == "attn.o.weight":
                flipped = flipped.reshape(config.heads, config.d_head, config.d_model)
            out[block + names[rest]] = flipped
        elif rest.startswith("attn."):
            _, letter, kind = rest.split(".")
            heads = config.heads if letter == "q" else config.kv_heads
            grouped = "_" if letter != "q" and config.kv_heads != config.heads else ""
            split = tensor.reshape(heads, config.d_head, -1)
            value = split.permute(0, 2, 1) if kind == "weight" else split[..., 0]
            out[f"{block}attn.{grouped}{'W' if kind == 'weight' else 'b'}_{letter.upper()}"] = value
    for layer in range(config.layers):
        out[f"blocks.{layer}.attn.mask"] = torch.ones(6, 6).bool()
        out[f"blocks.{layer}.attn.IGNORE"] = torch.tensor(-1e5)
    return {name: tensor.contiguous() for name, tensor in out.items()}


def as_json(tensors: dict[str, Tensor], **extra: object) -> str:
    entries: dict[str, object] = {
        name: {
            "shape": list(t.shape),
            "dtype": str(t.dtype),
            "data": base64.b64encode(t.contiguous().numpy().tobytes()).decode(),
        }
        for name, t in tensors.items()
    }
    return json.dumps(entries | extra)


def logits(made: TinyTransformer) -> Tensor:
    with torch.no_grad():
        out: Tensor = made(IDS, torch.ones_like(IDS))
    return out


def same(path: Path, made: TinyTransformer, **args: Any) -> None:
    """The file gives that model; where its shapes can be read without torch, so do its facts."""
    loaded = state_dict(str(path), **args)
    assert torch.equal(loaded.forward(IDS, torch.ones_like(IDS)), logits(made))
    facts = describe(REF, {"path": str(path), **args})
    if path.suffix == ".pt":
        assert facts is None
    else:
        assert facts is not None
        assert (facts.key, facts.sizes) == (loaded.key, loaded.sizes)


def test_mingpt_in_every_format(tmp_path: Path) -> None:
    made = model()
    tensors = mingpt(made)
    save_file(tensors, tmp_path / "m.safetensors")
    torch.save(tensors, tmp_path / "m.pt")
    torch.save({"model": tensors, "step": 3}, tmp_path / "nested.pt")
    (tmp_path / "m.json").write_text(as_json(tensors, config={"n_head": 2}))
    same(tmp_path / "m.safetensors", made, names="minGPT", arch={"heads": 2})
    same(tmp_path / "m.pt", made, names="minGPT", arch={"heads": 2})
    same(tmp_path / "nested.pt", made, names="minGPT", arch={"heads": 2}, inside="model")
    same(tmp_path / "m.json", made, names="minGPT")


def test_nanogpt_has_the_exact_gelu_and_may_drop_biases(tmp_path: Path) -> None:
    made = model(act="gelu", bias=False, tied=True)
    tensors = {name: t for name, t in mingpt(made).items() if name != "lm_head.weight"}
    save_file(tensors, tmp_path / "m.safetensors")
    same(tmp_path / "m.safetensors", made, names="nanoGPT", arch={"heads": 2})


@pytest.mark.parametrize(
    ("fields", "arch"),
    [
        ({"act": "relu"}, {"act": "relu"}),
        ({"norm": "none", "act": "relu", "logits_at": 2}, {"act": "relu", "norm": "none", "logits_at": 2}),
        ({"causal": False, "attn_scale": 1.0}, {"act": "gelu_tanh", "causal": False, "attn_scale": 1.0}),
        (
            {"heads": 4, "kv_heads": 2, "norm": "rms", "pos": "rotary", "gated": True, "bias": False}
            | {"act": "silu"},
            {"pos": "rotary", "act": "silu", "ctx": 6},
        ),
        ({"d_mlp": 0, "unembed_bias": True}, {}),
    ],
    ids=["plain", "no norm, classifier", "encoder", "llama", "attention only"],
)
def test_transformer_lens(fields: dict[str, Any], arch: dict[str, Any], tmp_path: Path) -> None:
    made = model(**fields)
    save_file(lens(made), tmp_path / "m.safetensors")
    same(tmp_path / "m.safetensors", made, arch=arch)


def test_folded_norms_are_ones_and_zeros(tmp_path: Path) -> None:
    made = model(act="relu")
    for name, weight in made.named_parameters():
        if ".ln" in name or "ln_" in name:
            torch.nn.init.constant_(weight, float(name.endswith("weight")))
    tensors = {name: t for name, t in lens(made).items() if not name.endswith((".w", ".b"))}
    save_file(tensors, tmp_path / "m.safetensors")
    same(tmp_path / "m.safetensors", made, arch={"act": "relu", "norm": "layer"})


def test_own_names(tmp_path: Path) -> None:
    made = model(heads=4, kv_heads=2, act="silu", gated=True)
    save_file(made.state_dict(), tmp_path / "m.safetensors")
    same(tmp_path / "m.safetensors", made, arch={"heads": 4, "kv_heads": 2, "act": "silu"})


def test_tokens(tmp_path: Path) -> None:
    save_file(mingpt(model()), tmp_path / "m.safetensors")
    args: dict[str, Any] = {"path": str(tmp_path / "m.safetensors"), "names": "minGPT", "arch": {"heads": 2}}
    letters = state_dict(**args, chars=".abcdef", bos=".").tokenizer
    assert letters is not None
    assert letters.encode("fab") == [0, 6, 1, 2]
    with pytest.raises(MiError, match=r"MI0509.*6 tokens and the model 7"):
        state_dict(**args, chars="abcdef")
    with pytest.raises(MiError, match=r"MI0509.*one tokenizer"):
        state_dict(**args, chars=".abcdef", words=["a"])


FUSED = "transformer.h.0.attn.c_attn.weight"
BAD: dict[str, tuple[str, dict[str, Any], dict[str, Tensor | None]]] = {
    "a tensor is missing": ("missing.*c_fc", {}, {"transformer.h.1.mlp.c_fc.bias": None}),
    "a tensor is left over": ("left over: value_head", {}, {"value_head": torch.ones(3)}),
    "a layer is left over": ("left over", {"arch": {"heads": 2, "layers": 1}}, {}),
    "a width that is not the file's": ("another shape|do not fit", {"arch": {"heads": 2, "d_model": 16}}, {}),
    "a fused matrix that is too tall": ("do not fit", {}, {FUSED: torch.ones(25, 8)}),
    "no convention": ("no known convention", {"names": "auto"}, {FUSED: None}),
}


@pytest.mark.parametrize(("says", "args", "changes"), BAD.values(), ids=BAD)
def test_tensors_that_do_not_match_are_refused(
    says: str, args: dict[str, Any], changes: dict[str, Tensor | None], tmp_path: Path
) -> None:
    changed = mingpt(model()) | changes
    tensors = {name: tensor for name, tensor in changed.items() if tensor is not None}
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(MiError, match=f"MI0510.*({says})"):
        state_dict(str(tmp_path / "m.safetensors"), **({"names": "minGPT", "arch": {"heads": 2}} | args))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"names": "minGPT"}, "do not tell `heads`"),
        ({"names": "auto", "arch": {"heads": 2}}, "differ in their GELU"),
        ({"names": "mingpt", "arch": {"heads": 2}}, "unknown naming convention `mingpt`"),
        ({"names": "minGPT", "arch": {"head": 2}}, "no configuration key `head`"),
    ],
)
def test_what_is_left_open_is_asked_for(args: dict[str, Any], says: str, tmp_path: Path) -> None:
    save_file(mingpt(model()), tmp_path / "m.safetensors")
    with pytest.raises(MiError, match=f"MI0509.*{says}"):
        state_dict(str(tmp_path / "m.safetensors"), **args)


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self.at,))


def test_files_that_would_run_code_do_not(tmp_path: Path) -> None:
    torch.save({"a": Bomb(tmp_path / "ran")}, tmp_path / "m.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    for name in ("m.pt", "raw.pt"):
        with pytest.raises(MiError, match="MI0508"):
            state_dict(str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m.json"])
def test_damaged_and_missing_files(name: str, tmp_path: Path) -> None:
    tensors = mingpt(model())
    save_file(tensors, tmp_path / "m.safetensors")
    torch.save(tensors, tmp_path / "m.pt")
    (tmp_path / "m.json").write_text(as_json(tensors))
    path = tmp_path / name
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MiError, match="MI0510"):
        state_dict(str(path), names="minGPT")
    path.unlink()
    with pytest.raises(MiError, match="MI0504"):
        state_dict(str(path), names="minGPT")


def test_a_checkpoint_with_more_than_tensors_names_the_key(tmp_path: Path) -> None:
    torch.save({"model": mingpt(model()), "step": 3}, tmp_path / "m.pt")
    with pytest.raises(MiError) as caught:
        state_dict(str(tmp_path / "m.pt"), names="minGPT")
    assert 'inside: "model"' in caught.value.diagnostics[0].help
    with pytest.raises(MiError, match=r"MI0510.*nothing under `weights`"):
        state_dict(str(tmp_path / "m.pt"), names="minGPT", inside="weights")
