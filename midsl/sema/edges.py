"""Edges of a residual model: who adds to the stream, who reads it, and which pairs of them there are.

What a block reads is the sum of all that was added to the stream before it. An edge is one summand on its way
to one reader; its value is what the source adds, as it arrives at the reader's input, before its norm.
Sources are the embeddings, each head (``attn.result``, after a post-norm where there is one) and each MLP;
readers are the query, key and value inputs of each head, each MLP, and the last norm before the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.graph.info import NO_MLP, ModelInfo, SiteRow
from midsl.ir import nodes as ir
from midsl.sema.models import make_site, rows_of
from midsl.sema.unroll import Unroll
from midsl.sema.values import ConstV, ListV, ModelV, SitesV, SiteV, TensorV, Value
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.context import Context

Index = int | ir.Coord | None

SOURCES = {"embed": "embed", "pos_embed": "pos_embed", "attn.result": "head", "mlp_out": "mlp"}
"""Sites whose values are added to the stream: what each is as a source."""
READERS = {"attn.q_input": "q", "attn.k_input": "k", "attn.v_input": "v", "mlp_in": "mlp", "logits": "logits"}
"""Sites that name a reader of the stream: what each is as a destination."""
HEADED = ("head", "q", "k", "v")


@dataclass(frozen=True)
class End:
    """One end of an edge: a source or a reader, by kind, layer and head as far as it has them."""

    kind: str
    layer: Index = None
    head: Index = None

    @property
    def coordinates(self) -> tuple[tuple[str, Index], ...]:
        """Those that it has, by name."""
        return tuple((n, i) for n, i in (("layer", self.layer), ("head", self.head)) if i is not None)

    @property
    def name(self) -> str:
        """As circuits are written in the field: ``embed``, ``a0.h1``, ``a1.h2<k>``, ``m3``, ``logits``."""
        if self.kind == "mlp":
            return f"m{self.layer}"
        if self.kind not in HEADED:
            return self.kind
        branch = "" if self.kind == "head" else f"<{self.kind}>"
        return f"a{self.layer}.h{self.head}{branch}"


@dataclass(frozen=True)
class Edge:
    """A source and a reader that comes after it."""

    src: End
    dst: End

    @property
    def name(self) -> str:
        return f"{self.src.name}->{self.dst.name}"

    @property
    def swept(self) -> bool:
        """Whether it is one edge at each point of a sweep."""
        return any(isinstance(i, ir.Coord) for end in (self.src, self.dst) for _, i in end.coordinates)


@dataclass(frozen=True)
class Gate:
    """A number for each of some edges: a value, its axis over them, and where along it each stands."""

    value: TensorV
    axis: str
    places: Mapping[Edge, int]


@dataclass(frozen=True)
class EdgesV(Value):
    """A set of edges of a model, in order: a circuit, the family of all, or the one of a swept variable."""

    model: ModelV
    members: tuple[Edge, ...]
    by: Gate | None = None
    """How far each goes to what is written, if not all the way."""
    kind = "Edges"


def all_edges(model: ModelV, ctx: Context, span: Span) -> EdgesV:
    """``m.edges``: each source with each reader after it."""
    heads, blocks = model.sizes.get("head"), model.sizes.get("layer")
    if heads is None or blocks is None:
        raise fail(
            "MI0402",
            "how many edges there are is not known",
            span,
            label="the model's numbers of layers and heads are not known yet",
            help="use a model whose configuration is there before it is loaded",
        )
    info = ctx.facts.info(model.node)
    if info is not None:
        _need_residual(info, span)
    rows = {r.name: r for r in rows_of(model, ctx)}
    sources: list[tuple[float, End]] = [(-1, End("embed"))]
    if rows["pos_embed"].readable:
        sources.append((-1, End("pos_embed")))
    readers: list[tuple[float, End]] = []
    for layer in range(blocks):
        first, second = 2 * layer, 2 * layer + _after(rows, layer)
        sources += [(first, End("head", layer, h)) for h in range(heads)]
        readers += [(first, End(kind, layer, h)) for kind in ("q", "k", "v") for h in range(heads)]
        if _in(rows["mlp_out"], layer):
            sources.append((second, End("mlp", layer)))
            readers.append((second, End("mlp", layer)))
    readers.append((2 * blocks, End("logits")))
    return EdgesV(model, tuple(Edge(s, r) for at, s in sources for before, r in readers if at < before))


def stage(edge: Edge, ctx: Context, model: ModelV) -> int:
    """When a reader reads, among all readers of its model: those of one stage see none of each other."""
    if edge.dst.kind == "logits":
        return 2 * model.sizes["layer"]
    assert isinstance(edge.dst.layer, int)
    rows = {r.name: r for r in rows_of(model, ctx)}
    return 2 * edge.dst.layer + (_after(rows, edge.dst.layer) if edge.dst.kind == "mlp" else 0)


def _in(row: SiteRow, layer: int) -> bool:
    return row.readable and (row.layers is None or layer in row.layers)


def _after(rows: dict[str, SiteRow], layer: int) -> int:
    """1 where the MLP of a block reads what its attention adds, 0 where the two are parallel."""
    return int(_in(rows["resid_mid"], layer))


def _need_residual(info: ModelInfo, span: Span) -> None:
    """Refuse a model of which no reading as sources and readers of one stream is known (MI0413)."""

    def wrong(name: str) -> str:
        row = info.site(name)
        if row is None:
            return "it has no such site"
        writes = name in READERS and name != "logits"
        if not row.readable or (writes and not row.writable):
            return row.why or "it cannot be taken apart"
        if row.layers is not None and len(row.layers) < info.sizes["layer"] and not name.startswith("mlp"):
            return "only some of its blocks have it"
        return ""

    asked = [n for n in (*SOURCES, *READERS) if n != "pos_embed"]
    found = {n: why for n in asked if (why := wrong(n)) and not (n.startswith("mlp") and why == NO_MLP)}
    pos = info.site("pos_embed")
    alone = pos is None or not pos.readable
    if not found and alone and info.address("resid_pre", 0) != info.address("embed", None):
        found["embed"] = "something stands between the embedding and the first block"
    if found:
        name, why = next(iter(found.items()))
        raise fail(
            "MI0413",
            "this model has no edges",
            span,
            label=f"`{name}`: {why}",
            help="edges need a stream to which each head and each MLP adds; `midsl sites` says what there is",
        )


def index_edges(edges: EdgesV, items: list[tuple[str | None, Value, Span]], span: Span) -> EdgesV:
    """``m.edges["a0.h1->a1.h2<k>", ..]``, ``m.edges[src: z["0.1"], dst: m.blocks[*].attn.k_input]``."""
    shares = [(value, at) for side, value, at in items if side == "by"]
    if shares:
        from midsl.sema.edgegates import gated

        rest = [i for i in items if i[0] != "by"]
        return gated(index_edges(edges, rest, span) if rest else edges, *shares[0])
    by_name = {x.name: x for x in edges.members}
    if items and all(a is None for a, _, _ in items):
        found = []
        for _, value, at in items:
            for name in _names(value, at):
                if name not in by_name:
                    raise fail(
                        "MI0413",
                        f'there is no edge "{name}"',
                        at,
                        label="not among these edges",
                        help=did_you_mean(name, by_name)
                        or 'edges are written "a0.h1->a1.h2<k>", "embed->m0", "m1->logits"',
                    )
                found.append(by_name[name])
        if len(set(found)) < len(found):
            raise fail("MI0405", "one edge stands twice in the set", span, help="leave one of the two out")
        return EdgesV(edges.model, tuple(found))
    members = edges.members
    for side, value, at in items:
        if side not in ("src", "dst"):
            raise fail(
                "MI0302",
                f"`{side}` cannot be selected of edges" if side else "which end is this for?",
                at,
                label="edges have `src` and `dst`",
                help="write `src: ...` or `dst: ...`, or names of edges alone",
            )
        wanted = _end(value, side, at)
        members = tuple(x for x in members if wanted(x.src if side == "src" else x.dst))
    if not members:
        raise fail(
            "MI0402",
            "this selects no edge",
            span,
            label="no source is before such a reader",
            help="an edge goes from an earlier part of the model to a later one",
        )
    return EdgesV(edges.model, members)


def _names(value: Value, span: Span) -> list[str]:
    items = value.items if isinstance(value, ListV) else (value,)
    names = [i.value for i in items if isinstance(i, ConstV) and isinstance(i.value, str)]
    if len(names) < len(items):
        raise fail(
            "MI0407",
            f"edges cannot be selected by a {value.kind}",
            span,
            help='by their names, `m.edges["a0.h1->a1.h2<k>"]`, or `src: z["0.1"]`, `dst: m.logits`',
        )
    return names


def _end(value: Value, side: str, span: Span) -> Callable[[End], bool]:
    """Which ends a site, a union of sites or a list of names stands for."""
    if isinstance(value, (SiteV, SitesV)):
        each = [_at_site(s, side, span) for s in (value.members if isinstance(value, SitesV) else (value,))]
        return lambda end: any(f(end) for f in each)
    names = set(_names(value, span))
    return lambda end: end.name in names


def _at_site(value: SiteV, side: str, span: Span) -> Callable[[End], bool]:
    known = {**SOURCES, "attn.z": "head"} if side == "src" else READERS
    kind = known.get(value.site.name)
    if kind is None:
        raise fail(
            "MI0413",
            f"`{value.site.name}` is no {'source' if side == 'src' else 'reader'} of the stream",
            span,
            label="no edge begins here" if side == "src" else "no edge ends here",
            help=f"it is one of {', '.join(known)}",
        )
    wanted: dict[str, set[object] | None] = {}
    for axis, index in value.site.select:
        if isinstance(index, ir.Coord):
            raise Unroll(index.sweep)
        if axis not in ("layer", "head"):
            raise fail(
                "MI0407",
                f"`{axis}` cannot be selected of edges",
                span,
                label="an edge is at all positions",
                help="leave it out: all positions of the source go to all of the reader",
            )
        if isinstance(index, ir.Const):
            wanted[axis] = set(index.value) if isinstance(index.value, tuple) else {index.value}

    def same(end: End) -> bool:
        return end.kind == kind and all(i in wanted.get(a, {i}) for a, i in end.coordinates)  # type: ignore[operator]

    return same


def edges_field(edges: EdgesV, name: str, span: Span, ctx: Context) -> Value:
    """``edges.size``, how many there are; of one edge, ``e.src`` and ``e.dst``: the sites at its ends."""
    if name in ("size", "number", "backwards") and not any(x.swept for x in edges.members):
        if name == "size":
            return ConstV(len(edges.members))
        from midsl.sema import edgegates

        return edgegates.numbers(edges, span) if name == "number" else edgegates.backwards(edges, ctx)
    if name in ("src", "dst") and len(edges.members) == 1:
        find, end = (source, edges.members[0].src) if name == "src" else (reader, edges.members[0].dst)
        return find(edges.model, end, ctx, span)
    raise fail(
        "MI0205",
        f"a set of edges has no field `{name}`",
        span,
        label="one edge has `src` and `dst`, a set `size`, `number` and `backwards`",
        help=did_you_mean(name, ["size", "number", "backwards", "src", "dst"])
        or "sweep over it, to have one edge at a time",
    )


def source(model: ModelV, end: End, ctx: Context, span: Span) -> SiteV:
    """The site that holds what a source adds."""
    return _site(model, end, {k: n for n, k in SOURCES.items()}[end.kind], ctx, span)


def reader(model: ModelV, end: End, ctx: Context, span: Span) -> SiteV:
    """The site where a reader takes the stream: before its norm, apart from the residual addition."""
    if end.kind == "logits":
        return _site(model, End("stream", model.sizes["layer"] - 1), "resid_post", ctx, span)
    return _site(model, end, {k: n for n, k in READERS.items()}[end.kind], ctx, span)


def _site(model: ModelV, end: End, name: str, ctx: Context, span: Span) -> SiteV:
    row = next(r for r in rows_of(model, ctx) if r.name == name)
    select = tuple((a, i if isinstance(i, ir.Coord) else ir.Const(i)) for a, i in end.coordinates)
    made = make_site(model, row, None, span, ctx)
    site = ir.Site(model.node, name, select, type=made.site.type, span=span)
    return SiteV(model, site, row)


def without(edges: EdgesV, taken: EdgesV, span: Span) -> EdgesV:
    """``except(m.edges, circuit)``."""
    if any(x.swept for x in (*edges.members, *taken.members)):
        raise fail(
            "MI0601",
            "not implemented: a set of edges without a swept one",
            span,
            help="edit the swept edge, or leave out edges by name",
        )
    gone = set(taken.members)
    if strangers := gone - set(edges.members):
        name = min(x.name for x in strangers)
        raise fail(
            "MI0410",
            "what is left out must belong to the set",
            span,
            label=f'"{name}" is not in it',
            help="take out edges that it has",
        )
    left = tuple(x for x in edges.members if x not in gone)
    if not left:
        raise fail(
            "MI0402",
            "nothing is left of the edges",
            span,
            label="all are taken out",
            help="keep some: a circuit is a part of the model",
        )
    return EdgesV(edges.model, left)


def joined(sides: Sequence[EdgesV], span: Span) -> EdgesV:
    """``a | b``: the edges of both, each once."""
    if len({s.model.owner for s in sides}) > 1:
        raise fail("MI0411", "edges of two models", span, help="join edges of one model")
    return EdgesV(sides[0].model, tuple(dict.fromkeys(x for s in sides for x in s.members)))
