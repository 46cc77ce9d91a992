"""Tasks of made worlds: what rows say is true of map, pairs and picture; bad arguments are refused."""

from __future__ import annotations

import numpy as np
import pytest

from midsl.data.tasks.equalities import equalities
from midsl.data.tasks.shapes import PATCH, SHAPES, shapes
from midsl.data.tasks.towns import NEAREST, SIDES, town_prompts, towns
from midsl.data.tokenizers import int_vocab
from midsl.diagnostics.model import MiError
from tests.examples.common import ROOT

PLACES = ROOT.parent / "shared" / "data" / "world_places" / "world_place.csv"


def check_towns(count: int, places: str = "", country: str = "") -> None:
    vocab = int_vocab(count + 15)
    said = towns(vocab, n=300, count=count, places=places, country=country, seed=3).sides[""]
    asked = town_prompts(vocab, count=count, places=places, country=country, seed=3).sides[""]
    at = np.stack([np.asarray(asked.columns[c].values, float) for c in ("east", "north")], 1)
    far = np.hypot(*(at[:, None] - at).transpose(2, 0, 1))
    for a, word, b in said.tokens:
        if word == count + 9:
            assert far[a, b] <= np.sort(far[a])[NEAREST] and a != b
        elif word == count + 10:
            assert b - count == asked.columns["region"].values[a]
        else:
            east, north = at[b] - at[a]
            size = {"north": north, "south": -north, "east": east, "west": -east}
            assert size[SIDES[word - count - 11]] == max(size.values())
    assert at.min() >= 0 and at.max() <= 1


def test_what_is_said_of_towns_is_true() -> None:
    check_towns(40)


@pytest.mark.skipif(not PLACES.exists(), reason="the gazetteer is not on this machine")
def test_towns_of_a_country() -> None:
    check_towns(60, str(PLACES), "Italy")


def test_the_answer_is_what_the_program_gives() -> None:
    sides = equalities(int_vocab(20), n=200, symbols=6).sides
    v = {s: (p.tokens[:, 0] == p.tokens[:, 1], p.tokens[:, 2] == p.tokens[:, 3]) for s, p in sides.items()}
    base = sides["base"].columns
    one, two = (np.asarray(base[f"swap{i}"].values) > 0 for i in (1, 2))
    after = np.where(one, v["first"][0], v["base"][0]) == np.where(two, v["second"][1], v["base"][1])
    assert (np.asarray(base["answer"].values) == after).all() and (one | two).all()
    own = v["base"][0] == v["base"][1]
    assert (np.asarray(base["own"].values) == own).all()
    assert [e == "changed" for e in base["effect"].values] == list(after != own)
    assert 0.4 < after.mean() < 0.6


def test_a_picture_comes_together_again() -> None:
    sides = shapes(int_vocab(17, bos=True), n=50, specks=0).sides
    for part in sides.values():
        for row, tokens in enumerate(part.tokens):
            bits = (tokens[1:, None] - 1 >> np.arange(PATCH * PATCH)[::-1]) & 1
            picture = bits.reshape(4, 4, PATCH, PATCH).transpose(0, 2, 1, 3).reshape(8, 8)
            top, left = (int(part.columns[c].values[row]) for c in ("top", "left"))
            shape = SHAPES[str(part.columns["shape"].values[row])]
            cut = picture[top : top + 3, left : left + 3]
            assert ["".join(map(str, line)) for line in cut] == list(shape) and picture.sum() == cut.sum()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: towns(int_vocab(30), count=40), "30 tokens for 40 towns"),
        (lambda: towns(int_vocab(60), count=4), "count is 4"),
        (lambda: equalities(int_vocab(9), symbols=16), "9 tokens for 16 symbols"),
        (lambda: shapes(int_vocab(17), n=4), "begin token"),
        (lambda: shapes(int_vocab(17, bos=True), size=7), "size is 7"),
    ],
)
def test_what_cannot_be_made_is_refused(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MiError, match=said) as err:
        make()
    assert err.value.diagnostics[0].code == "MI0511"
