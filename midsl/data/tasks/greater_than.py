"""Which years may a span of years end in? Prompts whose answer is any number above the one given.

Prompts are composed here from our own words. A year must be two tokens, the century and the rest, so
that the century can be given again and the model says the rest.

Source: the task of Hanna et al., "How does GPT-2 compute greater-than?", 2023 (arXiv 2305.00586).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, locate, need, need_tokenizer, one_token
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.failures import Unusable

NOUNS = (
    "war", "reign", "drought", "alliance", "expedition", "dispute", "truce", "siege", "marriage", "famine",
    "strike", "trial", "project", "journey", "dynasty", "campaign", "treaty", "voyage", "feud", "exhibition",
)  # fmt: skip
CENTURIES = tuple(range(11, 18))
_KINDS: Kinds = {"answer": "token", "wrong": "token", "year": "number", "year_pos": "pos", "noun": "label"}


def greater_than(
    tokenizer: Tokenizer | None,
    n: int = 64,
    seed: int = 0,
    gap: str = "",
    nouns: Sequence[str] = (),
    bos: bool = True,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make prompts "The war lasted from the year 1732 to the year 17", and the same from "1701".

    Args:
        n: rows, all different.
        gap: what stands between century and year; "" writes them as one number, " " as two words.
        nouns: what lasted; none takes the built-in list.
        bos: put the tokenizer's begin token first, where it has one.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        Sides clean (a year from 02 to 97) and corrupt (01), with the same columns on both, of the clean
        prompt: `answer` (token) is a later year, drawn from all of them, `wrong` (token) an earlier one or
        the same; `year` (number), `year_pos` (pos) where it stands, `noun` (label). A row whose years are
        no tokens of their own is left out.

    Raises:
        MiError: MI0502 if no row can be used, MI0503 without a tokenizer, MI0511 if `n` is out of range.
    """
    known = need_tokenizer(tokenizer)
    words = list(dict.fromkeys(nouns or NOUNS))
    possible = len(words) * len(CENTURIES) * 96
    need(1 <= n <= possible, f"n is {n}", f"from 1 to {possible}")
    draws = Draws(seed, "greater")

    def make(number: int) -> Sides:
        rest, year = divmod(number, 96)
        noun, century = words[rest // len(CENTURIES)], CENTURIES[rest % len(CENTURIES)]
        year += 2
        later, earlier = draws.below(99 - year) + year + 1, draws.below(year)
        before = f"The {noun} lasted from the year {century}{gap}"
        clean, corrupt = (f"{before}{y:02d} to the year {century}" for y in (year, 1))
        own = {y: one_token(known, f"{gap}{y:02d}", "the year") for y in (year, 1, later, earlier)}
        tokens = known.encode(clean, bos)
        first, stop = locate(known, clean, len(before) - len(gap), len(before) + 2, bos)
        if tokens[first:stop] != [own[year]]:
            raise Unusable("the year is not its own token in this prompt")
        cells: dict[str, Cell] = {
            "answer": own[later],
            "wrong": own[earlier],
            "year": year,
            "year_pos": first,
            "noun": noun,
        }
        return {
            "clean": Row(tokens, cells, clean),
            "corrupt": Row(known.encode(corrupt, bos), cells, corrupt),
        }

    return build_dataset(draws.sample(range(possible), n), make, _KINDS, known, split=split, seed=seed)
