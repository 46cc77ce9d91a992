"""The site table as data: every name with its axes and a one-sentence definition.

The names are TransformerLens' without `hook_`. Where a site is in a graph is in `locate.py`; the
expansions that some of them need are in `expand.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

_STREAM = ("batch", "pos", "d_model")
_HEADS = ("batch", "pos", "head", "d_head")
_KEYS = ("batch", "pos", "kv_head", "d_head")
_PAIRS = ("batch", "head", "pos", "key_pos")
_WIDE = ("batch", "pos", "head", "d_model")
_HIDDEN = ("batch", "pos", "d_mlp")
_SCALE = ("batch", "pos")


@dataclass(frozen=True)
class Name:
    """A site's name, its axes (`kv_head` is `head` where all heads have keys of their own) and meaning."""

    name: str
    axes: tuple[str, ...]
    per_block: bool
    doc: str


NAMES: tuple[Name, ...] = (
    Name("embed", _STREAM, False, "the token embedding as it is added to the stream (after a scale, if any)"),
    Name("pos_embed", _STREAM, False, "the position embedding as it is added to the stream"),
    Name("resid_pre", _STREAM, True, "the stream that enters the block; resid_post of the block before"),
    Name(
        "attn_in",
        _STREAM,
        True,
        "the stream as attention's norm reads it; the residual addition keeps its own",
    ),
    Name("ln1.scale", _SCALE, True, "what attention's norm divides by"),
    Name("ln1.normalized", _STREAM, True, "attention's norm before its weight and bias"),
    Name("attn.q_input", _WIDE, True, "the stream as each head's query reads it, before the norm"),
    Name("attn.k_input", _WIDE, True, "the stream as each query head's key reads it, before the norm"),
    Name("attn.v_input", _WIDE, True, "the stream as each query head's value reads it, before the norm"),
    Name("attn.q", _HEADS, True, "queries as projected, before any norm of them and before rotary"),
    Name("attn.k", _KEYS, True, "keys as projected, before any norm of them and before rotary"),
    Name("attn.v", _KEYS, True, "values as projected"),
    Name("attn.rot_q", _HEADS, True, "queries after rotary"),
    Name("attn.rot_k", _KEYS, True, "keys after rotary"),
    Name("attn.scores", _PAIRS, True, "attention scores after scale, cap and mask"),
    Name("attn.pattern", _PAIRS, True, "attention probabilities: softmax of the scores over key_pos"),
    Name("attn.z", _HEADS, True, "pattern @ v, before the output projection"),
    Name("attn.result", _WIDE, True, "each head's share of the output projection, without its bias"),
    Name("attn.out", _STREAM, True, "the output projection's result, before a post-norm"),
    Name("attn_out", _STREAM, True, "what attention adds to the stream (after a post-norm, if any)"),
    Name("resid_mid", _STREAM, True, "the stream between attention and the MLP"),
    Name(
        "mlp_in", _STREAM, True, "the stream as the MLP's norm reads it; the residual addition keeps its own"
    ),
    Name("ln2.scale", _SCALE, True, "what the MLP's norm divides by"),
    Name("ln2.normalized", _STREAM, True, "the MLP's norm before its weight and bias"),
    Name("mlp.pre", _HIDDEN, True, "the hidden layer before its activation (the gate's branch, if gated)"),
    Name("mlp.pre_linear", _HIDDEN, True, "the branch of a gated MLP that is not activated"),
    Name("mlp.post", _HIDDEN, True, "the hidden layer as the last linear map reads it"),
    Name("mlp_out", _STREAM, True, "what the MLP adds to the stream (after a post-norm, if any)"),
    Name("resid_post", _STREAM, True, "the stream that leaves the block"),
    Name("ln_final.scale", _SCALE, False, "what the last norm divides by"),
    Name("ln_final.normalized", _STREAM, False, "the last norm before its weight and bias"),
    Name("logits", ("batch", "pos", "vocab"), False, "the model's output"),
)

EMULATOR: tuple[Name, ...] = (
    Name("state", ("batch", "pos", "d_state"), False, "the state that a step starts from"),
    *(n for n in NAMES if n.per_block),
    Name("output", ("batch", "pos", "d_state"), False, "the state that comes next"),
)
"""The table of a model of states; a row is one state, and `pos` has one place."""

BY_NAME = {n.name: n for n in (*NAMES, *EMULATOR)}
PROJECTED = {"attn.q_input": "q", "attn.k_input": "k", "attn.v_input": "v"}
NORMS = {"ln1": "attention", "ln2": "the MLP", "ln_final": "the unembedding"}
