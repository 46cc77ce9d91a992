"""Small pictures as tokens: which of four shapes stands somewhere among specks, a token for each 2 x 2 patch.

What a vision transformer is given, small enough that each patch is a word: a begin token, from which the
answer is read, and the patches row by row.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, need, need_tokenizer
from midsl.data.dataset import Dataset, Tokenizer
from midsl.data.draw import Draws
from midsl.data.tasks.induction import ordinary_tokens

PATCH = 2
SHAPES = {
    "cross": ("010", "111", "010"),
    "box": ("111", "101", "111"),
    "corner": ("100", "100", "111"),
    "tee": ("111", "010", "010"),
}
Bits = NDArray[np.int64]


def shapes(
    tokenizer: Tokenizer | None,
    n: int = 1024,
    size: int = 8,
    specks: int = 4,
    seed: int = 0,
    split: Mapping[str, float] | None = None,
) -> Dataset:
    """Make pictures of one shape among specks; the corrupt side has another shape at the same place.

    Args:
        tokenizer: has a begin token; its first 16 ordinary tokens are the patches, and the first four of
            these the answers, too.
        n: rows.
        size: pixels on a side, an even number from 6 up.
        specks: how many pixels elsewhere are on, the same on both sides.
        seed, split: as everywhere.

    Returns:
        Sides clean and corrupt of 1 + (size / 2)^2 tokens. Columns: `answer` and `wrong` (tokens), the shape
        of the clean side and of the corrupt one; `shape` (label), each side's own; `top`, `left` (numbers):
        where it begins, in pixels.

    Raises:
        MiError: MI0503 without a tokenizer, MI0511 if it has no begin token or too few others, or a number is
            out of range.
    """
    known = need_tokenizer(tokenizer)
    pool = ordinary_tokens(known)
    begin = known.bos_id
    if begin is None or len(pool) < 2 ** (PATCH * PATCH):
        need(False, "pictures need a begin token and 16 others", "such as a toy with `vocab: 17`")
    need(size >= 6 and size % PATCH == 0, f"size is {size}", "an even number from 6 up")
    need(0 <= specks <= size, f"{specks} specks", f"from 0 to {size}")
    draws = Draws(seed, "shapes")
    names = list(SHAPES)

    def make(_: int) -> Sides:
        here, there = draws.sample(range(len(names)), 2)
        top, left = draws.below(size - 2), draws.below(size - 2)
        ground = np.zeros((size, size), np.int64)
        free = [(y, x) for y in range(size) for x in range(size) if not _inside(y - top, x - left)]
        for y, x in draws.sample(free, specks):
            ground[y, x] = 1
        rows = {}
        for side, shape in (("clean", here), ("corrupt", there)):
            picture = ground.copy()
            picture[top : top + 3, left : left + 3] = [
                [int(c) for c in line] for line in SHAPES[names[shape]]
            ]
            cells: dict[str, Cell] = {
                "answer": pool[here],
                "wrong": pool[there],
                "shape": names[shape],
                "top": top,
                "left": left,
            }
            rows[side] = Row([begin or 0, *(pool[p] for p in patches(picture))], cells)
        return rows

    kinds: Kinds = {"answer": "token", "wrong": "token", "shape": "label", "top": "number", "left": "number"}
    return build_dataset(range(n), make, kinds, known, split=split, seed=seed)


def patches(picture: Bits) -> list[int]:
    """The patches of a picture [y, x], row by row, each as the number that its pixels spell.

    >>> patches(np.array([[1, 0, 0, 0], [0, 0, 1, 1]]))
    [8, 3]
    """
    h, w = picture.shape
    cut = (
        picture.reshape(h // PATCH, PATCH, w // PATCH, PATCH).transpose(0, 2, 1, 3).reshape(-1, PATCH * PATCH)
    )
    return [int(v) for v in cut @ (2 ** np.arange(PATCH * PATCH)[::-1])]


def _inside(y: int, x: int) -> bool:
    return 0 <= y < 3 and 0 <= x < 3
