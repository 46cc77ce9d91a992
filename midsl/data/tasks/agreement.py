"""Does the verb agree with its subject, past a noun of another number?

Prompts are composed here from our own words. Both forms of a noun must be single tokens, so that a
singular prompt and its plural twin have equal positions.

Source: the task of Linzen et al., "Assessing the Ability of LSTMs to Learn Syntax-Sensitive
Dependencies", 2016 (arXiv 1611.01368).
"""

from __future__ import annotations

from collections.abc import Mapping

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, locate, need, need_tokenizer, one_token
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.failures import Unusable

NOUNS = (
    ("teacher", "teachers"), ("doctor", "doctors"), ("player", "players"), ("student", "students"),
    ("car", "cars"), ("dog", "dogs"), ("book", "books"), ("house", "houses"), ("boy", "boys"),
    ("girl", "girls"), ("tree", "trees"), ("ship", "ships"), ("king", "kings"), ("friend", "friends"),
    ("letter", "letters"), ("picture", "pictures"),
)  # fmt: skip
LINKS = ("near", "behind", "beside", "with", "above")
VERBS = ((" is", " are"), (" was", " were"), (" has", " have"))
NUMBERS = ("singular", "plural")
_KINDS: Kinds = {
    "answer": "token",
    "wrong": "token",
    "subject_pos": "pos",
    "number": "label",
    "attractor": "label",
}


def agreement(
    tokenizer: Tokenizer | None,
    n: int = 64,
    seed: int = 0,
    bos: bool = True,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make prompts "The books near the tree" -> " are", each beside its twin of the other number.

    Args:
        n: rows, all different; half have a singular subject, half (of each) a noun of another number between.
        bos: put the tokenizer's begin token first, where it has one.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        Sides clean and corrupt, which differ in the subject alone; columns, of the clean prompt and the same
        on both: `answer` and `wrong` (token) are the two forms of a verb, `subject_pos` (pos), `number`
        ("singular" or "plural") and `attractor` ("same" or "other": the number of the noun between; label).
        A row with a word that is no single token is left out.

    Raises:
        MiError: MI0502 if no row can be used, MI0503 without a tokenizer, MI0511 if `n` is out of range.
    """
    known = need_tokenizer(tokenizer)
    each = len(NOUNS) * (len(NOUNS) - 1) * len(LINKS) * len(VERBS)
    need(1 <= n <= 4 * each, f"n is {n}", f"from 1 to {4 * each}")
    draws = Draws(seed, "agree")
    picks = [draws.sample(range(each), n // 4 + (kind < n % 4)) for kind in range(4)]

    def make(i: int) -> Sides:
        number, same = i % 2, (i // 2) % 2 == 0
        rest, verb = divmod(picks[i % 4][i // 4], len(VERBS))
        rest, link = divmod(rest, len(LINKS))
        subject, between = divmod(rest, len(NOUNS) - 1)
        between += between >= subject  # another noun
        middle = NOUNS[between][number if same else 1 - number]
        texts, ids = [], []
        for form in (number, 1 - number):
            noun = NOUNS[subject][form]
            ids.append(one_token(known, f" {noun}", "the subject"))
            texts.append(f"The {noun} {LINKS[link]} the {middle}")
        first, stop = locate(known, texts[0], 3, 4 + len(NOUNS[subject][number]), bos)
        tokens = known.encode(texts[0], bos)
        if tokens[first:stop] != ids[:1]:
            raise Unusable("the subject is not its own token in this prompt")
        cells: dict[str, Cell] = {
            "answer": one_token(known, VERBS[verb][number], "answer"),
            "wrong": one_token(known, VERBS[verb][1 - number], "wrong"),
            "subject_pos": first,
            "number": NUMBERS[number],
            "attractor": "same" if same else "other",
        }
        return {
            "clean": Row(tokens, cells, texts[0]),
            "corrupt": Row(known.encode(texts[1], bos), cells, texts[1]),
        }

    return build_dataset(range(n), make, _KINDS, known, split=split, seed=seed)
