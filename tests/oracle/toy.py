"""A model small enough to follow by hand, and the IR that specs about it lower to.

Two blocks; in each, head h adds ``W[l, h] @ (mean of the stream up to and including pos)`` to the
stream. Everything is float64 and written with plain loops, so that tests can recompute it.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from midsl.data.dataset import Column, Part
from midsl.data.spans import range_text
from midsl.fit.draw import draw_params
from midsl.graph.info import ModelInfo, SiteRow, WeightRow
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.ops.named import NT
from midsl.oracle.inputs import Address, Change, Taken

LAYERS, HEADS, WIDTH, VOCAB = 2, 3, 4, 7
STREAM = ("batch", "pos", "d_model")
PER_HEAD = ("batch", "pos", "head", "d_model")

INFO = ModelInfo(
    arch="toy",
    key="toy",
    sizes={"layer": LAYERS, "head": HEADS, "d_model": WIDTH, "vocab": VOCAB},
    sites=(
        SiteRow(name="embed", axes=STREAM, per_block=False),
        SiteRow(name="z", axes=PER_HEAD, per_block=True),
        SiteRow(name="resid_post", axes=STREAM, per_block=True),
        SiteRow(name="late", axes=STREAM, per_block=True, layers=(1,)),
        SiteRow(name="logits", axes=("batch", "pos", "vocab"), per_block=False),
    ),
    weights=(
        WeightRow(name="W_U", axes=("d_model", "vocab"), per_block=False),
        WeightRow(name="W", axes=("head", "d_model", "d_out"), per_block=True),
    ),
)


@dataclass
class Toy:
    """The model; `log` holds the addresses read in each run, to see what runs at all."""

    info: ModelInfo = INFO
    seed: int = 0
    log: list[frozenset[Address]] = field(default_factory=list)

    def __post_init__(self) -> None:
        g = torch.Generator().manual_seed(self.seed)
        self.W_E = torch.randn(VOCAB, WIDTH, generator=g, dtype=torch.float64)
        self.W = torch.randn(LAYERS, HEADS, WIDTH, WIDTH, generator=g, dtype=torch.float64) / 2
        self.W_U = torch.randn(WIDTH, VOCAB, generator=g, dtype=torch.float64)

    def run(
        self,
        part: Part,
        edits: Mapping[Address, Change],
        reads: Collection[Address],
        taken: Taken | None = None,
    ) -> dict[Address, NT]:
        self.log.append(frozenset(reads))
        found: dict[Address, NT] = {}

        def at(name: str, layer: int | None, x: Tensor, axes: tuple[str, ...]) -> Tensor:
            value = NT(x, axes)
            if (name, layer) in edits:
                value = edits[name, layer](value)
            if (name, layer) in reads:
                if taken is not None and not value.data.requires_grad:
                    value = NT(value.data.clone().requires_grad_(), axes)
                found[name, layer] = value
            return value.data

        x = at("embed", None, self.W_E[torch.as_tensor(part.tokens)], STREAM)
        steps = torch.arange(1, x.shape[1] + 1, dtype=torch.float64)[:, None]
        for layer in range(LAYERS):
            seen = torch.tanh(x).cumsum(1) / steps
            z = torch.stack([seen @ self.W[layer, h] for h in range(HEADS)], 2)
            x = x + at("z", layer, z, PER_HEAD).sum(2)
            if layer == 1:
                x = at("late", layer, x, STREAM)
            x = at("resid_post", layer, x, STREAM)
        at("logits", None, torch.tanh(x) @ self.W_U, ("batch", "pos", "vocab"))
        return found

    def weight(self, name: str, layer: int | None) -> Tensor:
        return self.W_U if name == "W_U" else self.W[layer or 0]

    def with_weights(self, values: Mapping[Address, Tensor]) -> Toy:
        other = copy.copy(self)
        other.W = torch.stack([values.get(("W", i), w) for i, w in enumerate(self.W)])
        other.W_U = values.get(("W_U", None), self.W_U)
        return other


LENGTHS = [5, 3, 4]


def make_part(seed: int) -> Part:
    """Three rows of lengths 5, 3, 4."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCAB, (3, 5))
    for i, n in enumerate(LENGTHS):
        tokens[i, n:] = 0
    columns = {
        "end": Column("pos", np.array([4, 2, 3])),
        "answer": Column("token", rng.integers(0, VOCAB, 3)),
        "subject": Column("span", np.array([[1, 3], [0, 1], [2, 4]])),
        "score": Column("number", np.array([0.5, -1.0, 2.0])),
        "group": Column("label", ["a", "b", "a"]),
    }
    return Part(tokens.astype(np.int64), np.array(LENGTHS, np.int64), columns)


MODEL = ir.Model("toy:build")
DATA = ir.Data("toy:data")
CLEAN, CORRUPT = ir.Part(DATA, "clean"), ir.Part(DATA, "corrupt")
OWNER = f"{DATA.digest}/"
BATCH, POS = Axis("batch", OWNER, 3), Axis("pos", OWNER, 5)
LAYER, HEAD = Axis("layer", "m", LAYERS), Axis("head", "m", HEADS)
D = Axis("d_model", "m", WIDTH)
V = Axis("vocab", "m", VOCAB)
SITE_AXES = {
    "embed": (BATCH, POS, D),
    "z": (BATCH, POS, HEAD, D),
    "resid_post": (BATCH, POS, D),
    "late": (BATCH, POS, D),
    "logits": (BATCH, POS, V),
}


class ToyInputs:
    """The toy model and its two-sided data."""

    def __init__(self) -> None:
        self.toy = Toy()
        self.parts = {"clean": make_part(1), "corrupt": make_part(2)}

    def model(self, node: ir.Node) -> Toy:
        assert node == MODEL
        return self.toy

    def part(self, node: ir.Part) -> Part:
        return self.parts[node.side]

    def param(self, node: ir.Param) -> Tensor:
        assert isinstance(node.of, ir.Params)
        return draw_params(node.of)[node.name].double()


def const(value: ir.Json) -> ir.Const:
    kind = "bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "float"
    return ir.Const(value, type=TensorType(kind))  # type: ignore[arg-type]


def site(name: str, **select: ir.Node | int) -> ir.Site:
    pairs = tuple((a, const(i) if isinstance(i, int) else i) for a, i in select.items())
    return ir.Site(MODEL, name, pairs, type=PlainType("Site"))


def run(part: ir.Part, *edits: ir.Edit) -> ir.Forward:
    return ir.Forward(MODEL, part, edits, type=PlainType("Run"))


def site_type(s: ir.Site) -> TensorType:
    """Axes as the elaborator gives them: sweeps, families, then what is not selected."""
    axes: list[Axis] = []
    for _, i in s.select:
        if isinstance(i, ir.Coord):
            axes += [a for a in i.sweep.axes if a not in axes]
    every = {"layer": LAYER, **{a.name: a for a in SITE_AXES[s.name]}}
    axes += [every[n] for n, i in s.select if isinstance(i, ir.Star) or (n == "layer" and _stays(i))]
    for a in SITE_AXES[s.name]:
        index = s.index(a.name)
        if index is None:
            axes.append(a)
        elif _stays(index):
            axes.append(narrowed(a, index))
    return TensorType(axes=tuple(axes))


def _stays(i: ir.Node) -> bool:
    return (
        isinstance(i, ir.Slice)
        or (isinstance(i, ir.Const) and isinstance(i.value, tuple))
        or (isinstance(i, ir.Column) and i.name == "subject")
    )


def narrowed(axis: Axis, index: ir.Node) -> Axis:
    if isinstance(index, ir.Column):
        return Axis(axis.name, axis.owner, span=index.name)
    if isinstance(index, ir.Slice):
        return Axis(axis.name, axis.owner, span=range_text(index.lo, index.hi, index.step))
    assert isinstance(index, ir.Const)
    return Axis(axis.name, axis.owner, labels=index.value)  # type: ignore[arg-type]


def read(r: ir.Forward, s: ir.Site) -> ir.Read:
    swept = [a for sw in ir.sweeps_of(r) for a in sw.axes]
    return ir.Read(r, s, type=TensorType(axes=tuple(dict.fromkeys([*swept, *site_type(s).axes]))))


def edit(s: ir.Site, value: ir.Node, absolute: bool = True) -> ir.Edit:
    return ir.Edit(s, value, absolute)


def me(s: ir.Site) -> ir.Self:
    return ir.Self(type=site_type(s))


def axes_of(*nodes: ir.Node) -> tuple[Axis, ...]:
    found: dict[str, Axis] = {}
    for n in nodes:
        for a in n.tensor_type.axes:
            found.setdefault(a.name, a)
    return tuple(found.values())


def apply(op: str, *args: ir.Node, drop: tuple[str, ...] = (), **attrs: ir.Json) -> ir.Apply:
    axes = tuple(a for a in axes_of(*args) if a.name not in drop)
    return ir.Apply(op, args, tuple(attrs.items()), type=TensorType(axes=axes))


def reduce(op: str, x: ir.Node, *over: str, where: ir.Node | None = None) -> ir.Reduce:
    axes = axes_of(x, *([where] if where else []))
    gone = tuple(a for a in axes if a.name in over)
    left = tuple(a for a in axes if a.name not in over)
    return ir.Reduce(op, x, gone, where, type=TensorType(axes=left))


def column(part: ir.Part, name: str) -> ir.Column:
    if name == "subject":
        return ir.Column(part, name, type=PlainType("Span"))
    axes: tuple[Axis, ...] = (BATCH,)
    if name in ("tokens", "next"):
        axes = (BATCH, Axis("pos", OWNER, span="predicted" if name == "next" else ""))
    return ir.Column(part, name, type=TensorType("int", axes))


def select(x: ir.Node, axis: str, index: ir.Node | int | tuple[int, ...]) -> ir.Select:
    node = const(index) if isinstance(index, (int, tuple)) else index
    a = next(a for a in x.tensor_type.axes if a.name == axis)
    if _stays(node):
        axes = tuple(narrowed(b, node) if b is a else b for b in x.tensor_type.axes)
    else:
        extra = node.tensor_type.axes if not isinstance(node, ir.Const) else ()
        axes = tuple({b.name: b for b in (*(b for b in x.tensor_type.axes if b is not a), *extra)}.values())
    return ir.Select(x, a, node, type=TensorType(axes=axes))


def sweep(name: str, columns: tuple[str, ...], axes: tuple[Axis, ...], domain: ir.Node) -> ir.Sweep:
    return ir.Sweep(name, columns, axes, domain)


def coord(s: ir.Sweep, i: int = 0) -> ir.Coord:
    return ir.Coord(s, i, type=TensorType("int", s.axes))


def report(value: ir.Node, *sweeps: ir.Sweep) -> ir.Report:
    return ir.Report("e", "r", value, sweeps)
