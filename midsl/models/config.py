"""The configuration of midsl's own small transformer, apart from its module so that no torch is needed.

One record describes every toy, llama2.c and plain-state-dict architecture. `check` reads axis sizes from
it, the loaders fill it from file headers and tensor shapes, and its graph-deciding part is the model's key.
A plain dataclass with checks of its own: `check` waits for every import, and pydantic's is its dearest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from midsl.diagnostics.model import MiError, fail
from midsl.diagnostics.suggest import did_you_mean


@dataclass(frozen=True)
class TinyConfig:
    """Everything that decides a `TinyTransformer`; sizes of 0 and scale 0 mean "as usual".

    Raises:
        ValueError: if a field has the wrong type, or does not fit the others.

    >>> TinyConfig(d_model=64, heads=4).d_head
    16
    """

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

    def __post_init__(self) -> None:
        for name, kinds in _kinds().items():
            value = getattr(self, name)
            _check_kind(name, value, kinds)
            if kinds == (float,):  # so that 1 and 1.0 are one configuration
                self._set(name, float(value))
        self._fill()
        self._check_fit()

    def _fill(self) -> None:
        """Replace the zeros that stand for a usual value, so that the fields can be read as they are."""
        if self.logits_at == -1:
            self._set("logits_at", None)
        if not self.kv_heads:
            self._set("kv_heads", self.heads)
        if not self.d_head and self.heads > 0:
            if self.d_model % self.heads:
                raise ValueError(
                    f"d_model {self.d_model} is not a multiple of heads {self.heads}: give d_head"
                )
            self._set("d_head", self.d_model // self.heads)
        if not self.attn_scale and self.d_head > 0:
            self._set("attn_scale", self.d_head**-0.5)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_fit(self) -> None:
        for name in ("layers", "heads", "kv_heads", "d_model", "d_head", "vocab"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.ctx < 2:
            raise ValueError("ctx must be at least 2: rows have a token to read and one to predict")
        if self.layers > 10_000:  # each layer is a member of every family: checking walks them
            raise ValueError(f"layers must be at most 10_000, not {self.layers}")
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
        return {name: value for name, value in asdict(self).items() if name != "seed"}


DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(TinyConfig)}
"""The fields of a configuration and what they are where nothing is said."""


@cache
def _kinds() -> dict[str, tuple[object, ...]]:
    """What each field may be: literal choices, or types."""
    return {name: get_args(hint) or (hint,) for name, hint in get_type_hints(TinyConfig).items()}


def _check_kind(name: str, value: object, kinds: tuple[object, ...]) -> None:
    types = tuple(k for k in kinds if isinstance(k, type))
    if not types:
        if value not in kinds:
            raise ValueError(f"{name}: {value!r} is none of {', '.join(map(repr, kinds))}")
        return
    number = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, bool) and bool not in types:
        fits = False
    else:
        fits = isinstance(value, types) or (number and float in types)
    if not fits:
        named = " or ".join(t.__name__.replace("NoneType", "none") for t in types)
        raise ValueError(f"{name}: {value!r} is not of type {named}")


def tiny_config(given: dict[str, Any], what: str = "this model") -> TinyConfig:
    """Build a configuration from a spec's arguments.

    Raises:
        MiError: MI0509 if a field is unknown, of the wrong type, or does not fit the others.
    """
    unknown = [name for name in given if name not in DEFAULTS]
    if unknown:
        raise unknown_key(unknown[0], DEFAULTS, what)
    try:
        return TinyConfig(**given)
    except ValueError as error:
        raise fail(
            "MI0509", f"{what}: {error}", help="compare with the arguments that `midsl doc std.models` lists"
        ) from error


def unknown_key(name: str, known: Iterable[str], what: str) -> MiError:
    """Build the error for a configuration key that nobody reads, with the nearest that is read."""
    known = list(known)
    hint = did_you_mean(name, known) or f"known keys: {', '.join(sorted(known))}"
    return fail("MI0509", f"{what} has no configuration key `{name}`", help=hint)
