"""The site names of the field and their axes: what `check` goes by until a model has been seen.

Once an architecture was exported, its own capability table replaces this one (see
``midsl.graph.info``), so a name that stands here may still be refused for a given model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from midsl.graph.info import SiteRow

_STREAM = ("batch", "pos", "d_model")
_HEAD = ("batch", "pos", "head", "d_head")
_KV = ("batch", "pos", "kv_head", "d_head")
_MLP = ("batch", "pos", "d_mlp")
_ATTN = ("batch", "head", "pos", "key_pos")
_PER_HEAD = ("batch", "pos", "head", "d_model")

_BLOCK: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("resid_pre", "resid_mid", "resid_post", "attn_in", "attn_out", "mlp_in", "mlp_out"), _STREAM
    ),
    **dict.fromkeys(("ln1.normalized", "ln2.normalized", "attn.out"), _STREAM),
    **dict.fromkeys(("ln1.scale", "ln2.scale"), ("batch", "pos")),
    **dict.fromkeys(("attn.q", "attn.rot_q", "attn.z"), _HEAD),
    **dict.fromkeys(("attn.k", "attn.v", "attn.rot_k"), _KV),
    **dict.fromkeys(("attn.scores", "attn.pattern"), _ATTN),
    **dict.fromkeys(("attn.result", "attn.q_input", "attn.k_input", "attn.v_input"), _PER_HEAD),
    **dict.fromkeys(("mlp.pre", "mlp.pre_linear", "mlp.post"), _MLP),
}
_TOP: dict[str, tuple[str, ...]] = {
    "embed": _STREAM,
    "pos_embed": _STREAM,
    "ln_final.normalized": _STREAM,
    "ln_final.scale": ("batch", "pos"),
    "logits": ("batch", "pos", "vocab"),
}
_ENDS = {"state": ("batch", "d_state"), "output": ("batch", "d_state")}
"""The ends of a model of states."""

GENERIC_SITES: tuple[SiteRow, ...] = tuple(
    [SiteRow(name=n, axes=a, per_block=True) for n, a in _BLOCK.items()]
    + [SiteRow(name=n, axes=a, per_block=False) for n, a in {**_TOP, **_ENDS}.items()]
)
STATE_SITES: tuple[SiteRow, ...] = tuple(r for r in GENERIC_SITES if r.per_block or r.name in _ENDS)
"""Those of a model of states."""

WEIGHTS: dict[str, tuple[str, ...]] = {
    "W_E": ("vocab", "d_model"),
    "W_pos": ("ctx", "d_model"),
    "W_U": ("d_model", "vocab"),
    "b_U": ("vocab",),
    "attn.W_Q": ("head", "d_model", "d_head"),
    "attn.W_K": ("kv_head", "d_model", "d_head"),
    "attn.W_V": ("kv_head", "d_model", "d_head"),
    "attn.W_O": ("head", "d_head", "d_model"),
    "attn.b_Q": ("head", "d_head"),
    "attn.b_K": ("kv_head", "d_head"),
    "attn.b_V": ("kv_head", "d_head"),
    "attn.b_O": ("d_model",),
    "mlp.W_in": ("d_model", "d_mlp"),
    "mlp.W_gate": ("d_model", "d_mlp"),
    "mlp.W_out": ("d_mlp", "d_model"),
    "mlp.b_in": ("d_mlp",),
    "mlp.b_gate": ("d_mlp",),
    "mlp.b_out": ("d_model",),
    **{f"{ln}.{part}": ("d_model",) for ln in ("ln1", "ln2", "ln_final") for part in ("w", "b")},
}
"""Weights by field name, in TransformerLens' orientation."""


def heads_of(axes: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Axes of a model of some sizes: where each query head has keys of its own, `kv_head` is `head`."""
    if "kv_head" not in sizes or sizes["kv_head"] != sizes.get("head"):
        return axes
    return tuple("head" if a == "kv_head" else a for a in axes)


def generic_sites(sizes: Mapping[str, int]) -> tuple[SiteRow, ...]:
    """The field's site names, for a model of which no more is known than some sizes."""
    return tuple(replace(r, axes=heads_of(r.axes, sizes)) for r in GENERIC_SITES)
