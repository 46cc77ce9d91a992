"""Data sets as the rest of midsl sees them: token rows, padded on the right, with named columns.

Position 0 of a row is its first real token; padding stands at the end and has no coordinate. All
parts of a data set (clean, corrupt) share rows and positions: row i of each has the same length.
Rows that cannot be used are left out here, with a reason, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
ColumnKind = Literal["token", "pos", "span", "label", "number", "state"]


class Tokenizer(Protocol):
    """What midsl needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def bos_id(self) -> int | None: ...

    @property
    def eos_id(self) -> int | None: ...

    @property
    def special_ids(self) -> frozenset[int]:
        """Tokens that stand for no text: begin, end, unknown, padding."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 of the vocabulary and rules."""
        ...

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Token ids of a text; with `bos`, the beginning-of-sequence token first where there is one."""
        ...

    def pieces(self, text: str) -> list[int]:
        """Token ids of a text as it stands inside a longer one: no special token, no space added."""
        ...

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens left out."""
        ...

    def token(self, id: int) -> str:
        """One token as readable text (a leading space kept)."""
        ...

    def single(self, text: str) -> int | None:
        """The id of a text that is exactly one token, else None; no space is added or taken away."""
        ...


@dataclass(frozen=True)
class Column:
    """A named column, one entry per row.

    `values`: token, pos: int64 [batch]; span: int64 [batch, 2] (first, past-the-end);
    number: float64 [batch]; state: float64 [batch, d_state]; label: a list of str.
    """

    kind: ColumnKind
    values: Ints | NDArray[np.float64] | list[str]


@dataclass(frozen=True)
class Part:
    """One side of a data set: what a run runs on.

    tokens: int64 [batch, pos], padded on the right with 0; lengths: int64 [batch]; ids: int64 [batch], the
    numbers of its rows in the whole data set, where they are not 0, 1, ...
    """

    tokens: Ints
    lengths: Ints
    columns: dict[str, Column]
    texts: list[str] = field(default_factory=list)
    ids: Ints | None = None

    @property
    def examples(self) -> Ints:
        """The numbers of its rows in the whole data set."""
        return np.arange(len(self), dtype=np.int64) if self.ids is None else self.ids

    def take(self, rows: Ints) -> Part:
        """Some of the rows, in that order."""
        columns = {
            n: Column(c.kind, [c.values[i] for i in rows] if isinstance(c.values, list) else c.values[rows])
            for n, c in self.columns.items()
        }
        return Part(self.tokens[rows], self.lengths[rows], columns)

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Ineligible:
    """A row that was left out, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class Dataset:
    """All rows of a data set, its sides, and how its rows are split.

    Attributes:
        sides: name to part; ``{"": part}`` for a data set with one side.
        splits: name to row indices (into the rows that were kept); empty if not split.
        rows_total: rows before ineligible ones were left out.
        provenance: "real", "synthetic", "generated" or "planted".
        fingerprint: sha256 of tokens, columns and splits.
    """

    sides: dict[str, Part]
    splits: dict[str, Ints] = field(default_factory=dict)
    rows_total: int = 0
    ineligible: tuple[Ineligible, ...] = ()
    provenance: str = "synthetic"
    fingerprint: str = ""

    def part(self, side: str, split: str = "") -> Part:
        """Return one side, restricted to a split where one is named."""
        whole = self.sides[side]
        if not split:
            return whole
        rows = self.splits[split]
        columns = {
            name: Column(
                c.kind, [c.values[i] for i in rows] if isinstance(c.values, list) else c.values[rows]
            )
            for name, c in whole.columns.items()
        }
        texts = [whole.texts[i] for i in rows] if whole.texts else []
        return Part(whole.tokens[rows], whole.lengths[rows], columns, texts, rows)
