"""What the executor hands to the store: plain rows that know nothing of DuckDB.

A `ResultTable` is checked when it is built, so that a table whose columns clash or whose lengths
differ is refused where it was made and not in the middle of a write.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail

Key = int | float | str | bool | None
VALUE_COLUMNS = ("value", "n", "se")


def clash(names: Iterable[str]) -> str | None:
    """Return the first name that repeats an earlier one, letter case aside as in SQL; else None.

    >>> clash(["layer", "head", "Layer"])
    'Layer'
    """
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            return name
        seen.add(name.casefold())
    return None


@dataclass(frozen=True, eq=False)
class ResultTable:
    """One report of one experiment, one row per point.

    Attributes:
        keys: key columns in order (layer, head, pos, example, src_layer, dose, ...), each [rows].
        value, se: float64 [rows]; NaN is stored as NULL. n: int64 [rows], what each value is over.
        unit: of `value`.
        n_total: data rows there were before ineligible ones were left out, where that is known.

    Raises:
        MI0313: two columns share a name. MI0901: columns of different lengths.
    """

    experiment: str
    report: str
    keys: Mapping[str, Sequence[Key]]
    value: NDArray[np.float64]
    n: NDArray[np.int64]
    se: NDArray[np.float64]
    unit: str = ""
    n_total: int | None = None

    def __post_init__(self) -> None:
        twice = clash([*self.keys, *VALUE_COLUMNS])
        if twice is not None:
            raise fail(
                "MI0313",
                f"`{self.title}` has two columns called `{twice}`",
                help="rename a swept variable, or give it a prefix with `as`",
            )
        shapes = {"value": self.value.shape, "n": self.n.shape, "se": self.se.shape}
        shapes |= {name: (len(values),) for name, values in self.keys.items()}
        if set(shapes.values()) != {(len(self.value),)}:
            raise fail("MI0901", f"`{self.title}` has columns of different lengths: {shapes}", exit_code=1)

    def __len__(self) -> int:
        return len(self.value)

    @property
    def title(self) -> str:
        return f"{self.experiment}.{self.report}"

    @property
    def columns(self) -> list[str]:
        """Names of all columns, as the report's view has them."""
        return [*self.keys, *VALUE_COLUMNS]

    def rows(self, indices: Iterable[int] | None = None) -> list[tuple[Key, ...]]:
        """Return rows as Python values, NaN as None."""
        picked = range(len(self)) if indices is None else indices
        value, se = ([None if np.isnan(v) else float(v) for v in a] for a in (self.value, self.se))
        return [(*(k[i] for k in self.keys.values()), value[i], int(self.n[i]), se[i]) for i in picked]


@dataclass(frozen=True)
class CheckRow:
    """A claim and how it came out; `observed` says what its operands were.

    `kind` is "expect", or "verify" where the claim is that plan and oracle agree on a report.
    """

    experiment: str
    text: str
    message: str
    passed: bool
    observed: str
    line: int
    kind: str = "expect"


@dataclass(frozen=True)
class CellRow:
    """One step of the plan as it was executed, with its cost."""

    node_key: str
    name: str
    kind: str
    status: str
    reused_from: str | None
    seconds: float
    cpu_seconds: float
    forwards: int
    layer_tokens: float
    flops: int
    bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class LossRow:
    """The loss of one step of a fit, before that step was taken."""

    fit: str
    node_key: str
    step: int
    loss: float


@dataclass(frozen=True)
class Artifact:
    """Something that is no table: a plot (Vega-Lite JSON), tensors (safetensors), a page (html).

    Either `path`, a file that the store copies into the run's folder, or `text`, kept in the table.
    """

    kind: str
    name: str
    path: Path | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.text is None):
            raise fail("MI0901", f"artifact `{self.name}` needs either a path or a text", exit_code=1)


@dataclass(frozen=True)
class Viewed:
    """What a `view` shows: a small table beside the results, kept as it is, and no table of the store."""

    experiment: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def as_json(self) -> dict[str, Any]:
        rows = [list(r) for r in self.rows]
        of = {"experiment": self.experiment, "view": self.title}
        return {**of, "columns": list(self.columns), "rows": rows}

    def artifact(self) -> Artifact:
        """What the store keeps of it."""
        return Artifact("view", f"{self.experiment}.{self.title}", text=json.dumps(self.as_json()))

    @classmethod
    def of(cls, text: str) -> Viewed:
        """What the store has kept of it."""
        held = json.loads(text)
        rows = [tuple(r) for r in held["rows"]]
        return cls(held["experiment"], held["view"], tuple(held["columns"]), rows)
