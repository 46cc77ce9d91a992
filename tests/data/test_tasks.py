"""Built-in tasks: what their columns mean, checked against the tokens themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from midsl.data.dataset import Dataset, Part
from midsl.data.tasks.corpus import corpus
from midsl.data.tasks.induction import induction, ordinary_tokens, repeats
from midsl.data.tasks.ioi import NAMES, OBJECTS, PLACES, TEMPLATES, ioi
from midsl.data.tasks.pairs import pairs, table
from midsl.data.tasks.swaps import swaps
from midsl.data.tokenizers import char_vocab, int_vocab, word_vocab
from midsl.data.vocab import Vocabulary
from midsl.diagnostics.model import MiError


def refused(make: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(MiError) as caught:
        make()
    found = caught.value.diagnostics[0]
    return found.code, f"{found.message}\n{found.help}"


def ints(part: Part, name: str) -> list[int]:
    values = part.columns[name].values
    assert not isinstance(values, list)
    return [int(v) for v in values]


def spans(part: Part, name: str) -> list[tuple[int, int]]:
    values = part.columns[name].values
    assert not isinstance(values, list)
    return [(int(a), int(b)) for a, b in values]


def rows(part: Part) -> list[list[int]]:
    return [t[:n].tolist() for t, n in zip(part.tokens, part.lengths, strict=True)]


# ---------------------------------------------------------------- ioi


def words_for_ioi(names: tuple[str, ...] = NAMES) -> Vocabulary:
    """Every word of every prompt, commas and full stops on the words as white space leaves them."""
    text = " ".join(t.replace("{", " {").replace("}", "} ") for t in TEMPLATES)
    plain = {w for w in text.split() if "{" not in w}
    around = {w + end for w in (*PLACES, *OBJECTS) for end in ("", ",", ".")}
    return word_vocab(sorted({*names, *plain, *around}), bos="<s>", unk="<unk>")


@pytest.mark.parametrize("corrupt", ["s2", "flip", "abc"])
def test_ioi_columns_point_at_the_names(corrupt: str) -> None:
    t = words_for_ioi()
    d = ioi(t, n=40, seed=1, corrupt=corrupt)  # type: ignore[arg-type]
    clean, other = d.sides["clean"], d.sides["corrupt"]
    assert d.rows_total == len(clean) == 40 and not d.ineligible
    assert len(set(clean.texts)) == 40
    orders = clean.columns["order"].values
    assert isinstance(orders, list) and orders.count("ABBA") == orders.count("BABA") == 20
    columns = [ints(clean, c) for c in ("io", "s", "io_pos", "s1_pos", "s2_pos", "end")]
    for a, b, order, io, s, io_at, s1, s2, end in zip(
        rows(clean), rows(other), orders, *columns, strict=True
    ):
        assert a[io_at] == io and a[s1] == a[s2] == s and io != s
        assert a.count(io) == 1 and a.count(s) == 2 and s2 > max(io_at, s1)
        assert (io_at < s1) == (order == "ABBA") and end == len(a) - 1 and a[0] == t.bos_id
        changed = [i for i in range(len(a)) if a[i] != b[i]]
        if corrupt == "s2":
            assert changed == [s2] and b[s2] not in (io, s)
        elif corrupt == "flip":
            assert changed == [s2] and b[s2] == io
        else:
            assert changed == sorted((io_at, s1, s2))
            assert len({b[io_at], b[s1], b[s2], io, s}) == 5
    for name in ("io", "s", "io_pos", "s1_pos", "s2_pos"):
        assert ints(clean, name) == ints(other, name)


def test_ioi_is_seeded_and_prefixes_agree() -> None:
    t = words_for_ioi()
    assert ioi(t, n=8).fingerprint == ioi(t, n=8).fingerprint != ioi(t, n=8, seed=1).fingerprint
    assert ioi(t, n=16).sides["clean"].texts[:8] == ioi(t, n=8).sides["clean"].texts


def test_ioi_takes_only_names_of_one_token() -> None:
    t = words_for_ioi(("Ann", "Bob", "Cleo"))
    d = ioi(t, n=12, names=["Ann", "Bob", "Cleo", "Zebedee"])
    assert set(ints(d.sides["clean"], "io")) == {t.single(n) for n in ("Ann", "Bob", "Cleo")}
    code, text = refused(lambda: ioi(t, n=12, names=["Ann", "Bob", "Zebedee"]))
    assert code == "MI0502" and "2 of 3 names" in text
    assert refused(lambda: ioi(t, corrupt="abc", names=["Ann", "Bob", "Cleo"]))[0] == "MI0502"
    assert refused(lambda: ioi(None))[0] == "MI0503"
    assert refused(lambda: ioi(t, n=0))[0] == "MI0511"
    assert refused(lambda: ioi(t, corrupt="xyz"))[0] == "MI0511"  # type: ignore[arg-type]
    assert refused(lambda: ioi(t, n=10_000, names=["Ann", "Bob", "Cleo"]))[0] == "MI0511"


# ---------------------------------------------------------------- induction


def test_induction_first_half() -> None:
    d = induction(int_vocab(30, bos=True), n=16, period=5, seed=2)
    clean, other = d.sides["clean"], d.sides["corrupt"]
    for i, (a, b) in enumerate(zip(rows(clean), rows(other), strict=True)):
        s = a[1:6]
        assert a == [0, *s, *s] and len({*s}) == 5 and 0 not in s
        assert b[6:] == s and not {*b[1:6]} & {*s} and len({*b[1:6]}) == 5
        assert spans(clean, "first_half")[i] == (1, 6) and spans(clean, "second_half")[i] == (6, 10)
        assert spans(clean, "changed")[i] == (1, 6)
    check_induction(clean)


def test_induction_cue() -> None:
    d = induction(int_vocab(30, bos=True), n=40, period=5, seed=2, corrupt="cue")
    clean, other = d.sides["clean"], d.sides["corrupt"]
    for i, (a, b) in enumerate(zip(rows(clean), rows(other), strict=True)):
        cue = ints(clean, "cue")[i]
        assert [j for j in range(len(a)) if a[j] != b[j]] == [cue] and b[cue] not in a
        assert b.count(a[-1]) == 1  # what to copy is nowhere after another A
        lo, hi = spans(clean, "second_half")[i]
        assert lo == 6 and hi == len(a) - 1 > lo
    assert len({len(r) for r in rows(clean)}) > 1
    check_induction(clean)


def check_induction(part: Part) -> None:
    for i, a in enumerate(rows(part)):
        cue, after = ints(part, "cue")[i], ints(part, "b_pos")[i]
        query, answer, wrong = (ints(part, c)[i] for c in ("query", "answer", "wrong"))
        assert query == ints(part, "end")[i] == len(a) - 1
        assert a[query] == a[cue] and cue < query and after == cue + 1 and a[after] == answer
        assert wrong in a and wrong not in (answer, a[query])
        for p in range(*spans(part, "second_half")[i]):  # the next token is told by the first copy
            first = a.index(a[p])
            assert first < p and a[first + 1] == a[p + 1]


def test_repeats() -> None:
    d = repeats(int_vocab(30, bos=True), n=60, period_min=3, period_max=6, ctx=17, seed=4)
    part = d.sides[""]
    assert part.tokens.shape == (60, 17)
    periods = ints(part, "period")
    assert {*periods} == {3, 4, 5, 6}
    for a, period, (lo, hi) in zip(rows(part), periods, spans(part, "second_half"), strict=True):
        assert a[0] == 0 and len({*a[1 : 1 + period]}) == period
        assert all(a[i] == a[i - period] for i in range(1 + period, 17))
        assert (lo, hi) == (1 + period, 16)


def test_rows_without_a_begin_token() -> None:
    assert (
        rows(induction(int_vocab(30), n=1, period=4).sides["clean"])[0][:4]
        == rows(induction(int_vocab(30), n=1, period=4).sides["clean"])[0][4:]
    )
    t = int_vocab(30, bos=True)
    assert len(rows(induction(t, n=1, period=4, bos=False).sides["clean"])[0]) == 8
    assert len(ordinary_tokens(t)) == 29 and len(ordinary_tokens(int_vocab(30))) == 30


def test_induction_refuses() -> None:
    t = int_vocab(20, bos=True)
    assert induction(t, n=2, period=9).rows_total == 2
    code, text = refused(lambda: induction(t, period=10))
    assert code == "MI0511" and "20 distinct tokens" in text and "at most 9" in text
    assert induction(t, n=2, period=18, corrupt="cue").rows_total == 2
    assert refused(lambda: induction(t, period=19, corrupt="cue"))[0] == "MI0511"
    assert refused(lambda: induction(t, period=2))[0] == "MI0511"
    assert refused(lambda: induction(t, corrupt="half"))[0] == "MI0511"  # type: ignore[arg-type]
    assert refused(lambda: induction(None))[0] == "MI0503"
    assert refused(lambda: repeats(t, period_max=20, ctx=64))[0] == "MI0511"
    assert refused(lambda: repeats(t, period_min=5, period_max=4))[0] == "MI0511"
    assert refused(lambda: repeats(t, period_max=12, ctx=14))[0] == "MI0511"
    assert refused(lambda: repeats(None))[0] == "MI0503"


# ---------------------------------------------------------------- pairs and tables

WORDS = word_vocab(["the", "boy", "girl", "ran", ".", "He", "She", "old", "very"], bos="<s>")


def test_pairs() -> None:
    d = pairs(
        WORDS,
        clean=["the boy ran .", "the very old girl ran ."],
        corrupt=["the girl ran .", "the very old boy ran ."],
        answer=[" He", " She"],
        wrong=[" She", " He"],
        label=["m", "f"],
    )
    clean, other = d.sides["clean"], d.sides["corrupt"]
    assert clean.texts == ["the boy ran .", "the very old girl ran ."]
    assert ints(clean, "answer") == ints(other, "answer") == [6, 7] and ints(clean, "wrong") == [7, 6]
    assert ints(clean, "changed_end") == [2, 4] and ints(clean, "end") == [4, 6]
    assert clean.columns["label"].values == ["m", "f"]
    assert rows(other)[0] == [0, 1, 3, 4, 5]


def test_pairs_leave_out_what_cannot_be_used() -> None:
    d = pairs(
        WORDS,
        clean=["the boy", "the boy", "the boy", "the king"],
        corrupt=["the girl"] * 4,
        answer=["He", "He ran", "", "He"],
    )
    assert d.rows_total == 4 and len(d.sides["clean"]) == 1 and "wrong" not in d.sides["clean"].columns
    reasons = [r.reason for r in d.ineligible]
    assert reasons[0] == "answer 'He ran' is 2 tokens: 'He' 'ran'" and reasons[1] == "answer is empty"
    assert "'king' is not in the vocabulary" in reasons[2]


def test_pairs_refuse() -> None:
    def make(**changed: object) -> Dataset:
        given: dict[str, object] = {"clean": ["the boy"], "corrupt": ["the girl"], "answer": ["He"]}
        return pairs(WORDS, **{**given, **changed})  # type: ignore[arg-type]

    assert make().rows_total == 1
    code, text = refused(lambda: make(corrupt=["the old girl"]))
    assert code == "MI0501" and "'old'" in text
    assert refused(lambda: make(answer=["He ran"]))[0] == "MI0502"
    assert refused(lambda: make(answer=["He", "She"]))[0] == "MI0511"
    assert refused(lambda: make(clean="the boy"))[0] == "MI0511"
    assert refused(lambda: make(answer=[1]))[0] == "MI0511"
    assert refused(lambda: make(clean=[], corrupt=[], answer=[]))[0] == "MI0511"
    assert refused(lambda: make(mismatched="pad"))[0] == "MI0511"
    assert refused(lambda: pairs(None, ["a"], ["b"], ["c"]))[0] == "MI0503"
    two = make(
        clean=["the boy"] * 2, corrupt=["the girl", "the old girl"], answer=["He"] * 2, mismatched="leave_out"
    )
    assert [r.row for r in two.ineligible] == [1]


def test_table(tmp_path: Path) -> None:
    lines = [("the boy", "the girl", "He", "a"), ("the old boy", "the old girl", "He", "b")]
    csv, jsonl = tmp_path / "t.csv", tmp_path / "t.jsonl"
    csv.write_text("c,k,a,g\n" + "".join(",".join(line) + "\n" for line in lines))
    jsonl.write_text("".join(json.dumps(dict(zip("ckag", line, strict=True))) + "\n\n" for line in lines))
    made = [table(str(p), WORDS, clean="c", corrupt="k", answer="a", label="g") for p in (csv, jsonl)]
    assert made[0].fingerprint == made[1].fingerprint and made[0].provenance == "real"
    assert rows(made[0].sides["corrupt"]) == [[0, 1, 3], [0, 1, 8, 3]]
    assert len(table(str(csv), WORDS, "c", "k", "a", n=1).sides["clean"]) == 1
    code, text = refused(lambda: table(str(csv), WORDS, clean="c", corrupt="k", answer="answer"))
    assert code == "MI0511" and "`answer`" in text and "c, k, a, g" in text
    assert refused(lambda: table(str(tmp_path / "none.csv"), WORDS))[0] == "MI0504"
    (tmp_path / "t.txt").write_text("x")
    assert refused(lambda: table(str(tmp_path / "t.txt"), WORDS))[0] == "MI0511"
    jsonl.write_text("[1]\n")
    assert refused(lambda: table(str(jsonl), WORDS))[0] == "MI0511"
    csv.write_text("clean,corrupt,answer\n")
    assert refused(lambda: table(str(csv), WORDS))[0] == "MI0511"


def test_swaps() -> None:
    words, answers = ["boy", "girl", "old girl"], ["He", "She", "She"]
    d = swaps(WORDS, ["the {} ran", "{} ran ."], words, answers, mismatched="leave_out")
    clean, other = d.sides["clean"], d.sides["corrupt"]
    assert d.rows_total == 8 and [r.row for r in d.ineligible] == [1, 3, 5, 7]
    assert clean.texts == ["the boy ran", "the girl ran", "boy ran .", "girl ran ."]
    assert other.texts == ["the girl ran", "the boy ran", "girl ran .", "boy ran ."]
    assert ints(clean, "answer") == ints(other, "answer") == [6, 7, 6, 7]
    assert ints(clean, "wrong") == [7, 6, 7, 6] and ints(clean, "changed_end") == [2, 2, 1, 1]
    assert clean.columns["word"].values == ["boy", "girl"] * 2
    assert clean.columns["template"].values == ["0", "0", "1", "1"]
    assert refused(lambda: swaps(WORDS, ["the {}"], words, answers))[0] == "MI0501"
    assert refused(lambda: swaps(WORDS, ["the boy"], words, answers))[0] == "MI0511"
    assert refused(lambda: swaps(WORDS, ["{} {}"], words, answers))[0] == "MI0511"
    assert refused(lambda: swaps(WORDS, ["the {}"], words, answers[:2]))[0] == "MI0511"
    assert refused(lambda: swaps(WORDS, ["the {}"], words[1:], answers[1:]))[0] == "MI0511"
    assert refused(lambda: swaps(WORDS, [], words, answers))[0] == "MI0511"
    assert refused(lambda: swaps(None, ["the {}"], words, answers))[0] == "MI0503"


# ---------------------------------------------------------------- corpus


def test_corpus_begins_each_row_and_never_joins_documents(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("abcabca\n\nb\n \n\ncc<|endoftext|>\n\n", encoding="utf-8")
    d = corpus(str(path), char_vocab("abc", bos="^"), ctx=4)
    part = d.sides[""]
    assert rows(part) == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1], [0, 2], [0, 3, 3]]
    assert ints(part, "document") == [0, 0, 0, 1, 2] and part.texts == ["abc", "abc", "a", "b", "cc"]
    assert ints(part, "end") == [3, 3, 1, 1, 2] and not d.ineligible and d.provenance == "real"


def test_corpus_options(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("ab\nba\n\nc\n", encoding="utf-8")
    plain = char_vocab("abc")
    lines = corpus(str(path), plain, documents="line")
    assert rows(lines.sides[""]) == [[0, 1], [1, 0]]
    assert [r.reason for r in lines.ineligible] == ["a row of one token has no next token to predict"]
    whole = corpus(str(path), char_vocab("abc\n"), documents="whole", ctx=3)
    assert whole.sides[""].texts == ["ab\n", "ba\n", "\nc\n"]
    assert len(corpus(["abc", "cba"], plain, n=1).sides[""]) == 1
    unknown = corpus(["abc", "xyz"], plain)
    assert len(unknown.sides[""]) == 1 and "'x' is not in the vocabulary" in unknown.ineligible[0].reason
    split = corpus(["abc"] * 10, plain, split={"train": 0.8, "test": 0.2}, seed=1)
    assert {k: len(v) for k, v in split.splits.items()} == {"train": 8, "test": 2}
    assert np.array_equal(split.part("", "test").tokens, [[0, 1, 2]] * 2)


def test_corpus_refuses(tmp_path: Path) -> None:
    plain = char_vocab("abc")
    assert refused(lambda: corpus(["abc"], None))[0] == "MI0503"
    assert refused(lambda: corpus(str(tmp_path / "none.txt"), plain))[0] == "MI0504"
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    assert refused(lambda: corpus(str(tmp_path / "bad.txt"), plain))[0] == "MI0504"
    (tmp_path / "empty.txt").write_text(" \n")
    assert refused(lambda: corpus(str(tmp_path / "empty.txt"), plain))[0] == "MI0511"
    assert refused(lambda: corpus(["abc"], plain, ctx=1))[0] == "MI0511"
    assert refused(lambda: corpus(["abc"], plain, n=-1))[0] == "MI0511"
    assert refused(lambda: corpus([1], plain))[0] == "MI0511"  # type: ignore[list-item]
    assert refused(lambda: corpus(["abc"], plain, documents="page"))[0] == "MI0511"  # type: ignore[arg-type]
    assert refused(lambda: corpus(["a"], plain))[0] == "MI0502"
