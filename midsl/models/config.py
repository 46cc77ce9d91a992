"""The configuration of midsl's own small transformer, apart from its module so that no torch is needed.

One record describes every toy, llama2.c and plain-state-dict architecture. `check` reads axis sizes from
it, the loaders fill it from file headers and tensor shapes, and its graph-deciding part is the model's key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from midsl.diagnostics.model import MiError, fail
from midsl.diagnostics.suggest import did_you_mean


class TinyConfig(BaseModel):
    """Everything that decides a `TinyTransformer`; sizes of 0 and scale 0 mean "as usual".

    >>> TinyConfig(d_model=64, heads=4).d_head
    16
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = 2
    heads: int = 4
    kv_heads: int = 0
    """Key/value heads shared by groups of query heads; 0: one per query head."""
    d_model: int = 32
    d_head: int = 0
    """0: d_model / heads."""
    d_mlp: int = 0
    """0: no MLP, attention only."""
    vocab: int = 32
    ctx: int = 32
    """The longest row the model accepts."""
    norm: Literal["layer", "rms", "none"] = "layer"
    eps: float = 1e-5
    final_norm: bool = True
    pos: Literal["learned", "rotary", "rotary_pairs", "none"] = "learned"
    """`rotary` turns dimension i with i + d_head/2 (HF Llama), `rotary_pairs` 2i with 2i+1 (llama2.c)."""
    rope_base: float = 10000.0
    act: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu_tanh"
    gated: bool = False
    causal: bool = True
    attn_scale: float = 0.0
    """Factor on q.k; 0: 1/sqrt(d_head)."""
    bias: bool = True
    """Biases of attention, MLP and layer norms."""
    unembed_bias: bool = False
    tied: bool = False
    logits_at: int | None = None
    """The position whose logits are the output, for a classifier; None (or -1): logits at every position."""
    seed: int = 0
    """Seed of the initial weights; it does not decide the graph."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Replace the zeros that stand for a usual value, so that the fields can be read as they are."""
        if not isinstance(data, dict):
            return data
        full = dict(data)
        if full.get("logits_at") == -1:
            full["logits_at"] = None
        heads = full.get("heads", cls.model_fields["heads"].default)
        d_model = full.get("d_model", cls.model_fields["d_model"].default)
        if not (isinstance(heads, int) and isinstance(d_model, int) and heads > 0):
            return full  # the checks below say what is wrong with them
        if not full.get("kv_heads"):
            full["kv_heads"] = heads
        if not full.get("d_head"):
            if d_model % heads:
                raise ValueError(f"d_model {d_model} is not a multiple of heads {heads}: give d_head")
            full["d_head"] = d_model // heads
        if not full.get("attn_scale") and isinstance(full["d_head"], int) and full["d_head"] > 0:
            full["attn_scale"] = full["d_head"] ** -0.5
        return full

    @model_validator(mode="after")
    def _consistent(self) -> TinyConfig:
        for name in ("layers", "heads", "kv_heads", "d_model", "d_head", "vocab", "ctx"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.d_mlp < 0:
            raise ValueError(f"d_mlp must be at least 0, not {self.d_mlp}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.pos.startswith("rotary") and self.d_head % 2:
            raise ValueError(f"rotary positions turn pairs of dimensions, and d_head {self.d_head} is odd")
        if self.gated and not self.d_mlp:
            raise ValueError("a gated MLP needs d_mlp")
        if self.logits_at is not None and not 0 <= self.logits_at < self.ctx:
            raise ValueError(f"logits_at {self.logits_at} is not a position below ctx {self.ctx}")
        return self

    def sizes(self) -> dict[str, int]:
        """Return axis sizes by axis name, and `causal` as 0 or 1.

        >>> TinyConfig(layers=3).sizes()["layer"]
        3
        """
        sizes = {
            "layer": self.layers,
            "head": self.heads,
            "kv_head": self.kv_heads,
            "d_model": self.d_model,
            "d_head": self.d_head,
            "vocab": self.vocab,
            "ctx": self.ctx,
            "causal": int(self.causal),
        }
        return sizes | ({"d_mlp": self.d_mlp} if self.d_mlp else {})

    def graph_config(self) -> dict[str, Any]:
        """Return what decides the graph: every field but the seed of the weights."""
        return self.model_dump(exclude={"seed"})


def tiny_config(fields: dict[str, Any], what: str = "this model") -> TinyConfig:
    """Build a configuration from a spec's arguments.

    Raises:
        MiError: MI0509 if a field is unknown, of the wrong type, or does not fit the others.
    """
    unknown = [name for name in fields if name not in TinyConfig.model_fields]
    if unknown:
        raise unknown_key(unknown[0], TinyConfig.model_fields, what)
    try:
        return TinyConfig(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise fail("MI0509", f"{what}: {where + ': ' if where else ''}{reason}") from error


def unknown_key(name: str, known: Iterable[str], what: str) -> MiError:
    """Build the error for a configuration key that nobody reads, with the nearest that is read."""
    known = list(known)
    hint = did_you_mean(name, known) or f"known keys: {', '.join(sorted(known))}"
    return fail("MI0509", f"{what} has no configuration key `{name}`", help=hint)
