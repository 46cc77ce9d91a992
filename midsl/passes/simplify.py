"""simplify: what changes nothing is left out, and what is written out is called by its name.

On the program: an edit that writes what arrives (``s := self``), or what another one writes there too; edits
of a run that all write what stands there anyway (``s := r`` where `r` is the same run without them); a
product with one, a sum with zero; the change that an entry of a code makes through an affine decoder.
On the graph of a run (``midsl.graph.simplify``): an activation that a model spells in eight operations
becomes the one that computes it in a single pass over memory. Legal: the values are the same, those of the
graph to the last bits or nearly. Held back for edits where gradients are taken in an edited run: what is
written is a constant to them, even if it is what stands there anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.passes.base import Outcome
from midsl.sema import tensors
from midsl.sema.facts import Facts
from midsl.sema.values import TensorV

Rule = Callable[[ir.Node], ir.Node]


def simplify(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Apply the rules to each node, one after the other, bottom-up."""
    hits: dict[str, int] = {}
    taken = any(isinstance(n, ir.Grad) and n.run.edits for n in ir.walk(*program.roots))
    if taken:
        outcome.vetoes.append("gradients are taken in an edited run: its edits stay")

    def apply(node: ir.Node) -> ir.Node:
        for name, rule in RULES:
            if taken and rule in OF_EDITS:
                continue
            found = rule(node)
            if found is not node:
                hits[name] = hits.get(name, 0) + 1
                node = found
        return node

    done = program.rewrite(apply)
    outcome.hits = sum(hits.values())
    outcome.said = ", ".join(f"{name}: {n}" for name, n in hits.items()) or "nothing to leave out"
    return done


def _own_value(node: ir.Node) -> ir.Node:
    """Edits that write `self`."""
    if not isinstance(node, ir.Forward):
        return node
    kept = tuple(e for e in node.edits if not (isinstance(e.value, ir.Self) and _everywhere(e)))
    return node if len(kept) == len(node.edits) else replace(node, edits=kept)


def _written_twice(node: ir.Node) -> ir.Node:
    """Absolute writes of one value to one place: the last of them will do."""
    if not isinstance(node, ir.Forward):
        return node
    kept = tuple(e for i, e in enumerate(node.edits) if not (e.absolute and e in node.edits[i + 1 :]))
    return node if len(kept) == len(node.edits) else replace(node, edits=kept)


def _own_run(node: ir.Node) -> ir.Node:
    """Edits that all write what the same run has there without them."""
    if not isinstance(node, ir.Forward) or not node.edits:
        return node

    def same(edit: ir.Edit) -> bool:
        value = edit.value
        return (
            _everywhere(edit)
            and isinstance(value, ir.Read)
            and value.site == edit.site
            and not value.run.edits
            and (value.run.model, value.run.data) == (node.model, node.data)
        )

    return replace(node, edits=()) if all(map(same, node.edits)) else node


def _everywhere(edit: ir.Edit) -> bool:
    """Whether an edit is the same at all points and for all rows: else it decides which rows count."""
    at = edit.site.index("pos")
    numbered = isinstance(at, ir.Const) and isinstance(at.value, int)
    return not numbered and not ir.sweeps_of(edit)


def _nothing_added(node: ir.Node) -> ir.Node:
    """x + 0, x - 0, x * 1, x / 1, where x has the type of the whole."""
    if not isinstance(node, ir.Apply) or node.op not in NEUTRAL or len(node.args) != 2:
        return node
    neutral, either = NEUTRAL[node.op]
    left, right = node.args
    if isinstance(right, ir.Const) and right.value == neutral and left.type == node.type:
        return left
    if either and isinstance(left, ir.Const) and left.value == neutral and right.type == node.type:
        return right
    return node


def _difference(node: ir.Node) -> ir.Node:
    """decode(c with an entry changed) - decode(c) for an affine `decode`: the change times its direction."""
    if not isinstance(node, ir.Apply) or node.op != "sub":
        return node
    found = _minus(*node.args)
    same = found is not None and set(found.tensor_type.names) == set(node.tensor_type.names)
    return found if found is not None and same else node


def _minus(a: ir.Node, b: ir.Node) -> ir.Node | None:
    """a - b where both are the same sums and products of codes that differ in single entries."""
    if not isinstance(a, ir.Apply) or not isinstance(b, ir.Apply):
        return None
    if a.op == b.op == "add" and a.args[1] == b.args[1]:
        return _minus(a.args[0], b.args[0])
    if not (a.op == b.op == "dot" and a.attrs == b.attrs and a.args[1] == b.args[1]):
        return None
    (code, weights), old = a.args, b.args[0]
    over = dict(a.attrs)["over"]
    terms: list[ir.Node] = []
    while code != old:
        if not (isinstance(code, ir.Apply) and code.op == "put" and dict(code.attrs)["over"] == over):
            return None
        before, index, value = code.args
        here = _entry(before, str(over), index)
        change = tensors.apply("sub", (TensorV(value), here), a.span)
        terms.append(tensors.apply("mul", (change, _entry(weights, str(over), index)), a.span).node)
        code = before
    if not terms:
        return None
    total = TensorV(terms[-1])
    for t in reversed(terms[:-1]):
        total = tensors.apply("add", (total, TensorV(t)), a.span)
    return total.node


def _entry(x: ir.Node, over: str, index: ir.Node) -> TensorV:
    axis = x.tensor_type.axis(over)
    assert axis is not None
    extra = index.tensor_type.axes if isinstance(index, ir.Coord) else ()
    t = tensors.select_type(x.tensor_type, axis, index, extra, x.span)
    return TensorV(ir.Select(x, axis, index, type=t, span=x.span))


NEUTRAL: dict[str, tuple[int, bool]] = {
    "add": (0, True),
    "sub": (0, False),
    "mul": (1, True),
    "div": (1, False),
}
"""The number that an operation does nothing with, and whether it may stand on the left."""

RULES: tuple[tuple[str, Rule], ...] = (
    ("edits that write self", _own_value),
    ("writes repeated", _written_twice),
    ("runs patched with themselves", _own_run),
    ("nothing added", _nothing_added),
    ("single entries of a code", _difference),
)
OF_EDITS = (_own_value, _own_run)
"""Those that take an edit away."""
