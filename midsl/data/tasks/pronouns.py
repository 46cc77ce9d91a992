"""He or she? Tag questions about a name, whose pronoun the model must supply.

Prompts are composed here from our own words. Names must be single tokens, so that positions line up.

Source: the task of Mathwin et al., "Identifying a Preliminary Circuit for Predicting Gendered Pronouns
in GPT-2 Small", 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, locate, need, need_tokenizer, one_token
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.failures import Unusable

HE = ("John", "James", "Peter", "Paul", "David", "Mark", "Jack", "Robert", "Daniel", "Michael", "Simon")
SHE = ("Mary", "Anna", "Sarah", "Laura", "Emma", "Alice", "Jane", "Kate", "Lucy", "Susan", "Rachel")
TEMPLATES = (
    "So{} is a very good cook, isn't",
    "So{} was late for work again, wasn't",
    "So{} has already seen the film, hasn't",
    "So{} plays the piano well, doesn't",
    "So{} will come to the party, won't",
    "So{} liked the old house better, didn't",
)
_KINDS: Kinds = {
    "answer": "token",
    "wrong": "token",
    "name_pos": "pos",
    "name": "label",
    "gender": "label",
    "template": "label",
}


def pronouns(
    tokenizer: Tokenizer | None,
    n: int = 64,
    seed: int = 0,
    he: Sequence[str] = (),
    she: Sequence[str] = (),
    bos: bool = True,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make prompts "So John is a very good cook, isn't" -> " he", each beside one that takes " she".

    Args:
        n: rows, half of each pronoun, no pair of prompts twice.
        he, she: names, written without a space; none takes the built-in lists.
        bos: put the tokenizer's begin token first, where it has one.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        Sides clean and corrupt, with the same columns on both, of the clean prompt: `answer` and `wrong`
        (token) are " he" and " she", `name_pos` (pos), `name`, `gender` ("he" or "she") and `template`
        (label). A row with a name that is no single token is left out.

    Raises:
        MiError: MI0502 if no row can be used, MI0503 without a tokenizer, MI0511 if `n` is out of range.
    """
    known = need_tokenizer(tokenizer)
    names = {"he": list(dict.fromkeys(he or HE)), "she": list(dict.fromkeys(she or SHE))}
    pairs = len(TEMPLATES) * len(names["he"]) * len(names["she"])
    need(1 <= n <= 2 * pairs, f"n is {n}", f"from 1 to {2 * pairs}: each pair of names in each template")
    draws = Draws(seed, "pronoun")
    chosen = {g: draws.sample(range(pairs), n // 2 + (g == "he") * (n % 2)) for g in names}
    items = [(("he", "she")[i % 2], chosen[("he", "she")[i % 2]][i // 2]) for i in range(n)]

    def make(item: tuple[str, int]) -> Sides:
        gender, number = item
        other = "she" if gender == "he" else "he"
        number, template = divmod(number, len(TEMPLATES))
        i, j = divmod(number, len(names[other]))
        name, fresh = names[gender][i], names[other][j]
        id = one_token(known, f" {name}", "the name")
        one_token(known, f" {fresh}", "the name")
        text = TEMPLATES[template].format(f" {name}")
        start = TEMPLATES[template].index("{}")
        tokens = known.encode(text, bos)
        first, stop = locate(known, text, start, start + len(name) + 1, bos)
        if tokens[first:stop] != [id]:
            raise Unusable("the name is not its own token in this prompt")
        cells: dict[str, Cell] = {
            "answer": one_token(known, f" {gender}", "answer"),
            "wrong": one_token(known, f" {other}", "wrong"),
            "name_pos": first,
            "name": name,
            "gender": gender,
            "template": str(template),
        }
        corrupt = TEMPLATES[template].format(f" {fresh}")
        return {"clean": Row(tokens, cells, text), "corrupt": Row(known.encode(corrupt, bos), cells, corrupt)}

    return build_dataset(items, make, _KINDS, known, split=split, seed=seed)
