"""Naming conventions of plain state dicts: from tensor names to a configuration, and to `TinyTransformer`.

A convention is two functions. `infer` reads from names and shapes what they say of the architecture;
`convert` renames, splits and transposes. A third tells masks and tables, which hold nothing learnt. To add
a convention, add one entry to `CONVENTIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from midsl.models.config import TinyConfig

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
Fields = dict[str, Any]


@dataclass
class Source:
    """The tensors of a file, and which of them were asked for: found, or missing."""

    tensors: Mapping[str, Tensor]
    used: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)

    def take(self, *names: str) -> Tensor | None:
        """Return the tensor under the first of these names that the file has."""
        for name in names:
            if name in self.tensors:
                self.used.add(name)
                return self.tensors[name]
        self.missing.append(names[0])
        return None


Weights = dict[str, "Tensor | None"]


@dataclass(frozen=True)
class Convention:
    """How one code base names the tensors of its transformer."""

    mark: str
    """A pattern that some tensor name matches if and only if the file follows the convention."""
    derived: str
    """A pattern of names whose tensors are masks or tables, not weights."""
    infer: Callable[[Shapes], Fields]
    convert: Callable[[Source, TinyConfig], Weights]


def _layers(shapes: Shapes, pattern: str) -> int:
    """Count blocks: one more than the highest index that the pattern captures."""
    return 1 + max((int(m[1]) for name in shapes if (m := re.match(pattern, name))), default=-1)


def _size(shapes: Shapes, name: str, axis: int) -> Fields:
    """Return the length of one axis of a tensor as a one-entry record, {} if it isn't there."""
    shape = shapes.get(name, ())
    return {"": shape[axis]} if axis < len(shape) else {}


def _fields(**sizes: Fields) -> Fields:
    return {name: value[""] for name, value in sizes.items() if value}


# minGPT, makemore, nanoGPT: fused projections, linear weights [out, in], tensors under `transformer.`


def _mingpt_infer(shapes: Shapes, act: str) -> Fields:
    block = "transformer.h.0."
    return {
        **_fields(
            vocab=_size(shapes, "transformer.wte.weight", 0),
            d_model=_size(shapes, "transformer.wte.weight", 1),
            ctx=_size(shapes, "transformer.wpe.weight", 0),
            d_mlp=_size(shapes, block + "mlp.c_fc.weight", 0),
        ),
        "layers": _layers(shapes, r"transformer\.h\.(\d+)\."),
        "pos": "learned",
        "norm": "layer" if block + "ln_1.weight" in shapes else "none",
        "final_norm": "transformer.ln_f.weight" in shapes,
        "act": act,
        "bias": block + "attn.c_attn.bias" in shapes,
        "unembed_bias": "lm_head.bias" in shapes,
        "tied": "lm_head.weight" not in shapes,
    }


def _mingpt_convert(source: Source, config: TinyConfig) -> Weights:
    import torch

    out: Weights = {
        "embed.weight": source.take("transformer.wte.weight"),
        "pos_embed.weight": source.take("transformer.wpe.weight"),
    }
    kinds = ("weight", "bias") if config.bias else ("weight",)
    q = config.heads * config.d_head
    kv = config.kv_heads * config.d_head
    for i in range(config.layers):
        theirs, ours = f"transformer.h.{i}.", f"blocks.{i}."
        for kind in kinds:
            fused = source.take(f"{theirs}attn.c_attn.{kind}")
            parts = (None, None, None) if fused is None else torch.split(fused, [q, kv, kv])
            for name, part in zip("qkv", parts, strict=True):
                out[f"{ours}attn.{name}.{kind}"] = part
            out[f"{ours}attn.o.{kind}"] = source.take(f"{theirs}attn.c_proj.{kind}")
            if config.norm != "none":
                out[f"{ours}ln1.{kind}"] = source.take(f"{theirs}ln_1.{kind}")
            if config.d_mlp:
                out[f"{ours}mlp.up.{kind}"] = source.take(f"{theirs}mlp.c_fc.{kind}")
                out[f"{ours}mlp.down.{kind}"] = source.take(f"{theirs}mlp.c_proj.{kind}")
                if config.norm != "none":
                    out[f"{ours}ln2.{kind}"] = source.take(f"{theirs}ln_2.{kind}")
    if config.norm != "none" and config.final_norm:
        out |= {f"ln_final.{kind}": source.take(f"transformer.ln_f.{kind}") for kind in kinds}
    out["unembed.weight"] = out["embed.weight"] if config.tied else source.take("lm_head.weight")
    if config.unembed_bias:
        out["unembed.bias"] = source.take("lm_head.bias")
    return out


# TransformerLens: one matrix per head, multiplied from the right ([in, out]); GQA keeps `_W_K`, `_W_V`


def _lens_infer(shapes: Shapes) -> Fields:
    block = "blocks.0."
    keys = "attn._W_K" if block + "attn._W_K" in shapes else "attn.W_K"
    fields: Fields = {
        **_fields(
            vocab=_size(shapes, "embed.W_E", 0),
            d_model=_size(shapes, "embed.W_E", 1),
            ctx=_size(shapes, "pos_embed.W_pos", 0),
            heads=_size(shapes, block + "attn.W_Q", 0),
            d_head=_size(shapes, block + "attn.W_Q", 2),
            kv_heads=_size(shapes, block + keys, 0),
            d_mlp=_size(shapes, block + "mlp.W_in", 1),
        ),
        "layers": _layers(shapes, r"blocks\.(\d+)\."),
        "gated": block + "mlp.W_gate" in shapes,
        "bias": block + "attn.b_Q" in shapes,
        "unembed_bias": "unembed.b_U" in shapes,
    }
    if "pos_embed.W_pos" in shapes:
        fields["pos"] = "learned"
    if block + "ln1.w" in shapes:
        fields["norm"] = "layer" if block + "ln1.b" in shapes else "rms"
        fields["final_norm"] = "ln_final.w" in shapes
    return fields


def _heads_out(weight: Tensor | None) -> Tensor | None:
    """``[head, d_model, d_head] -> [head * d_head, d_model]``; a bias ``[head, d_head]`` is flattened."""
    if weight is None or weight.ndim == 2:
        return weight if weight is None else weight.reshape(-1)
    return weight.permute(0, 2, 1).reshape(-1, weight.shape[1])


def _transposed(weight: Tensor | None) -> Tensor | None:
    return weight if weight is None else weight.T


def _lens_convert(source: Source, config: TinyConfig) -> Weights:
    import torch

    out: Weights = {"embed.weight": source.take("embed.W_E")}
    folded = not any(re.search(r"\bln(1|2|_final)\.w$", name) for name in source.tensors)

    def norm(theirs: str, ours: str) -> None:
        """Take a norm's weight and bias; where they were folded into the next matrix, they are 1 and 0."""
        out[f"{ours}.weight"] = torch.ones(config.d_model) if folded else source.take(f"{theirs}.w")
        if config.norm == "layer" and config.bias:
            out[f"{ours}.bias"] = torch.zeros(config.d_model) if folded else source.take(f"{theirs}.b")

    if config.pos == "learned":
        out["pos_embed.weight"] = source.take("pos_embed.W_pos")
    for i in range(config.layers):
        block = f"blocks.{i}."
        for name, letter in zip("qkv", "QKV", strict=True):
            at = f"{block}attn."
            out[f"{at}{name}.weight"] = _heads_out(source.take(f"{at}W_{letter}", f"{at}_W_{letter}"))
            if config.bias:
                out[f"{at}{name}.bias"] = _heads_out(source.take(f"{at}b_{letter}", f"{at}_b_{letter}"))
        merged = source.take(f"{block}attn.W_O")
        out[f"{block}attn.o.weight"] = None if merged is None else merged.reshape(-1, merged.shape[-1]).T
        if config.bias:
            out[f"{block}attn.o.bias"] = source.take(f"{block}attn.b_O")
        if config.norm != "none":
            norm(f"{block}ln1", f"{block}ln1")
        if config.d_mlp:
            out[f"{block}mlp.up.weight"] = _transposed(source.take(f"{block}mlp.W_in"))
            out[f"{block}mlp.down.weight"] = _transposed(source.take(f"{block}mlp.W_out"))
            if config.gated:
                out[f"{block}mlp.gate.weight"] = _transposed(source.take(f"{block}mlp.W_gate"))
            if config.bias:
                out[f"{block}mlp.up.bias"] = source.take(f"{block}mlp.b_in")
                out[f"{block}mlp.down.bias"] = source.take(f"{block}mlp.b_out")
                if config.gated:  # its gate has no bias of its own
                    out[f"{block}mlp.gate.bias"] = torch.zeros(config.d_mlp)
            if config.norm != "none":
                norm(f"{block}ln2", f"{block}ln2")
    if config.norm != "none" and config.final_norm:
        norm("ln_final", "ln_final")
    out["unembed.weight"] = _transposed(source.take("unembed.W_U"))
    if config.unembed_bias:
        out["unembed.bias"] = source.take("unembed.b_U")
    return out


# midsl: the state dict of a `TinyTransformer`


def _own_infer(shapes: Shapes) -> Fields:
    block = "blocks.0."
    fields: Fields = {
        **_fields(
            vocab=_size(shapes, "embed.weight", 0),
            d_model=_size(shapes, "embed.weight", 1),
            ctx=_size(shapes, "pos_embed.weight", 0),
            d_mlp=_size(shapes, block + "mlp.up.weight", 0),
        ),
        "layers": _layers(shapes, r"blocks\.(\d+)\."),
        "gated": block + "mlp.gate.weight" in shapes,
        "bias": block + "attn.q.bias" in shapes,
        "unembed_bias": "unembed.bias" in shapes,
        "final_norm": "ln_final.weight" in shapes,
        "tied": "unembed.weight" not in shapes,
    }
    if "pos_embed.weight" in shapes:
        fields["pos"] = "learned"
    if block + "ln1.weight" not in shapes:
        fields["norm"] = "none"
    elif block + "ln1.bias" in shapes:
        fields["norm"] = "layer"
    return fields


def _own_convert(source: Source, config: TinyConfig) -> Weights:
    from midsl.models.tiny import TinyTransformer

    names = list(TinyTransformer(config).state_dict())
    tied = {"unembed.weight"} if config.tied and "unembed.weight" not in source.tensors else set()
    out: Weights = {name: source.take(name) for name in names if name not in tied}
    return out | {name: out["embed.weight"] for name in tied}


CONVENTIONS: dict[str, Convention] = {
    "minGPT": Convention(
        r"transformer\.h\.0\.attn\.c_attn\.weight",
        r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",
        lambda shapes: _mingpt_infer(shapes, "gelu_tanh"),
        _mingpt_convert,
    ),
    "nanoGPT": Convention(
        r"transformer\.h\.0\.attn\.c_attn\.weight",
        r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",
        lambda shapes: _mingpt_infer(shapes, "gelu"),
        _mingpt_convert,
    ),
    "TransformerLens": Convention(
        r"blocks\.0\.attn\.W_Q",
        r"blocks\.\d+\.attn\.(mask|IGNORE|rotary_sin|rotary_cos)",
        _lens_infer,
        _lens_convert,
    ),
    "midsl": Convention(r"blocks\.0\.attn\.q\.weight", r"(?!)", _own_infer, _own_convert),
}


def recognise(shapes: Shapes) -> list[str]:
    """Return the conventions that tensor names follow; minGPT and nanoGPT cannot be told apart.

    >>> recognise({"blocks.0.attn.W_Q": (4, 8, 2)})
    ['TransformerLens']
    """
    return [n for n, c in CONVENTIONS.items() if any(re.fullmatch(c.mark, name) for name in shapes)]
