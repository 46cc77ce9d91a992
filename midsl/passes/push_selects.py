"""push_selects: take only the positions, heads, features and vocabulary rows that are read.

``r.logits[pos: .end, vocab: .io]`` becomes a read of that one logit: the engine then gathers one
position of the final stream and multiplies it by one row of W_U, where the whole product would be
thrown away but for one number. Legal where the selection stands directly on a read, picks single
indices or lists, and the axis is not selected already. A logit is not taken by itself where something else
reads all logits there: the whole product is made anyway, and its last bits are others than those of one
row's, so that the greatest logit would not equal the greatest.
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.ir.types import TensorType
from midsl.passes.base import Outcome
from midsl.sema.facts import Facts


def push_selects(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Move selections into the sites of the reads they stand on."""
    pushed: set[str] = set()
    whole: frozenset[str] | None = None

    def push(node: ir.Node) -> ir.Node:
        if not (isinstance(node, ir.Select) and isinstance(node.arg, ir.Read)):
            return node
        read, axis = node.arg, node.axis
        if _one_logit(node):
            if whole is None:  # where all are read is known once positions are where they belong
                return node
            if read.digest in whole:
                outcome.vetoes.append("vocab of logits: all of them are read at the same place")
                return node
        if axis.name in ("batch", "layer") or read.site.index(axis.name) is not None:
            return node
        if axis.span:
            outcome.vetoes.append(
                f"{axis.name} of {read.site.name}: a stretch of the row is selected already"
            )
            return node
        if not _pushable(node.index):
            return node
        pushed.add(node.digest)
        site = read.site
        index = node.index
        new = ir.Site(
            site.model,
            site.name,
            (*site.select, (axis.name, index)),
            site.minus,
            type=site.type,
            span=site.span,
        )
        return ir.Read(read.run, new, type=node.type, span=node.span)

    done = program.rewrite(push)
    whole = _read_whole(done)
    done = done.rewrite(push)
    outcome.hits = len(pushed)
    outcome.said = f"{len(pushed)} selections moved into reads"
    return done


def _one_logit(node: ir.Node) -> bool:
    """Whether a node takes rows of the vocabulary from a read of logits."""
    return (
        isinstance(node, ir.Select)
        and node.axis.name == "vocab"
        and isinstance(node.arg, ir.Read)
        and node.arg.site.name == "logits"
        and _pushable(node.index)
    )


def _read_whole(program: Program) -> frozenset[str]:
    """Reads of logits of which something takes more than some rows of the vocabulary."""
    users = (n for n in ir.walk(*program.roots) if not _one_logit(n))
    reads = (c for n in users for c in n.children if isinstance(c, ir.Read))
    return frozenset(r.digest for r in reads if r.site.name == "logits")


def _pushable(index: ir.Node) -> bool:
    if isinstance(index, ir.Column):  # a span column keeps its axis, and stays outside
        return isinstance(index.type, TensorType) and index.name not in ("tokens", "next")
    return isinstance(index, (ir.Const, ir.Coord))
