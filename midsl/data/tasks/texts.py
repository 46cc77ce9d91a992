"""Texts of a table, a row each, with what is known of them: what probes and judgements are made on."""

from __future__ import annotations

from collections.abc import Mapping

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.failures import Unusable
from midsl.data.records import pick, read_records


def texts(
    path: str,
    tokenizer: Tokenizer | None,
    text: str = "text",
    label: str = "",
    number: str = "",
    n: int = 0,
    ctx: int = 0,
    bos: bool = True,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Make one row of each text of a ``.csv`` (with a header), ``.jsonl`` or ``.parquet`` file.

    Args:
        text, label, number: which column of the file holds each; "" for none (`label` and `number` only).
        n: take the first `n` rows of the file; 0 takes all.
        ctx: the most tokens a row may have, the begin token included; longer ones are left out, never cut.
            0 sets no bound.
        bos: put the tokenizer's begin token first, where it has one.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        One side; columns `label` (label) and `number` (number), where they are asked for.

    Raises:
        MiError: MI0502 if no row can be used, MI0503 without a tokenizer, MI0504 if the file cannot be read,
            MI0511 if a column is missing or `ctx` is below 0.
    """
    known = need_tokenizer(tokenizer)
    need(ctx >= 0, f"ctx is {ctx}", "0 for any length, or the most tokens a row may have")
    given = {k: v for k, v in {"text": text, "label": label, "number": number}.items() if v}
    rows = pick(read_records(path, n), given, path)
    kinds: Kinds = {k: "label" if k == "label" else "number" for k in ("label", "number") if k in given}

    def make(row: Mapping[str, str]) -> Sides:
        tokens = known.encode(row["text"], bos)
        if ctx and len(tokens) > ctx:
            raise Unusable(f"the row has more than {ctx} tokens")
        cells: dict[str, Cell] = {}
        if "label" in kinds:
            cells["label"] = row["label"]
        if "number" in kinds:
            try:
                cells["number"] = float(row["number"])
            except ValueError:
                raise Unusable(f"{number!r} is {row['number']!r}, no number") from None
        return {"": Row(tokens, cells, row["text"])}

    return build_dataset(rows, make, kinds, known, split=split, seed=seed, provenance="real")
