"""Values as tables: a row for each point of the sweeps, and each index of the axes that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product, repeat
from typing import TYPE_CHECKING

import numpy as np
import torch

from midsl.ir import nodes as ir
from midsl.ir.types import TensorType
from midsl.oracle.domains import axis_of
from midsl.oracle.rows import both

if TYPE_CHECKING:
    from midsl.oracle.interp import Oracle


def table_of(
    o: Oracle,
    node: ir.Node,
    sweeps: Sequence[ir.Sweep],
    where: ir.Node | None = None,
    beside: Mapping[str, ir.Node] | None = None,
) -> tuple[dict[str, list[ir.Scalar]], np.ndarray]:
    """A value as a table: key columns, and one float64 value per row.

    Key columns are those of the free sweeps, then the remaining axes (`batch` is `example`). Padding and
    rows that cannot be used at a point give no row, nor does what `where` is false for; a reduction of
    nothing gives NaN. `beside` are further columns, of whole numbers: tokens by their ids.
    """
    t = node.tensor_type
    gone = {(a.name, a.owner): a for a in t.axes}
    free = [s for s in sweeps if any((a.name, a.owner) in gone for a in s.axes)]
    swept = {a.name for s in free for a in s.axes}
    own = tuple(a for a in t.axes if a.name not in swept)
    keys = {s.digest: [i for i in range(len(s.columns)) if axis_of(s, i).name in t.names] for s in free}
    columns = [s.columns[i] for s in free for i in keys[s.digest]]
    columns += ["example" if a.name == "batch" else a.name for a in own]
    columns += beside or {}
    rows: list[tuple[ir.Scalar, ...]] = []
    values: list[np.ndarray] = []
    done: set[tuple[ir.Scalar, ...]] = set()
    for choice in product(*(o.domains.matching(s, gone, {}) for s in free)):
        head = tuple(p[i] for s, p in zip(free, choice, strict=True) for i in keys[s.digest])
        if head in done:  # an axis of a sweep was reduced: points that differ along it are one
            continue
        done.add(head)
        point = {s.digest: p for s, p in zip(free, choice, strict=True)}
        x = o.value(node, point).permute_to([a.name for a in own])
        mask = o.rows.real(TensorType(axes=own), o.rows.usable(node, point))
        if where is not None:
            mask = both([mask, o.value(where, point)])
        keep = mask.expand(x.sizes).data if mask is not None else torch.ones_like(x.data, dtype=torch.bool)
        labels = [o.rows.labels(a, x.size(a.name)) for a in own]
        kept = keep.reshape(-1).numpy()
        found = [o.value(n, point).expand(x.sizes).data.reshape(-1).tolist() for n in (beside or {}).values()]
        more = zip(*found, strict=True) if found else repeat((), kept.size)
        every = zip(product(*labels), more, kept, strict=True)
        rows += [(*head, *tail, *others) for tail, others, k in every if k]
        values.append(x.data.detach().double().reshape(-1).numpy()[kept])
    table = {c: [r[i] for r in rows] for i, c in enumerate(columns)}
    return table, np.concatenate(values) if values else np.zeros(0)
