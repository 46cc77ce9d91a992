"""From rows to a data set: the one place where rows are checked, counted, padded, split and hashed.

A task says how to make one row; a row that cannot be used raises `Unusable` there and is counted here.
What must hold for every data set (equal lengths of paired rows, disjoint splits, one kind per column)
is decided once, so that no task can forget it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from midsl.data.dataset import Column, ColumnKind, Dataset, Ineligible, Ints, Part, Tokenizer
from midsl.data.draw import Draws
from midsl.data.failures import Unencodable, Unusable
from midsl.diagnostics.model import MiError, fail

T = TypeVar("T")
Cell = int | float | str | tuple[int, int]
Mismatched = Literal["error", "leave_out"]
Kinds = Mapping[str, ColumnKind]
AUTOMATIC: Kinds = {"start": "pos", "end": "pos"}
"""Columns of every part: the row's first and last position."""
PAIRED: Kinds = {"changed": "span", "changed_end": "pos"}
"""Columns of paired parts: the stretch from the first to the last position where the rows differ; its end."""


@dataclass(frozen=True)
class Row:
    """One side of one row: its tokens, a cell per column, and the text they came from, if any."""

    tokens: Sequence[int]
    columns: Mapping[str, Cell] = field(default_factory=dict)
    text: str = ""


Sides = Mapping[str, Row]


def build_dataset(
    items: Iterable[T],
    make: Callable[[T], Sides],
    kinds: Kinds,
    tokenizer: Tokenizer,
    *,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
    provenance: str = "synthetic",
    mismatched: Mismatched = "leave_out",
) -> Dataset:
    """Make a data set, one row per item.

    Args:
        items: whatever a row is made from.
        make: gives each side of a row, ``{"": row}`` or ``{"clean": row, "corrupt": row}``; raises
            `Unusable` (or `Unencodable`) where there is no such row.
        kinds: the columns that every row has; `AUTOMATIC` and `PAIRED` are added here.
        tokenizer: made the tokens; messages show them with it.
        split: name to fraction of the rows that were kept; rows beyond the sum belong to no split.
        seed: decides which row goes into which split.
        mismatched: whether a row whose sides differ in length is an error or is left out.

    Returns:
        The data set; every part has int64 tokens [batch, pos], padded on the right with 0.

    Raises:
        MiError: MI0501 for sides of unequal length (one row with "error", every row with "leave_out"),
            MI0502 if no row is left, MI0511 if there are no items or the split cannot be made.
    """
    kept: list[Sides] = []
    left_out: list[Ineligible] = []
    unequal: list[tuple[int, Sides]] = []
    total = 0
    for total, item in enumerate(items, 1):
        try:
            sides = make(item)
            if len({len(row.tokens) for row in sides.values()}) > 1:
                unequal.append((total - 1, sides))
                counts = ", ".join(f"{name} {len(row.tokens)}" for name, row in sides.items())
                raise Unusable(f"the sides differ in length ({counts} tokens)")
            kept.append(_finished(sides, kinds))
        except (Unusable, Unencodable) as why:
            reason = why.diagnostics[0].message if isinstance(why, Unencodable) else str(why)
            left_out.append(Ineligible(total - 1, reason))
    if total == 0:
        raise fail("MI0511", "a data set of no rows", help="give at least one row")
    if unequal and (mismatched == "error" or len(unequal) == total):
        raise _unequal(tokenizer, *unequal[0], len(unequal), total)
    if not kept:
        raise _none_left(left_out, total)
    all_kinds = {**AUTOMATIC, **(PAIRED if len(kept[0]) > 1 else {}), **kinds}
    sides_out = {name: _part([row[name] for row in kept], all_kinds) for name in kept[0]}
    splits = make_splits(len(kept), split or {}, seed, taken={*sides_out, *all_kinds})
    return Dataset(
        sides_out, splits, total, tuple(left_out), provenance, dataset_fingerprint(sides_out, splits)
    )


def _finished(sides: Sides, kinds: Kinds) -> Sides:
    """Add the automatic columns and check that the row is what the builder promises."""
    rows = list(sides.values())
    length = len(rows[0].tokens)
    if length == 0:
        raise Unusable("the row has no token")
    automatic: dict[str, Cell] = {"start": 0, "end": length - 1}
    if len(rows) > 1:
        at = [i for i, tokens in enumerate(zip(*(r.tokens for r in rows), strict=True)) if len({*tokens}) > 1]
        if not at:
            raise Unusable(f"{' and '.join(sides)} are the same")
        automatic |= {"changed": (at[0], at[-1] + 1), "changed_end": at[-1]}
    for row in rows:
        if row.columns.keys() != kinds.keys():
            raise ValueError(f"a row has columns {sorted(row.columns)}, not {sorted(kinds)}")
        for name, kind in kinds.items():
            cell: Any = row.columns[name]
            inside = {"pos": lambda c: 0 <= c < length, "span": lambda c: 0 <= c[0] <= c[1] <= length}
            if kind in inside and not inside[kind](cell):
                raise ValueError(f"column {name}: {cell} is outside a row of {length}")
    return {name: Row(r.tokens, {**automatic, **r.columns}, r.text) for name, r in sides.items()}


def _part(rows: list[Row], kinds: Kinds) -> Part:
    lengths = np.array([len(r.tokens) for r in rows], np.int64)
    tokens = np.zeros((len(rows), int(lengths.max())), np.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row.tokens)] = row.tokens
    columns = {}
    for name, kind in kinds.items():
        cells = [r.columns[name] for r in rows]
        if kind == "label":
            columns[name] = Column(kind, [str(c) for c in cells])
        elif kind == "number":
            columns[name] = Column(kind, np.array(cells, np.float64))
        else:
            columns[name] = Column(kind, np.array(cells, np.int64))
    texts = [r.text for r in rows] if any(r.text for r in rows) else []
    return Part(tokens, lengths, columns, texts)


def make_splits(
    rows: int, split: Mapping[str, float], seed: int, taken: Iterable[str] = ()
) -> dict[str, Ints]:
    """Deal rows to named splits: disjoint, seeded, each in the order of the rows.

    Raises:
        MiError: MI0511 if a fraction is no number in (0, 1], they sum to more than 1, a split would be
            empty, or its name is that of a side or a column.
    """
    for name, part in split.items():
        if isinstance(part, bool) or not isinstance(part, (int, float)) or not 0 < part <= 1:
            raise fail("MI0511", f"split `{name}` is {part!r}", help="a split is a fraction above 0, up to 1")
        if name in taken:
            raise fail("MI0511", f"split `{name}` has the name of a column or side", help="rename it")
    if sum(split.values()) > 1 + 1e-9:
        raise fail(
            "MI0511", f"the splits sum to {sum(split.values()):g}", help="fractions sum to 1, or to less"
        )
    order = Draws(seed, "split").shuffle(rows) if split else []
    out: dict[str, Ints] = {}
    done = 0.0
    for name, part in split.items():
        lo, done = round(done * rows), done + part
        out[name] = np.sort(np.array(order[lo : min(round(done * rows), rows)], np.int64))
        if not len(out[name]):
            raise fail(
                "MI0511", f"split `{name}` gets none of {rows} rows", help="use more rows or a larger share"
            )
    return out


def dataset_fingerprint(sides: Mapping[str, Part], splits: Mapping[str, Ints]) -> str:
    """Return the sha256 of tokens, columns and splits."""
    digest = hashlib.sha256()

    def add(label: list[str], values: Any) -> None:
        if isinstance(values, list):
            digest.update(json.dumps([label, values]).encode())
        else:
            digest.update(json.dumps([label, str(values.dtype), values.shape]).encode())
            digest.update(np.ascontiguousarray(values).tobytes())

    for side, part in sorted(sides.items()):
        add([side, "tokens"], part.tokens)
        add([side, "lengths"], part.lengths)
        for name, column in sorted(part.columns.items()):
            add([side, "column", name, column.kind], column.values)
    for name, rows in sorted(splits.items()):
        add(["split", name], rows)
    return digest.hexdigest()


def first_rows(rows: Dataset, n: int) -> Dataset:
    """The first `n` rows of a data set, with the splits that they are in.

    Raises:
        MiError: MI0511 if a split has none of them.
    """
    kept = np.arange(min(n, len(next(iter(rows.sides.values())))), dtype=np.int64)
    sides = {}
    for name, part in rows.sides.items():
        some = part.take(kept)
        sides[name] = Part(some.tokens, some.lengths, some.columns, part.texts[: len(kept)], part.ids)
    splits = {name: at[at < len(kept)] for name, at in rows.splits.items()}
    empty = next((name for name, at in splits.items() if not len(at)), None)
    need(empty is None, f"split `{empty}` has none of the first {n} rows", "take more rows")
    print_ = dataset_fingerprint(sides, splits)
    return Dataset(sides, splits, rows.rows_total, rows.ineligible, rows.provenance, print_)


# ---------------------------------------------------------------- what tasks ask for


def need_tokenizer(tokenizer: Tokenizer | None) -> Tokenizer:
    """Return the tokenizer, or refuse: MI0503."""
    if tokenizer is None:
        raise fail("MI0503", "the model has no tokenizer", help="give the model one: `tokenizer: ...`")
    return tokenizer


def need(condition: bool, message: str, help: str = "") -> None:
    """Refuse arguments that make no data set: MI0511."""
    if not condition:
        raise fail("MI0511", message, help=help)


def one_token(tokenizer: Tokenizer, text: str, what: str) -> int:
    """Return the id of a text that must be one token.

    Raises:
        Unusable: it is empty or several tokens, which the reason shows.
    """
    if not text:
        raise Unusable(f"{what} is empty")
    found = tokenizer.single(text)
    if found is None:
        pieces = [tokenizer.token(i) for i in tokenizer.pieces(text)]
        if len(pieces) == 1:
            raise Unusable(f"{what} {text!r} is not in the vocabulary")
        raise Unusable(f"{what} {text!r} is {len(pieces)} tokens: {show_tokens(pieces)}")
    return found


def locate(tokenizer: Tokenizer, text: str, start: int, stop: int, bos: bool) -> tuple[int, int]:
    """Return the positions (first, past the last) of ``text[start:stop]`` in the encoded text.

    Exact: the text up to either end must encode to the first tokens of the whole.

    Raises:
        Unusable: a token reaches across one of the ends.
    """
    whole = tokenizer.encode(text, bos)
    ends = []
    for end in (start, stop):
        head = tokenizer.encode(text[:end], bos)
        if whole[: len(head)] != head:
            raise Unusable(f"{text[start:stop]!r} does not stand on token borders")
        ends.append(len(head))
    return ends[0], ends[1]


def show_tokens(texts: Sequence[str], near: int = 0, most: int = 16) -> str:
    """Return tokens as a line of quoted texts, at most `most` of them around index `near`."""
    first = max(0, min(near - most // 2, len(texts) - most))
    shown = [repr(t) for t in texts[first : first + most]]
    return f"{'... ' if first else ''}{' '.join(shown)}{' ...' if first + most < len(texts) else ''}"


def _unequal(tokenizer: Tokenizer, index: int, sides: Sides, bad: int, total: int) -> MiError:
    """The error for a row whose sides differ in length, with the tokens where they part."""
    rows = [list(r.tokens) for r in sides.values()]
    least = min(len(r) for r in rows)
    near = next((i for i in range(least) if len({r[i] for r in rows}) > 1), least)
    shown = (
        f"{name}: {show_tokens([tokenizer.token(t) for t in row.tokens], near)}"
        for name, row in sides.items()
    )
    counts = " and ".join(str(len(r)) for r in rows)
    many = f" ({bad} of {total} rows differ)" if bad > 1 else ""
    return fail(
        "MI0501",
        f"row {index}: {' and '.join(sides)} have {counts} tokens{many}",
        label="paired rows share their positions",
        help="\n".join(("use words of as many tokens on both sides", *shown)),
    )


def _none_left(left_out: Sequence[Ineligible], total: int) -> MiError:
    common = Counter(r.reason for r in left_out).most_common(3)
    lines = "\n".join(f"{count} x {reason}" for reason, count in common)
    return fail("MI0502", f"none of the {total} rows can be used", help=f"the commonest reasons:\n{lines}")
