"""Prompts of a table as a chat model gets them: each row a conversation in the tokenizer's own template."""

from __future__ import annotations

from collections.abc import Mapping

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.failures import Unusable
from midsl.data.records import pick, read_records

ROLES = ("system", "user", "assistant")


def prompts(
    path: str,
    tokenizer: Tokenizer | None,
    chat: Mapping[str, str | bool],
    label: str = "",
    n: int = 0,
    ctx: int = 0,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Make one row of each conversation of a ``.csv`` (with a header), ``.jsonl`` or ``.parquet`` file.

    Args:
        chat: role to the column that holds what it says, in the order of the conversation; and
            ``generation_prompt: true`` to end where the model's answer begins. No begin token is put in
            front: the template writes its own.
        label: the column of the label; "" for none.
        n: take the first `n` rows of the file; 0 takes all.
        ctx: the most tokens a row may have; longer ones are left out, never cut. 0 sets no bound.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        One side; a Span column by the name of each role (the tokens of what it says), `label`.

    Raises:
        MiError: MI0502 if no row can be used, MI0503 without a tokenizer, MI0504 if the file cannot be read,
            MI0510 for a damaged template, MI0511 if a column is missing, a role is unknown, or the tokenizer
            has no chat template.
    """
    known = need_tokenizer(tokenizer)
    template = getattr(known, "chat", None)
    offsets = getattr(known, "offsets", None)
    need(
        template is not None and offsets is not None,
        "the tokenizer has no chat template",
        "take that of a chat model, or make plain rows with `texts`",
    )
    need(ctx >= 0, f"ctx is {ctx}", "0 for any length, or the most tokens a row may have")
    asked = chat.get("generation_prompt", False)
    columns = {role: column for role, column in chat.items() if role != "generation_prompt"}
    need(isinstance(asked, bool), "generation_prompt is true or false")
    for role, column in columns.items():
        need(role in ROLES, f"`{role}` is no role of a conversation", f"roles: {', '.join(ROLES)}")
        need(isinstance(column, str), f"`{role}` names a column of the file", "such as `user: .question`")
    need(bool(columns), "nobody says anything", "such as `chat: { user: .question }`")
    given = {**{k: str(v) for k, v in columns.items()}, **({"label": label} if label else {})}
    rows = pick(read_records(path, n), given, path)
    kinds: Kinds = {**dict.fromkeys(columns, "span"), **({"label": "label"} if label else {})}

    def make(row: Mapping[str, str]) -> Sides:
        messages = [{"role": r, "content": row[r]} for r in columns]
        text = template.render(messages, asked)  # type: ignore[union-attr]
        tokens, where = offsets(text)  # type: ignore[misc]
        if ctx and len(tokens) > ctx:
            raise Unusable(f"the row has more than {ctx} tokens")
        cells: dict[str, Cell] = {"label": row["label"]} if label else {}
        at = 0
        for role in columns:
            said = row[role] if row[role] in text else row[role].strip()
            first = text.find(said, at)
            if first < 0 or not said:
                raise Unusable(f"the template does not write what the {role} says as it is")
            at = first + len(said)
            inside = [i for i, (a, b) in enumerate(where) if a < at and b > first]
            if not inside:
                raise Unusable(f"what the {role} says has no token")
            cells[role] = (inside[0], inside[-1] + 1)
        return {"": Row(tokens, cells, text)}

    return build_dataset(rows, make, kinds, known, split=split, seed=seed, provenance="real")
