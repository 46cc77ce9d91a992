"""The positions that an expression names one by one."""

from __future__ import annotations

from midsl.ir import nodes as ir

Named = dict[tuple[str, str], tuple[ir.Node, str]]
_NAMED: dict[str, Named] = {}


def positions_named(node: ir.Node) -> tuple[tuple[ir.Node, str], ...]:
    """Numbers and swept coordinates that an expression uses as positions, and what these are positions of."""
    found = ir.fold(node, _NAMED, _named)
    if not found:
        return ()
    free = {s.digest for s in ir.sweeps_of(node)}
    return tuple((i, o) for i, o in found.values() if not isinstance(i, ir.Coord) or i.sweep.digest in free)


def _named(n: ir.Node) -> Named:
    """Those of a node and of all below it, by digest of the index and owner."""
    pairs: list[tuple[str, ir.Node, str]] = []
    if isinstance(n, (ir.Read, ir.Grad)):
        pairs = [(name, index, n.run.data.owner) for name, index in n.site.select]
    elif isinstance(n, ir.Forward):
        pairs = [(name, index, n.data.owner) for e in n.edits for name, index in e.site.select]
    elif isinstance(n, ir.Select):
        pairs = [(n.axis.name, n.index, n.axis.owner)]
    found: Named = {}
    for child in n.children:
        below = _NAMED[child.digest]
        found = found | below if found and below else found or below  # most of them are those of one child
    own: Named = {}
    for name, index, owner in pairs:
        single = isinstance(index, ir.Coord) or (isinstance(index, ir.Const) and isinstance(index.value, int))
        if name in ("pos", "key_pos") and single:
            own[index.digest, owner] = (index, owner)
    return found | own if own else found
