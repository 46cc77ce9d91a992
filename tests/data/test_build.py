"""The row builder: what a data set promises whatever its task, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from midsl.data.build import Cell, Kinds, Row, Sides, build_dataset, locate, make_splits, one_token
from midsl.data.dataset import Dataset
from midsl.data.draw import Draws
from midsl.data.failures import Unusable
from midsl.data.tokenizers import char_vocab, int_vocab, word_vocab
from midsl.diagnostics.model import MiError

T = int_vocab(100)


def paired(rows: Sequence[tuple[list[int], list[int]]], **options: object) -> Dataset:
    def make(row: tuple[list[int], list[int]]) -> Sides:
        return {"clean": Row(row[0]), "corrupt": Row(row[1])}

    return build_dataset(rows, make, {}, T, **options)  # type: ignore[arg-type]


def code(error: MiError) -> str:
    return error.diagnostics[0].code


def test_rows_are_padded_on_the_right_and_columns_keep_their_kind() -> None:
    kinds: Kinds = {"a": "token", "where": "pos", "span": "span", "x": "number", "group": "label"}

    def make(n: int) -> Sides:
        cells: dict[str, Cell] = {"a": n, "where": n - 1, "span": (0, n), "x": n / 2, "group": f"g{n}"}
        return {"": Row(range(5, 5 + n), cells, f"text {n}")}

    part = build_dataset([1, 3], make, kinds, T).sides[""]
    assert part.tokens.tolist() == [[5, 0, 0], [5, 6, 7]] and part.tokens.dtype == np.int64
    assert part.lengths.tolist() == [1, 3] and part.texts == ["text 1", "text 3"]
    values = {
        k: c.values if isinstance(c.values, list) else c.values.tolist() for k, c in part.columns.items()
    }
    assert values == {
        "start": [0, 0],
        "end": [0, 2],
        "a": [1, 3],
        "where": [0, 2],
        "span": [[0, 1], [0, 3]],
        "x": [0.5, 1.5],
        "group": ["g1", "g3"],
    }
    assert {k: c.kind for k, c in part.columns.items()} == {"start": "pos", "end": "pos", **kinds}


def test_paired_rows_know_where_they_differ() -> None:
    d = paired([([1, 2, 3, 4], [1, 7, 3, 9]), ([1, 2], [1, 3])])
    for side in ("clean", "corrupt"):
        columns = d.sides[side].columns
        assert np.array_equal(columns["changed"].values, [[1, 4], [1, 2]])
        assert np.array_equal(columns["changed_end"].values, [3, 1])


def test_unusable_rows_are_counted_with_their_reason() -> None:
    d = paired([([1, 2], [1, 3]), ([1], [1]), ([1, 2], [1, 2, 3]), ([], []), ([4], [5])])
    assert d.rows_total == 5 and len(d.sides["clean"]) == 2
    assert d.sides["clean"].tokens.tolist() == [[1, 2], [4, 0]]
    assert [(r.row, r.reason) for r in d.ineligible] == [
        (1, "clean and corrupt are the same"),
        (2, "the sides differ in length (clean 2, corrupt 3 tokens)"),
        (3, "the row has no token"),
    ]


def test_unequal_lengths_are_an_error_where_they_are_not_left_out() -> None:
    with pytest.raises(MiError) as caught:
        paired([([1, 2], [1, 3]), ([1, 2, 3], [1, 4, 5, 6])], mismatched="error")
    found = caught.value.diagnostics[0]
    assert found.code == "MI0501" and "row 1" in found.message and "3 and 4 tokens" in found.message
    assert "clean: '1' '2' '3'" in found.help and "corrupt: '1' '4' '5' '6'" in found.help
    with pytest.raises(MiError) as caught:  # every row differs: no row to leave them out for
        paired([([1], [1, 3]), ([2], [1, 4])])
    assert code(caught.value) == "MI0501" and "2 of 2" in caught.value.diagnostics[0].message


def test_no_usable_row_names_the_commonest_reasons() -> None:
    def make(n: int) -> Sides:
        raise Unusable("reason one" if n else "reason two")

    with pytest.raises(MiError) as caught:
        build_dataset([1, 0, 1], make, {}, T)
    found = caught.value.diagnostics[0]
    assert found.code == "MI0502" and found.help.splitlines()[1:] == ["2 x reason one", "1 x reason two"]
    with pytest.raises(MiError) as caught:
        build_dataset([], make, {}, T)
    assert code(caught.value) == "MI0511"


def test_a_task_cannot_break_its_own_promise() -> None:
    bad: list[dict[str, Cell]] = [{}, {"p": 2}, {"p": -1}, {"p": 0, "q": 0}]
    for cells in bad:

        def make(_: int, cells: dict[str, Cell] = cells) -> Sides:
            return {"": Row([1, 2], cells)}

        with pytest.raises(ValueError, match="column"):
            build_dataset([0], make, {"p": "pos"}, T)


def test_splits_are_disjoint_seeded_and_whole() -> None:
    a = make_splits(100, {"train": 0.9, "held_out": 0.1}, 0)
    assert {k: len(v) for k, v in a.items()} == {"train": 90, "held_out": 10}
    assert sorted([*a["train"], *a["held_out"]]) == list(range(100))
    assert all(np.array_equal(v, np.sort(v)) for v in a.values())
    same, other = (make_splits(100, {"train": 0.9, "held_out": 0.1}, seed) for seed in (0, 1))
    assert np.array_equal(a["held_out"], same["held_out"])
    assert not np.array_equal(a["held_out"], other["held_out"])
    some = make_splits(10, {"a": 0.3, "b": 0.3}, 0)
    assert {k: len(v) for k, v in some.items()} == {"a": 3, "b": 3} and not set(some["a"]) & set(some["b"])
    assert sum(map(len, make_splits(7, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 0).values())) == 7
    assert make_splits(7, {}, 0) == {}


@pytest.mark.parametrize(
    "split",
    [{"a": 0.7, "b": 0.4}, {"a": 0.0}, {"a": -0.5}, {"a": True}, {"a": "half"}, {"a": 0.01}, {"end": 0.5}],
)
def test_splits_that_cannot_be(split: dict[str, float]) -> None:
    with pytest.raises(MiError) as caught:
        paired([([i, 2], [i, 3]) for i in range(10)], split=split)
    assert code(caught.value) == "MI0511"


def test_parts_of_a_split_take_every_column_along() -> None:
    d = paired([([i, 2], [i, 3]) for i in range(10)], split={"a": 0.5, "b": 0.5}, seed=3)
    part = d.part("corrupt", "b")
    assert part.tokens[:, 0].tolist() == d.splits["b"].tolist() and (part.tokens[:, 1] == 3).all()
    assert len(part.columns["changed"].values) == 5


def test_the_fingerprint_covers_tokens_columns_and_splits() -> None:
    def one(tokens: list[int], label: str, **options: object) -> str:
        def make(_: int) -> Sides:
            return {"": Row(tokens, {"l": label})}

        return build_dataset([0, 1], make, {"l": "label"}, T, **options).fingerprint  # type: ignore[arg-type]

    base = one([1, 2], "x")
    assert base == one([1, 2], "x") and len(base) == 64
    others = [one([1, 3], "x"), one([1, 2], "y"), one([1, 2, 0], "x"), one([1, 2], "x", split={"a": 0.5})]
    assert len({base, *others}) == 5


def test_tokens_and_places() -> None:
    t = word_vocab(["the", "boy", "ran", "to"])
    assert one_token(t, " boy", "answer") == 1
    with pytest.raises(Unusable, match="answer 'the boy' is 2 tokens: 'the' 'boy'"):
        one_token(t, "the boy", "answer")
    with pytest.raises(Unusable, match="answer is empty"):
        one_token(t, "", "answer")
    assert locate(t, "the boy ran", 3, 7, bos=True) == (1, 2)
    assert locate(char_vocab("abc", bos="."), "abcabc", 2, 4, bos=True) == (3, 5)


def test_a_place_inside_a_token_is_refused() -> None:
    t = word_vocab(["boyish", "boy", "the", "ish"])
    with pytest.raises(Unusable, match="token borders"):
        locate(t, "the boyish", 4, 7, bos=True)


def test_draws_are_pinned() -> None:
    """These numbers may never change: every seeded data set follows from them."""
    draws = Draws(0, "pin")
    assert [draws.below(1000) for _ in range(4)] == [851, 807, 72, 599]
    assert sorted(Draws(5, "x").shuffle(20)) == list(range(20))
    assert Draws(0, "x").shuffle(20) != Draws(0, "y").shuffle(20) != Draws(1, "y").shuffle(20)
    counts = np.bincount([Draws(s, "fair").sample(range(4), 2)[1] for s in range(800)], minlength=4)
    assert counts.min() > 150  # 200 expected, 4 standard deviations below
