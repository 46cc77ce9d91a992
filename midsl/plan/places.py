"""The positions that an expression names one by one."""

from __future__ import annotations

from midsl.ir import nodes as ir


def positions_named(node: ir.Node) -> tuple[tuple[ir.Node, str], ...]:
    """Numbers and swept coordinates that an expression uses as positions, and what these are positions of."""
    found: dict[tuple[str, str], tuple[ir.Node, str]] = {}
    for n in ir.walk(node):
        pairs: list[tuple[str, ir.Node, str]] = []
        if isinstance(n, (ir.Read, ir.Grad)):
            pairs = [(name, index, n.run.data.owner) for name, index in n.site.select]
        elif isinstance(n, ir.Forward):
            pairs = [(name, index, n.data.owner) for e in n.edits for name, index in e.site.select]
        elif isinstance(n, ir.Select):
            pairs = [(n.axis.name, n.index, n.axis.owner)]
        for name, index, owner in pairs:
            single = isinstance(index, ir.Coord) or (
                isinstance(index, ir.Const) and isinstance(index.value, int)
            )
            if name in ("pos", "key_pos") and single:
                found[index.digest, owner] = (index, owner)
    free = {s.digest for s in ir.sweeps_of(node)}
    return tuple((i, o) for i, o in found.values() if not isinstance(i, ir.Coord) or i.sweep.digest in free)
