"""Facts as prompts: a subject in a template, and one token that is true of it.

Each fact is asked beside another of the same template and length that has another answer, which is what
patching from one to the other needs. Rows that find no such partner are left out, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, locate, need, need_tokenizer, one_token
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.failures import Unencodable, Unusable
from midsl.data.records import pick, read_records

CAPITALS = (
    ("France", "Paris"), ("Germany", "Berlin"), ("Italy", "Rome"), ("Spain", "Madrid"),
    ("Portugal", "Lisbon"), ("England", "London"), ("Ireland", "Dublin"), ("Greece", "Athens"),
    ("Austria", "Vienna"), ("Hungary", "Budapest"), ("Poland", "Warsaw"), ("Russia", "Moscow"),
    ("Ukraine", "Kiev"), ("Sweden", "Stockholm"), ("Norway", "Oslo"), ("Denmark", "Copenhagen"),
    ("Finland", "Helsinki"), ("Belgium", "Brussels"), ("Turkey", "Ankara"), ("Egypt", "Cairo"),
    ("Japan", "Tokyo"), ("China", "Beijing"), ("Thailand", "Bangkok"), ("Canada", "Ottawa"),
    ("Cuba", "Havana"), ("Peru", "Lima"), ("Kenya", "Nairobi"), ("Iraq", "Baghdad"), ("Iran", "Tehran"),
    ("Syria", "Damascus"), ("Lebanon", "Beirut"), ("Afghanistan", "Kabul"), ("Serbia", "Belgrade"),
    ("Romania", "Bucharest"), ("Bulgaria", "Sofia"), ("Chile", "Santiago"), ("Scotland", "Edinburgh"),
)  # fmt: skip
_SLOT = "{}"
_KINDS: Kinds = {
    "answer": "token",
    "wrong": "token",
    "subject": "span",
    "subject_end": "pos",
    "name": "label",
    "template": "label",
}


class Fact(NamedTuple):
    """A subject in a template, what is true of it, and where: tokens, and the subject's first and last."""

    name: str
    template: str
    text: str
    answer: str
    tokens: tuple[int, ...]
    subject: tuple[int, int]


def capitals(
    tokenizer: Tokenizer | None,
    templates: Sequence[str] = ("The capital of {} is the city of",),
    n: int = 0,
    bos: bool = True,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Make prompts that ask for the capital of a country, as `facts` does of a file.

    Args:
        templates: prompts with one ``{}`` where the country goes.
        n: take the first `n` facts; 0 takes all.
        bos, split, seed: as in `facts`.

    Raises:
        MiError: as `facts`.
    """
    need(bool(templates), "there is no template", "give at least one")
    rows = [
        {"template": t, "subject": country, "answer": city} for t in templates for country, city in CAPITALS
    ]
    need(0 <= n <= len(rows), f"n is {n}", f"from 0 to {len(rows)}")
    return _facts(tokenizer, rows[:n] if n else rows, bos, split, seed, "real")


def facts(
    path: str,
    tokenizer: Tokenizer | None,
    template: str = "",
    subject: str = "subject",
    answer: str = "answer",
    prompt: str = "template",
    n: int = 0,
    bos: bool = True,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Make prompts from the facts of a ``.csv`` (with a header), ``.jsonl`` or ``.parquet`` file.

    Args:
        template: a prompt with one ``{}`` where the subject goes, for all rows; "" takes each row's own, from
            the column `prompt`.
        subject, answer, prompt: which column holds what. A space is put before an answer that has none.
        n: take the first `n` rows of the file; 0 takes all.
        bos: put the tokenizer's begin token first, where it has one.
        split: name to fraction of the rows; `seed` deals them, and draws each row's partner.

    Returns:
        Sides clean and corrupt: corrupt is another fact of the same template, with as many tokens, its
        subject at the same place, and another answer. Columns, of the clean fact and the same on both:
        `answer` and `wrong` (token), the two answers; `subject` (span), `subject_end` (pos), its last token,
        `name` (label) the subject, and `template` (label) the prompt.

    Raises:
        MiError: MI0502 if no row can be used, MI0503 without a tokenizer, MI0504 if the file cannot be read,
            MI0511 if a column is missing or a template has not one ``{}``.
    """
    named = {"subject": subject, "answer": answer} | ({} if template else {"template": prompt})
    rows = pick(read_records(path, n), named, path)
    return _facts(tokenizer, [{"template": template} | r for r in rows], bos, split, seed, "real")


def _facts(
    tokenizer: Tokenizer | None,
    rows: Sequence[Mapping[str, str]],
    bos: bool,
    split: Mapping[str, float] | None,
    seed: int,
    provenance: str,
) -> Dataset:
    known = need_tokenizer(tokenizer)
    bad = next((r["template"] for r in rows if r["template"].count(_SLOT) != 1), None)
    need(bad is None, f"the template {bad!r} has not one `{{}}`", "write `{}` where the subject goes, once")
    read: list[Fact | str] = [_read(known, r, bos) for r in rows]
    alike: dict[object, list[Fact]] = {}
    for f in read:
        if isinstance(f, Fact):
            alike.setdefault((f.template, len(f.tokens), f.subject), []).append(f)
    draws = Draws(seed, "facts")

    def make(fact: Fact | str) -> Sides:
        if isinstance(fact, str):
            raise Unusable(fact)
        others = [
            f
            for f in alike[fact.template, len(fact.tokens), fact.subject]
            if f.answer != fact.answer and f.name != fact.name
        ]
        if not others:
            raise Unusable("no other fact of this template has as many tokens and another answer")
        other = draws.choice(others)
        cells: dict[str, Cell] = {
            "answer": one_token(known, fact.answer, "answer"),
            "wrong": one_token(known, other.answer, "wrong"),
            "subject": fact.subject,
            "subject_end": fact.subject[1] - 1,
            "name": fact.name,
            "template": fact.template,
        }
        return {"clean": Row(fact.tokens, cells, fact.text), "corrupt": Row(other.tokens, cells, other.text)}

    return build_dataset(read, make, _KINDS, known, split=split, seed=seed, provenance=provenance)


def _read(tokenizer: Tokenizer, row: Mapping[str, str], bos: bool) -> Fact | str:
    """One fact in tokens, or why it cannot be used."""
    answer = row["answer"] if row["answer"].startswith(" ") else f" {row['answer']}"
    start = row["template"].index(_SLOT)
    text = row["template"].replace(_SLOT, row["subject"])
    begin = start - (start > 0 and text[start - 1] == " ")  # a space belongs to the word behind it
    try:
        one_token(tokenizer, answer, "answer")
        tokens = tokenizer.encode(text, bos)
        subject = locate(tokenizer, text, begin, start + len(row["subject"]), bos)
    except (Unusable, Unencodable) as why:
        return why.diagnostics[0].message if isinstance(why, Unencodable) else str(why)
    if subject[0] == subject[1]:
        return "the subject has no token"
    return Fact(row["subject"], row["template"], text, answer, tuple(tokens), subject)
