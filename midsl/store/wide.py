"""Columns of a table side by side: reports ``quality.l0`` and ``quality.size`` as one table ``quality``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from midsl.store.rows import Key, ResultTable


@dataclass(frozen=True, eq=False)
class WideTable:
    """A table of a spec, or one of the two of a graph.

    Attributes:
        name: what it is called in its experiment.
        parts: its columns by name, each as the report that it is stored as; they have the same keys.
    """

    experiment: str
    name: str
    parts: Mapping[str, ResultTable] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.experiment}.{self.name}"

    @property
    def first(self) -> ResultTable:
        return next(iter(self.parts.values()))

    def __len__(self) -> int:
        return len(self.first)

    @property
    def columns(self) -> list[str]:
        """Keys, then values."""
        return [*self.first.keys, *self.parts]

    def rows(self, indices: Iterable[int] | None = None) -> list[tuple[Key, ...]]:
        """Rows as Python values, NaN as None."""
        keys = list(self.first.keys)
        found = [{row[:-1]: row[-1] for row in _by_key(t, keys)} for t in self.parts.values()]
        points = [row[:-1] for row in _by_key(self.first, keys)]
        picked = range(len(points)) if indices is None else indices
        return [(*points[i], *(column.get(points[i]) for column in found)) for i in picked]


def _by_key(table: ResultTable, keys: Sequence[str]) -> list[tuple[Key, ...]]:
    values = [None if np.isnan(v) else float(v) for v in table.value]
    return list(zip(*(table.keys[k] for k in keys), values, strict=True))


def side_by_side(tables: Sequence[ResultTable]) -> list[ResultTable | WideTable]:
    """Reports in order, those that are columns of one table together, where the first of them stands."""
    found: dict[tuple[str, str], ResultTable | WideTable] = {}
    for t in tables:
        name, is_column, column = t.report.partition(".")
        if not is_column:
            found[t.experiment, t.report] = t
            continue
        known = found.get((t.experiment, name))
        parts = known.parts if isinstance(known, WideTable) else {}
        found[t.experiment, name] = WideTable(t.experiment, name, {**parts, column: t})
    return list(found.values())
