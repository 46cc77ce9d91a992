"""Prompts written in the spec, or read from a table: each with its corrupt twin, answer and wrong answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from midsl.data.build import Kinds, Mismatched, Row, Sides, build_dataset, need, need_tokenizer, one_token
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.records import pick, read_records


def pairs(
    tokenizer: Tokenizer | None,
    clean: Sequence[str],
    corrupt: Sequence[str],
    answer: Sequence[str],
    wrong: Sequence[str] = (),
    label: Sequence[str] = (),
    bos: bool = True,
    mismatched: Mismatched = "error",
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Make clean/corrupt pairs of prompts, one of each per row.

    Args:
        clean, corrupt: the prompts; those of a row must be equally many tokens long.
        answer: what should follow the clean prompt, one token with its space (``" She"``).
        wrong: what the answer is compared with, one token; without it there is no such column.
        label: any group to which a row belongs; without it there is no such column.
        bos: put the tokenizer's begin token first, where it has one.
        mismatched: "error" refuses prompts of unequal length, "leave_out" leaves those rows out.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        Sides clean and corrupt; columns `answer`, `wrong` (token), `label`, all the same on both sides,
        and `changed` (span), `changed_end` (pos): where the two prompts differ.

    Raises:
        MiError: MI0501 for prompts of unequal length, MI0502 if no row can be used, MI0503 without a
            tokenizer, MI0511 for lists of unequal length or an unknown `mismatched`.
    """
    lists = {"clean": clean, "corrupt": corrupt, "answer": answer}
    lists |= {k: v for k, v in {"wrong": wrong, "label": label}.items() if v}
    for name, values in lists.items():
        need(
            not isinstance(values, str) and all(isinstance(v, str) for v in values),
            f"`{name}` is not a list of strings",
        )
    counts = ", ".join(f"{name} {len(values)}" for name, values in lists.items())
    need(
        len({len(v) for v in lists.values()}) == 1, f"lists of unequal length: {counts}", "one entry per row"
    )
    rows = [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
    return _paired(need_tokenizer(tokenizer), rows, bos, mismatched, split, seed, "synthetic")


def table(
    path: str,
    tokenizer: Tokenizer | None,
    clean: str = "clean",
    corrupt: str = "corrupt",
    answer: str = "answer",
    wrong: str = "",
    label: str = "",
    n: int = 0,
    bos: bool = True,
    mismatched: Mismatched = "error",
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Make `pairs` from the columns of a ``.csv`` (with a header), ``.jsonl`` or ``.parquet`` file.

    Args:
        path: the file, UTF-8.
        clean, corrupt, answer, wrong, label: which column of the file holds each; "" for none (`wrong` and
            `label` only).
        n: take the first `n` rows of the file; 0 takes all.
        bos, mismatched, split, seed: as in `pairs`.

    Raises:
        MiError: as `pairs`; MI0504 if the file cannot be read or a line is damaged, MI0511 if it is
            none of the three by its name or lacks a column.
    """
    named = {"clean": clean, "corrupt": corrupt, "answer": answer, "wrong": wrong, "label": label}
    wanted = {k: v for k, v in named.items() if v or k in ("clean", "corrupt", "answer")}
    rows = pick(read_records(path, n), wanted, path)
    return _paired(need_tokenizer(tokenizer), rows, bos, mismatched, split, seed, "real")


def _paired(
    tokenizer: Tokenizer,
    rows: list[dict[str, str]],
    bos: bool,
    mismatched: Mismatched,
    split: Mapping[str, float] | None,
    seed: int,
    provenance: str,
) -> Dataset:
    need(mismatched in ("error", "leave_out"), f"mismatched: {mismatched!r}", '"error" or "leave_out"')
    optional: Kinds = {"wrong": "token", "label": "label"}
    kinds: Kinds = {"answer": "token", **{k: v for k, v in optional.items() if rows and k in rows[0]}}

    def make(row: dict[str, str]) -> Sides:
        cells: dict[str, Any] = {
            name: one_token(tokenizer, row[name], name) if kind == "token" else row[name]
            for name, kind in kinds.items()
        }
        return {s: Row(tokenizer.encode(row[s], bos), cells, row[s]) for s in ("clean", "corrupt")}

    return build_dataset(
        rows, make, kinds, tokenizer, split=split, seed=seed, provenance=provenance, mismatched=mismatched
    )
