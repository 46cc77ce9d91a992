"""Graphs as values: ``graph(w, from: "a{layer}.h{head}", to: "logits")``.

A node is a name. Templates name the nodes that the entries of a tensor go between, with its axes (or the
columns of what it is swept over) in braces; equal names are one node. So which nodes and which pairs there
may be is known before anything runs, and what runs give is numbers along `src` and `dst`, and which count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, Kind, TensorType
from midsl.sema.arguments import Args
from midsl.sema.edges import EdgesV
from midsl.sema.select import UNKNOWN
from midsl.sema.tables import columns_of
from midsl.sema.templates import End, end_of, fields_of, filled, pattern
from midsl.sema.tensors import apply, as_tensor, const
from midsl.sema.values import GraphV, RecordV, TensorV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

ENDS = ("src", "dst")
SUCH = 'such as `graph(w, from: "a{layer}.h{head}", to: "logits")`'


def node_axis(names: Sequence[str] | None) -> Axis:
    """The axis of nodes of these names; two graphs over the same names have the same one."""
    if names is None:
        return Axis("node", UNKNOWN)
    content = hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()
    return Axis("node", f"graph:{content}", len(names), tuple(names))


def called(axis: Axis, name: str) -> Axis:
    """The axis of nodes under another name: `src` or `dst`."""
    return Axis(name, axis.owner, axis.size, axis.labels)


def made(axis: Axis, edges: Mapping[str, Value], nodes: Mapping[str, Value]) -> GraphV:
    """A graph of these columns."""
    return GraphV({"edges": RecordV(dict(edges)), "nodes": RecordV(dict(nodes))}, axis)


def unknown(axis: Axis, tag: str, more: Sequence[Axis] = ()) -> GraphV:
    """A graph of which no more than that it is one is known."""

    def column(name: str, kind: Kind, *axes: Axis) -> TensorV:
        t = TensorType(kind, (*more, *axes))
        return TensorV(ir.Extern("any", (("name", f"{tag}.{name}"),), type=t))

    src, dst = (called(axis, n) for n in ENDS)
    edges: dict[str, Value] = {
        "weight": column("weight", "float", src, dst),
        "kept": column("kept", "bool", src, dst),
    }
    return made(axis, edges, {"kept": column("node", "bool", axis)})


def spread(x: TensorV, over: Sequence[str], to: Sequence[Axis], at: Sequence[int], span: Span) -> TensorV:
    """Entries laid out along new axes (see ``midsl.ops.graph``)."""
    places = tuple((a.name, a.size or 0) for a in to)
    rest = tuple(a for a in x.type.axes if a.name not in over)
    attrs: tuple[tuple[str, ir.Json], ...] = (("over", tuple(over)), ("to", places), ("at", tuple(at)))
    t = TensorType(x.type.kind, (*rest, *to), x.type.unit)
    return TensorV(ir.Apply("spread", (x.node,), attrs, type=t, span=span))


def numbers(values: Sequence[int | float | bool], axis: Axis, span: Span) -> TensorV:
    """Numbers, or truth values, that are known now."""
    kinds: dict[type, Kind] = {bool: "bool", int: "int", float: "float"}
    attrs: tuple[tuple[str, ir.Json], ...] = (("values", tuple(values)), ("axis", axis.name))
    t = TensorType(kinds[type(values[0])], (axis,))
    return TensorV(ir.Apply("numbers", (), attrs, type=t, span=span))


def renamed(x: TensorV, axis: Axis, name: str, span: Span) -> TensorV:
    """A value with one of its axes under another name."""
    new = called(axis, name)
    t = TensorType(x.type.kind, tuple(new if a.name == axis.name else a for a in x.type.axes), x.type.unit)
    attrs = (("old", axis.name), ("new", name))
    return TensorV(ir.Apply("rename", (x.node,), attrs, type=t, span=span))


# ---------------------------------------------------------------- graph(...)


def graph(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """A graph of the entries of a tensor, or a graph with other columns."""
    first = e.eval(node.args[0].value, scope) if node.args and node.args[0].name is None else None
    if isinstance(first, GraphV):
        return _with(Args(e, "graph", node, scope, ("g", "edges", "nodes")), first)
    args = Args(e, "graph", node, scope, ("w", "from", "to", "among"))
    w = args.tensor("w")
    ends = [
        end_of(w, str(args.literal(name, str, default)), args, name)
        for name, default in (("from", "{src}"), ("to", "{dst}"))
    ]
    gone = {a.name for end in ends for a in end.axes}
    if any(end.names is None for end in ends):
        if e.ctx.facts.is_bound:
            raise fail(
                "MI0329",
                "how many nodes are there?",
                node.span,
                label="results are known before anything runs",
                help="lay the nodes out along an axis whose length is known",
            )
        return unknown(node_axis(None), w.node.digest, [a for a in w.type.axes if a.name not in gone])
    names = tuple(dict.fromkeys(n for end in ends for n in end.every))
    axis = node_axis(names)
    weight, pairs = _adjacency(w, ends, axis, node.span)
    kept = _which(args, weight, pairs, axis, node.span)
    return made(axis, {"weight": weight, "kept": kept}, {"kept": _all(axis, node.span)})


def _all(axis: Axis, span: Span) -> TensorV:
    return numbers((True,) * (axis.size or 0), axis, span)


def _adjacency(w: TensorV, ends: Sequence[End], axis: Axis, span: Span) -> tuple[TensorV, list[int] | None]:
    """Weights along `src` and `dst`; and which pairs there are, where each entry is a pair by itself."""
    place = {n: i for i, n in enumerate(axis.labels or ())}
    src, dst = (called(axis, n) for n in ENDS)
    size = axis.size or 0
    shared = {a.name for a in ends[0].axes} & {a.name for a in ends[1].axes}
    for name in dict.fromkeys(a.name for end in ends for a in end.axes):
        along = next(a for a in w.type.axes if a.name == name)
        if along.name not in shared and any(along in s.axes for s in ir.sweeps_of(w.node)):
            plain = Axis(f"{name}~", "", along.size)  # a sweep's points as an axis like any other
            w = spread(w, (name,), (plain,), range(along.size or 0), span)
            ends = [end.moved(name, plain) for end in ends]
    if shared:
        over = tuple(dict.fromkeys((*ends[0].axes, *ends[1].axes)))
        found = [end.along(over) for end in ends]
        pairs = [place[a] * size + place[b] for a, b in zip(*found, strict=True)]
        _each_once([f"{a} -> {b}" for a, b in zip(*found, strict=True)], span)
        return spread(w, [a.name for a in over], (src, dst), pairs, span), pairs
    for end, to in zip(ends, (src, dst), strict=True):
        _each_once(end.every, span)
        w = spread(w, [a.name for a in end.axes], (to,), [place[n] for n in end.every], span)
    return w, None


def _each_once(names: Sequence[str], span: Span) -> None:
    seen: set[str] = set()
    for n in names:
        if n in seen:
            raise fail(
                "MI0405",
                f"two entries are both `{n}`",
                span,
                label="which weight is meant?",
                help="name more axes in the template, or reduce the value first",
            )
        seen.add(n)


def _which(args: Args, weight: TensorV, pairs: list[int] | None, axis: Axis, span: Span) -> TensorV:
    """Which pairs are edges: of a set, or those with an entry of their own, or of another weight than 0."""
    ends = tuple(called(axis, n) for n in ENDS)
    if "among" in args.given:
        among = args.value("among")
        if not isinstance(among, EdgesV) or any(x.swept for x in among.members):
            raise fail(
                "MI0301",
                "`among` is a set of edges",
                args.expr("among").span,
                label=f"this is a {among.kind}",
                help="such as `among: m.edges`",
            )
        place = {n: i for i, n in enumerate(axis.labels or ())}
        size = axis.size or 0
        pairs = [
            place[x.src.name] * size + place[x.dst.name]
            for x in among.members
            if x.src.name in place and x.dst.name in place
        ]
    if pairs is not None:
        return spread(const(True, span), (), ends, pairs, span)
    return apply("ne", (weight, const(0.0, span)), span, kind="bool")


def _with(args: Args, g: GraphV) -> GraphV:
    """The same graph with other columns; an edge is kept only where both of its nodes are."""
    found: dict[str, dict[str, Value]] = {}
    for table, ends in (("edges", ENDS), ("nodes", ("node",))):
        old = columns_of(g, table)
        new: dict[str, Value] = {}
        if table in args.given:
            given = args.value(table)
            if not isinstance(given, RecordV):
                raise fail(
                    "MI0301",
                    f"`{table}` of a graph is a record of columns",
                    args.expr(table).span,
                    label=f"this is a {given.kind}",
                    help="such as `nodes: { influence: x }`",
                )
            axes = [called(g.axis, n) for n in ends]
            for name, value in given.fields.items():
                new[name] = _column(name, as_tensor(value, args.expr(table).span), axes, args, table)
        found[table] = {**old, **new}
    if "nodes" in args.given and "kept" in found["nodes"]:
        kept, alive = found["edges"]["kept"], found["nodes"]["kept"]
        assert isinstance(kept, TensorV) and isinstance(alive, TensorV)
        for n in ENDS:
            kept = apply(
                "and", (kept, renamed(alive, g.axis, n, args.node.span)), args.node.span, kind="bool"
            )
        found["edges"]["kept"] = kept
    return made(g.axis, found["edges"], found["nodes"])


def _column(name: str, x: TensorV, axes: Sequence[Axis], args: Args, table: str) -> TensorV:
    span = args.expr(table).span
    if name == "kept" and x.type.kind != "bool":
        raise fail(
            "MI0301", "`kept` is a truth value", span, label=f"this is {x.type}", help="compare it: `x > 0`"
        )
    for axis in axes:
        own = x.type.axis(axis.name)
        if own is None:
            on = ", ".join(a.name for a in axes)
            raise fail(
                "MI0302",
                f"column `{name}` of `{table}` lies along {on}",
                span,
                label=f"this is {x.type}",
                help="take it from a column of the graph, or rename its axis: `rename(x, src: node)`",
            )
        if not own.same_as(axis):
            raise fail(
                "MI0303",
                f"column `{name}` is of other nodes than the graph",
                span,
                label=f"its `{axis.name}` belongs to another graph",
                help="take it from a column of this graph",
            )
    return x


# ---------------------------------------------------------------- several graphs, and parts of one


def joined(a: GraphV, b: GraphV, span: Span) -> GraphV:
    """``a | b``: nodes and edges of both by name; what both have adds up, and is kept if either keeps it."""
    if a.axis.labels is None or b.axis.labels is None:
        return unknown(node_axis(None), f"{_told(a, span)} {_told(b, span)}")
    axis = node_axis(tuple(map(str, dict.fromkeys((*a.axis.labels, *b.axis.labels)))))
    place = {n: i for i, n in enumerate(axis.labels or ())}

    def column(g: GraphV, table: str, name: str) -> TensorV:
        x = as_tensor(columns_of(g, table)[name], span)
        return _placed(x, g.axis, axis, [place[str(n)] for n in g.axis.labels or ()], table, span)

    found: dict[str, dict[str, Value]] = {}
    for table in ("edges", "nodes"):
        ours, theirs = columns_of(a, table), columns_of(b, table)
        if set(ours) != set(theirs):
            other = sorted(set(ours) ^ set(theirs))
            raise fail(
                "MI0303",
                f"these graphs have other {table}",
                span,
                label=f"only one of them has `{other[0]}`",
                help="give both the same columns, or join them before they get more",
            )
        found[table] = {}
        for name in ours:
            x, y = column(a, table, name), column(b, table, name)
            truth = x.type.kind == "bool"
            found[table][name] = apply("or" if truth else "add", (x, y), span, kind=x.type.kind)
    return made(axis, found["edges"], found["nodes"])


def _told(g: GraphV, span: Span) -> str:
    """The digests of a graph's columns, by which it is told: written out, what they share has no end."""
    columns = [columns_of(g, table) for table in ("edges", "nodes")]
    return " ".join(f"{n}={as_tensor(c[n], span).node.digest}" for c in columns for n in sorted(c))


def _placed(x: TensorV, old: Axis, new: Axis, at: Sequence[int], table: str, span: Span) -> TensorV:
    """A column of one graph as one of another, each node of it at its place there."""
    for name in ENDS if table == "edges" else ("node",):
        short = Axis(f"{name}~", "", new.size)
        x = spread(x, (name,), (short,), at, span)
        attrs = (("old", short.name), ("new", name))
        axes = tuple(called(new, name) if a.name == short.name else a for a in x.type.axes)
        t = TensorType(x.type.kind, axes, x.type.unit)
        x = TensorV(ir.Apply("rename", (x.node,), attrs, type=t, span=span))
    return x


def regroup(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``regroup(g, from: "{a}<{x}>", to: "{a}")``: nodes under other names; equal names are one node."""
    args = Args(e, "regroup", node, scope, ("g", "from", "to"))
    g = graph_of(args, "g")
    old, new = str(args.literal("from", str)), str(args.literal("to", str))
    if extra := set(fields_of(new)) - set(fields_of(old)):
        raise fail(
            "MI0302",
            f"`from` does not have `{{{min(extra)}}}`",
            args.expr("to").span,
            label="nothing tells what this is",
            help="name in `to` what `from` finds",
        )
    if g.axis.labels is None:
        return g
    found = pattern(old)
    names = []
    for label in map(str, g.axis.labels):
        match = found.fullmatch(label)
        names.append(filled(new, match.groupdict()) if match else label)
    axis = node_axis(tuple(dict.fromkeys(names)))
    if axis == g.axis:
        raise fail(
            "MI0402",
            f"no node is called `{old}`",
            args.expr("from").span,
            help=f"nodes are {', '.join(map(str, (g.axis.labels or ())[:6]))}, ..",
        )
    place = {n: i for i, n in enumerate(axis.labels or ())}
    at = [place[n] for n in names]
    tables: dict[str, dict[str, Value]] = {}
    for table in ("edges", "nodes"):
        tables[table] = {}
        for name, value in columns_of(g, table).items():
            x = as_tensor(value, node.span)
            if name != "kept":  # what does not count adds nothing
                x = _where_kept(g, table, x, node.span)
            tables[table][name] = _placed(x, g.axis, axis, at, table, node.span)
    return made(axis, tables["edges"], tables["nodes"])


def _where_kept(g: GraphV, table: str, x: TensorV, span: Span) -> TensorV:
    kept = as_tensor(columns_of(g, table)["kept"], span)
    zero = const(False if x.type.kind == "bool" else 0 if x.type.kind == "int" else 0.0, span)
    return apply("where", (kept, x, zero), span, kind=x.type.kind, unit=x.type.unit)


def called_so(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``named(g, "f{layer}.{i}")``: which nodes are called so, Bool[node]; `give`: what is in a brace."""
    args = Args(e, "named", node, scope, ("g", "like", "give"))
    g = graph_of(args, "g")
    like = str(args.literal("like", str))
    give = str(args.literal("give", str, "")) if "give" in args.given else ""
    if give and give not in fields_of(like):
        raise fail(
            "MI0302", f"`{like}` has no `{{{give}}}`", args.expr("give").span, help="name one of its braces"
        )
    if g.axis.labels is None:
        kind: Kind = "int" if give else "bool"
        attrs = (("name", f"named {like} {give}"),)
        return TensorV(ir.Extern("any", attrs, type=TensorType(kind, (g.axis,))))
    found = [pattern(like).fullmatch(str(n)) for n in g.axis.labels]
    if not any(found):
        raise fail(
            "MI0402",
            f"no node is called `{like}`",
            args.expr("like").span,
            help=f"nodes are {', '.join(map(str, g.axis.labels[:6]))}, ..",
        )
    if not give:
        return numbers([m is not None for m in found], g.axis, node.span)
    texts = [m[give] if m else "-1" for m in found]
    if any(not t.lstrip("-").isdigit() for t in texts):
        raise fail(
            "MI0301",
            f"`{{{give}}}` is no whole number everywhere",
            args.expr("give").span,
            label=f"such as `{next(t for t in texts if not t.lstrip('-').isdigit())}`",
            help="name a brace that stands for a number",
        )
    return numbers([int(t) for t in texts], g.axis, node.span)


def graph_of(args: Args, name: str) -> GraphV:
    """An argument that is a graph."""
    found = args.value(name)
    if not isinstance(found, GraphV):
        raise fail(
            "MI0301",
            f"`{name}` of `{args.fn}` is a Graph",
            args.expr(name).span,
            label=f"this is a {found.kind}",
            help=SUCH,
        )
    return found
