"""read_self: what an edit computes of `self` alone is computed once, where no edit can have changed it.

An edit through an encoder (``sae.code[feature: f] := 0``, one lane a feature) needs the code of what arrives.
If lanes have no other edit of their own before that site, what arrives is what the run without swept edits
has there: the code is read off that run, once for all lanes. Legal where this edit is in one layer, and each
other swept edit in a later one, and for parts of the value that no sweep touches; done where they hold a
product, which is what costs.
Held back where a gradient goes through what edits write: a value of another run is a constant to it.
"""

from __future__ import annotations

from dataclasses import replace

from midsl.ir import nodes as ir
from midsl.ir.crossing import has_self, with_self
from midsl.ir.program import Program
from midsl.ir.types import TensorType
from midsl.passes.base import Outcome
from midsl.passes.narrow_positions import base_of
from midsl.sema.facts import Facts


def read_self(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Read parts of edits off the base run."""

    if any(isinstance(n, ir.Grad) and n.through for n in ir.walk(*program.roots)):
        outcome.vetoes.append("a gradient goes through what edits write")
        outcome.said = "0 edits read what they compute of `self` off the run without them"
        return program

    def settle(node: ir.Node) -> ir.Node:
        if not isinstance(node, ir.Forward) or not ir.sweeps_of(node):
            return node
        edits = []
        for edit in node.edits:
            parts = [p for p in _parts(edit.value) if not isinstance(p, ir.Self)]
            if not parts:
                edits.append(edit)
                continue
            why = _veto(node, edit)
            if why:
                outcome.vetoes.append(f"{edit.site.name}: {why}")
                edits.append(edit)
                continue
            outcome.hits += 1
            edits.append(replace(edit, value=_read_off(edit, parts, base_of(node))))
        return replace(node, edits=tuple(edits))

    done = program.rewrite(settle)
    outcome.said = f"{outcome.hits} edits read what they compute of `self` off the run without them"
    return done


def _parts(node: ir.Node) -> list[ir.Node]:
    """The largest parts of a value that depend on `self` and on no sweep, and hold a product."""
    if not has_self(node):
        return []
    if not ir.sweeps_of(node):
        return [node] if any(isinstance(n, ir.Apply) and n.op == "dot" for n in ir.walk(node)) else []
    return [p for c in node.children for p in _parts(c)]


def _veto(run: ir.Forward, edit: ir.Edit) -> str:
    if ir.sweeps_of(edit.site):
        return "the site is swept"
    base = base_of(run)
    if base is None:
        return "each lane begins with a state of its own"
    here = edit.site.index("layer")
    if here is not None and not (isinstance(here, ir.Const) and isinstance(here.value, int)):
        return "it stands in several layers, and in each changes what arrives at the next"
    for other in run.edits:
        if other == edit or other in base.edits:
            continue
        there = other.site.index("layer")
        known = isinstance(here, ir.Const) and isinstance(there, ir.Const)
        if not known or not _number(here) < _number(there):
            return f"the edit at {other.site.name} may come before"
    return ""


def _number(index: ir.Node | None) -> int:
    assert isinstance(index, ir.Const)
    value = index.value
    return min(value) if isinstance(value, tuple) else value  # type: ignore[type-var,return-value]


def _read_off(edit: ir.Edit, parts: list[ir.Node], base: ir.Forward | None) -> ir.Node:
    assert base is not None
    memo: dict[str, ir.Node] = {}

    def go(n: ir.Node) -> ir.Node:
        if n in parts:
            me = next(s for s in ir.walk(n) if isinstance(s, ir.Self))
            assert isinstance(me.type, TensorType)
            return with_self(n, ir.Read(base, edit.site, type=me.type, span=edit.span))
        if not has_self(n) or isinstance(n, ir.Self):
            return n
        if n.digest not in memo:
            memo[n.digest] = n.map_children(go)
        return memo[n.digest]

    return go(edit.value)
