"""Indirect-object identification: two people, one of them gives, the other one gets.

Prompts are composed here from our own words, in the two orders of the task (ABBA: the one who gets is
named first; BABA: second). Names must be single tokens behind a space, so that positions line up.

Source: the task of Wang et al., "Interpretability in the Wild", 2022 (arXiv 2211.00593).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from string import Formatter
from typing import Literal, NamedTuple

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, locate, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.failures import Unusable
from midsl.diagnostics.model import fail

NAMES = (
    "Mary", "John", "Tom", "Anna", "James", "Sarah", "Peter", "Laura", "Paul", "Emma", "David", "Alice",
    "Mark", "Jane", "Jack", "Kate", "Robert", "Lucy", "Daniel", "Susan", "Michael", "Rachel", "Simon",
    "Julia", "Martin", "Claire", "Andrew", "Helen", "George", "Sophie", "Henry", "Grace", "Charles", "Rose",
    "Adam", "Amy", "Eric", "Diana", "Kevin", "Linda", "Ryan", "Karen", "Scott", "Lisa", "Brian", "Ruth",
    "Frank", "Maria", "Steven", "Alex", "Max", "Sam", "Ben", "Tim", "Lily",
)  # fmt: skip
PLACES = ("bakery", "museum", "station", "market", "beach", "library", "park", "farm", "hotel", "airport")
OBJECTS = ("book", "ticket", "letter", "camera", "flower", "cookie", "map", "coat", "key", "ball")
TEMPLATES = (
    "When{A} and{B} met at the {place},{S} handed a {object} to",
    "After{A} and{B} walked to the {place},{S} offered a {object} to",
    "While{A} and{B} were waiting at the {place},{S} passed a {object} to",
    "Yesterday{A} and{B} visited the {place}, and{S} gave a {object} to",
    "Because{A} and{B} were going to the {place},{S} lent a {object} to",
    "Once{A} and{B} had left the {place},{S} showed a {object} to",
    "One morning{A} and{B} drove to the {place}. There{S} sold a {object} to",
    "The friends{A} and{B} found a {object} at the {place}, so{S} gave it to",
)
_KINDS: Kinds = {
    "io": "token",
    "s": "token",
    "io_pos": "pos",
    "s1_pos": "pos",
    "s2_pos": "pos",
    "template": "label",
    "order": "label",
}
Corrupt = Literal["s2", "flip", "abc"]


class Prompt(NamedTuple):
    """What one row is composed from; `others` are names that the clean prompt doesn't have."""

    template: int
    order: str
    io: str
    s: str
    others: tuple[str, ...]
    place: str
    object: str


def ioi(
    tokenizer: Tokenizer | None,
    n: int = 64,
    seed: int = 0,
    corrupt: Corrupt = "s2",
    names: Sequence[str] = (),
    bos: bool = True,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make prompts that end before the indirect object: "When Mary and John met ..., John handed a book to".

    Args:
        n: rows, half in each order, all different.
        corrupt: "s2" puts a third name in place of the second mention of the subject, so that no name is
            repeated; "flip" puts the indirect object there, so that the answer flips; "abc" puts three
            other names in place of all three mentions.
        names: names to draw from, written without a space; none takes the built-in list.
        bos: put the tokenizer's begin token first, where it has one.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        Sides clean and corrupt, with the same columns on both: `io`, `s` (token) name the clean prompt's
        indirect object and subject; `io_pos`, `s1_pos`, `s2_pos` (pos) are where the clean prompt has
        them; `template`, `order` (label) say which prompt it is, "ABBA" or "BABA".

    Raises:
        MiError: MI0502 if fewer names than the task needs are single tokens, MI0503 without a tokenizer,
            MI0511 if `n` is too small or too large for the words there are, or `corrupt` is unknown.
    """
    tokenizer = need_tokenizer(tokenizer)
    need(n >= 1, f"n is {n}", "ask for at least one row")
    fresh = {"s2": 1, "flip": 0, "abc": 3}.get(corrupt)
    need(fresh is not None, f"corrupt: {corrupt!r} is unknown", '"s2", "flip" or "abc"')
    assert fresh is not None
    need(all(isinstance(name, str) for name in names), "`names` is not a list of strings")
    listed = list(dict.fromkeys(names or NAMES))
    ids = {name: id for name in listed if (id := tokenizer.single(" " + name)) is not None}
    if len(ids) < max(3, 2 + fresh):
        some = ", ".join(f"{name} {len(tokenizer.pieces(' ' + name))}" for name in listed[:5])
        raise fail(
            "MI0502",
            f"{len(ids)} of {len(listed)} names are single tokens of this tokenizer",
            help=f"names must be one token behind a space (tokens of the first: {some}); "
            "give such `names`, at least 5, or use a task that fits this vocabulary",
        )

    def make(prompt: Prompt) -> Sides:
        text, at = compose(prompt, (prompt.io, prompt.s, prompt.s))
        if corrupt == "abc":
            other, _ = compose(prompt, (prompt.others[0], prompt.others[1], prompt.others[2]))
        else:
            last = prompt.others[0] if corrupt == "s2" else prompt.io
            other, _ = compose(prompt, (prompt.io, prompt.s, last))
        tokens = tokenizer.encode(text, bos)
        cells: dict[str, Cell] = {"io": ids[prompt.io], "s": ids[prompt.s]}
        for column, name in {"io_pos": "io", "s1_pos": "s", "s2_pos": "s"}.items():
            first, stop = locate(tokenizer, text, *at[column], bos)
            if tokens[first:stop] != [cells[name]]:
                raise Unusable(f"the name at {column} is not its own token in this prompt")
            cells[column] = first
        cells |= {"template": str(prompt.template), "order": prompt.order}
        return {"clean": Row(tokens, cells, text), "corrupt": Row(tokenizer.encode(other, bos), cells, other)}

    prompts = _draw(list(ids), n, fresh, Draws(seed, "ioi"))
    return build_dataset(prompts, make, _KINDS, tokenizer, split=split, seed=seed)


def compose(prompt: Prompt, names: tuple[str, str, str]) -> tuple[str, dict[str, tuple[int, int]]]:
    """Return a prompt with these names as indirect object, subject and subject again, and where they stand.

    The place of a name, by column (`io_pos`, `s1_pos`, `s2_pos`), is in characters, its space included.
    """
    first, second = (0, 1) if prompt.order == "ABBA" else (1, 0)
    columns = ("io_pos", "s1_pos", "s2_pos")
    slots = {"A": first, "B": second, "S": 2}
    words = {"place": prompt.place, "object": prompt.object}
    text, at = "", {}
    for plain, slot, _, _ in Formatter().parse(TEMPLATES[prompt.template]):
        text += plain
        if slot in slots:
            name = " " + names[slots[slot]]
            at[columns[slots[slot]]] = (len(text), len(text) + len(name))
            text += name
        elif slot is not None:
            text += words[slot]
    return text, at


def _draw(names: list[str], n: int, fresh: int, draws: Draws) -> Iterator[Prompt]:
    """Draw `n` prompts whose clean texts all differ, in turn ABBA and BABA."""
    possible = len(TEMPLATES) * len(PLACES) * len(OBJECTS) * len(names) * (len(names) - 1)
    need(
        n <= possible, f"{n} rows and only {possible} different prompts", "ask for fewer, or give more names"
    )
    seen: set[tuple[object, ...]] = set()
    for i in range(n):
        while True:  # ends: each order has as many prompts as it has rows, or more
            io, s, *others = draws.sample(names, 2 + fresh)
            prompt = Prompt(
                draws.below(len(TEMPLATES)),
                ("ABBA", "BABA")[i % 2],
                io,
                s,
                tuple(others),
                draws.choice(PLACES),
                draws.choice(OBJECTS),
            )
            key = (*prompt[:4], prompt.place, prompt.object)
            if key not in seen:
                seen.add(key)
                yield prompt
                break
