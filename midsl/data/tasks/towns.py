"""Towns that are known by what is said of them: who is near whom, in which region, to which side.

Three tokens a row: "A near B", "A in R", "A north-of B". A model that is trained on these is never shown a
coordinate; where its towns lie is only in who stands beside whom.
Source: the question of De Sabbata et al., "Geospatial Mechanistic Interpretability of Large Language Models",
2025 (arXiv 2505.03368), asked of a model that is small enough to train.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midsl.data.build import Kinds, Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.records import read_records
from midsl.data.tasks.induction import ordinary_tokens

CELLS = 3
"""The map is cut into 3 x 3 regions."""
NEAREST = 12
"""Who is near: one of so many nearest towns."""
SIDES = ("north", "east", "south", "west")


@dataclass(frozen=True)
class Map:
    """Where towns lie: `at` [town, 2], east and north, within the unit square."""

    at: NDArray[np.float64]

    def region(self, town: int) -> int:
        """The cell of a town, counted along the east first."""
        east, north = (min(int(v * CELLS), CELLS - 1) for v in self.at[town])
        return CELLS * north + east

    def near(self, town: int) -> list[int]:
        """The nearest towns, nearest first."""
        far = ((self.at - self.at[town]) ** 2).sum(1)
        return [int(i) for i in np.argsort(far, kind="stable")[1 : NEAREST + 1]]

    def side(self, town: int, other: int) -> int:
        """On which side of a town another lies, by the larger of the two distances."""
        east, north = self.at[other] - self.at[town]
        if abs(north) >= abs(east):
            return 0 if north > 0 else 2
        return 1 if east > 0 else 3


def towns(
    tokenizer: Tokenizer | None,
    n: int = 20_000,
    count: int = 300,
    places: str = "",
    country: str = "",
    seed: int = 0,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make rows of three tokens that say something true of two towns, or of a town and its region.

    Args:
        tokenizer: the first ordinary tokens are towns, then nine regions, then "near", "in" and four sides.
        n: rows, a third of each kind.
        count: how many towns.
        places: a table with columns `longitude` and `latitude`, of which towns are drawn; "" draws them
            evenly over a square.
        country: only places whose column `country` says so.
        seed, split: as everywhere.

    Returns:
        One side; columns `kind` (label): near, in or side.

    Raises:
        MiError: MI0503 without a tokenizer, MI0511 if it has too few tokens or the table too few places.
    """
    known, where = need_tokenizer(tokenizer), _map(count, places, country, seed)
    words = _words(known, count)
    near = [where.near(i) for i in range(count)]
    draws = Draws(seed, "towns")

    def make(i: int) -> Sides:
        town, kind = draws.below(count), ("near", "in", "side")[i % 3]
        if kind == "near":
            last, said = draws.choice(near[town]), "near"
        elif kind == "in":
            last, said = count + where.region(town), "in"
        else:
            last = (town + 1 + draws.below(count - 1)) % count
            said = SIDES[where.side(town, last)]
        return {"": Row([words[town], words[_said(count, said)], words[last]], {"kind": kind})}

    kinds: Kinds = {"kind": "label"}
    return build_dataset(range(n), make, kinds, known, split=split, seed=seed)


def town_prompts(
    tokenizer: Tokenizer | None, count: int = 300, places: str = "", country: str = "", seed: int = 0
) -> Dataset:
    """Make a row "A near" for each of the towns of `towns` with the same arguments, and say where it lies.

    Returns:
        One side; columns `east`, `north` and `region` (numbers), and `town` (token).
    """
    known, where = need_tokenizer(tokenizer), _map(count, places, country, seed)
    words = _words(known, count)
    kinds: Kinds = {"east": "number", "north": "number", "region": "number", "town": "token"}

    def make(i: int) -> Sides:
        east, north = (float(v) for v in where.at[i])
        cells = {"east": east, "north": north, "region": where.region(i), "town": words[i]}
        return {"": Row([words[i], words[_said(count, "near")]], cells)}

    return build_dataset(range(count), make, kinds, known, seed=seed)


def _said(count: int, word: str) -> int:
    """Which of the words a relation is."""
    return count + CELLS * CELLS + ("near", "in", *SIDES).index(word)


def _words(tokenizer: Tokenizer, count: int) -> list[int]:
    need(count > NEAREST, f"count is {count}", f"more than {NEAREST} towns")
    wanted = _said(count, SIDES[-1]) + 1
    pool = ordinary_tokens(tokenizer)
    need(
        len(pool) >= wanted,
        f"{len(pool)} tokens for {count} towns",
        f"a vocabulary of {wanted} ordinary tokens",
    )
    return pool[:wanted]


def _map(count: int, places: str, country: str, seed: int) -> Map:
    draws = Draws(seed, "map")
    if not places:
        return Map(np.array([[draws.below(2**32) / 2**32 for _ in "xy"] for _ in range(count)]))
    rows = [r for r in read_records(places) if not country or r.get("country") == country]
    found = {(float(r["longitude"]), float(r["latitude"])): None for r in rows}
    need(
        len(found) >= count,
        f"{len(found)} places, and {count} are asked for",
        "ask for fewer, or of more countries",
    )
    at = np.array(draws.sample(list(found), count))
    at = at * [
        math.cos(math.radians(at[:, 1].mean())),
        1.0,
    ]  # a degree of longitude is the shorter, the further north
    return Map((at - at.min(0)) / (at.max(0) - at.min(0)).max())
