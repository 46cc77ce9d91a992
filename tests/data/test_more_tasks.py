"""Tasks about numbers, words and facts: their columns against the tokens themselves, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from midsl.data.dataset import Dataset
from midsl.data.tasks.agreement import agreement
from midsl.data.tasks.facts import capitals, facts
from midsl.data.tasks.greater_than import greater_than
from midsl.data.tasks.modular import modular
from midsl.data.tasks.pairs import table
from midsl.data.tasks.pronouns import HE, SHE, pronouns
from midsl.data.tasks.sequences import copying, sorting
from midsl.data.tasks.texts import texts
from midsl.data.tokenizers import gpt2_bpe, int_vocab, word_vocab
from tests.data.test_tasks import ints, refused, rows, spans

GPT2 = Path(__file__).parents[3] / "shared" / "data" / "gpt2_bpe"
WORDS = word_vocab(["the", "boy", "girl", "dog", "big", "He", "She", "It"], bos="<s>", unk="<unk>")


def labels(d: Dataset, name: str) -> list[str]:
    values = d.sides["clean"].columns[name].values
    assert isinstance(values, list)
    return values


@pytest.mark.parametrize("op", ["add", "sub", "mul"])
@pytest.mark.parametrize("corrupt", ["a", "b"])
def test_modular_has_each_pair_once(op: str, corrupt: str) -> None:
    d = modular(int_vocab(8), 7, op=op, corrupt=corrupt)  # type: ignore[arg-type]
    clean, other = rows(d.sides["clean"]), rows(d.sides["corrupt"])
    of: Callable[[int, int], int] = {"add": int.__add__, "sub": int.__sub__, "mul": int.__mul__}[op]
    assert len({tuple(r) for r in clean}) == len(clean) == (42 if op == "mul" else 49)
    assert d.rows_total == 49
    for (a, b, end), (c, e, _), right, wrong in zip(
        clean, other, ints(d.sides["clean"], "answer"), ints(d.sides["clean"], "wrong"), strict=True
    ):
        assert end == 7 and right == of(a, b) % 7 and wrong == of(c, e) % 7 != right
        assert (b == e and a != c) if corrupt == "a" else (a == c and b != e)


def test_modular_with_a_begin_token_and_its_own_end() -> None:
    t = word_vocab([*map(str, range(5)), "="], bos="<s>")
    d = modular(t, 5, n=10, equals="=", bos=True, seed=3)
    assert len(d.sides["clean"]) == 10 and all(
        r[0] == t.bos_id and r[3] == t.single("=") for r in rows(d.sides["clean"])
    )
    assert ints(d.sides["clean"], "a_pos") == [1] * 10
    assert modular(t, 5, n=10, equals="=", bos=True, seed=3).fingerprint == d.fingerprint


@pytest.mark.parametrize("make", [copying, sorting])
@pytest.mark.parametrize("cut", [True, False])
def test_sequences(make: Callable[..., Dataset], cut: bool) -> None:
    d = make(int_vocab(16, bos=True), n=60, length=4, cut=cut, seed=2)
    clean, other = d.sides["clean"], d.sides["corrupt"]
    output = list if make is copying else sorted
    for a, b, right, wrong, query, source, (lo, hi), (start, stop) in zip(
        rows(clean), rows(other), ints(clean, "answer"), ints(clean, "wrong"), ints(clean, "query"),
        ints(clean, "source"), spans(clean, "list"), spans(clean, "output"), strict=True,
    ):  # fmt: skip
        assert (lo, hi, start) == (1, 5, 5) and a[5] == 15, "the last token is the separator"
        at = query - 5
        assert output(a[1:5])[at] == right == a[source] and output(b[1:5])[at] == wrong != right
        assert a[6 : 6 + at] == output(a[1:5])[:at] == b[6 : 6 + at], "alike up to the question"
        assert sum(x != y for x, y in zip(a[1:5], b[1:5], strict=True)) == 1
        assert len(a) == (query + 1 if cut else 10) and stop == len(a) - 1
        if not cut:
            assert a[6:] == output(a[1:5]) and b[6:] == output(b[1:5])


def test_sequences_refuse_what_cannot_be_made() -> None:
    assert refused(lambda: sorting(int_vocab(5), length=4))[0] == "MI0511"
    assert refused(lambda: copying(int_vocab(5), length=0))[0] == "MI0511"
    assert refused(lambda: copying(None))[0] == "MI0503"


def test_modular_refuses_what_cannot_be_made() -> None:
    assert refused(lambda: modular(int_vocab(8), 7, n=50))[0] == "MI0511"
    assert refused(lambda: modular(int_vocab(7), 7))[0] == "MI0502", "no token for the end"


@pytest.mark.skipif(not GPT2.is_dir(), reason="GPT-2's tokenizer is not there")
@pytest.mark.parametrize("make", [greater_than, pronouns, agreement, capitals])
def test_prompts_fit_a_real_tokenizer(make: Callable[..., Dataset]) -> None:
    """Most rows can be used, sides differ in one word, and the answer is read off the text."""
    t = gpt2_bpe(str(GPT2 / "encoder.json"), str(GPT2 / "vocab.bpe"))
    d = make(t) if make is capitals else make(t, n=120, seed=1)
    clean = d.sides["clean"]
    assert len(clean) > 0.85 * d.rows_total and len(
        set(zip(clean.texts, d.sides["corrupt"].texts, ints(clean, "answer"), strict=True))
    ) == len(clean)
    for text, answer, wrong in zip(clean.texts, ints(clean, "answer"), ints(clean, "wrong"), strict=True):
        right, other = t.token(answer), t.token(wrong)
        if make is greater_than:
            year = int(text.split()[6][2:])
            assert int(right) > year >= int(other)
        elif make is pronouns:
            assert right == (" he" if text.split()[1] in HE else " she") and text.split()[1] in (*HE, *SHE)
            assert {right, other} == {" he", " she"}
        elif make is agreement:
            plural = text.split()[1].endswith("s")
            assert (right in (" are", " were", " have")) == plural and (
                other in (" is", " was", " has")
            ) == plural
    if make is pronouns:
        assert labels(d, "gender").count("he") == 60
    if make is agreement:
        kinds = list(zip(labels(d, "number"), labels(d, "attractor"), strict=True))
        assert {k: kinds.count(k) for k in set(kinds)} == {
            (n, a): 30 for n in ("singular", "plural") for a in ("same", "other")
        }


FACTS = [
    {"subject": "boy", "answer": "He", "template": "the {}"},
    {"subject": "girl", "answer": "She", "template": "the {}"},
    {"subject": "big dog", "answer": "It", "template": "the {}"},
    {"subject": "big boy", "answer": "He", "template": "the {}"},
    {"subject": "dog", "answer": "It", "template": "big {}"},
]


def written(folder: Path, kind: str, records: list[dict[str, Any]]) -> str:
    """A table as a file of a kind."""
    path = folder / f"rows.{kind}"
    lines = folder / "rows.jsonl"
    lines.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    if kind != "jsonl":
        form = "(FORMAT csv, HEADER)" if kind == "csv" else "(FORMAT parquet)"
        duckdb.sql(f"COPY (SELECT * FROM read_json('{lines}')) TO '{path}' {form}")
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_facts_from_a_file(tmp_path: Path, kind: str) -> None:
    d = facts(written(tmp_path, kind, FACTS), WORDS)
    clean, other = d.sides["clean"], d.sides["corrupt"]
    assert clean.texts == ["the boy", "the girl", "the big dog", "the big boy"]
    assert other.texts == ["the girl", "the boy", "the big boy", "the big dog"]
    assert [i.row for i in d.ineligible] == [4] and "as many tokens" in d.ineligible[0].reason
    assert spans(clean, "subject") == [(2, 3), (2, 3), (2, 4), (2, 4)]
    assert ints(clean, "subject_end") == [2, 2, 3, 3] and labels(d, "name")[2] == "big dog"
    assert [WORDS.token(i) for i in ints(clean, "answer")] == ["He", "She", "It", "He"]
    assert [WORDS.token(i) for i in ints(clean, "wrong")] == ["She", "He", "He", "It"]


def test_facts_with_one_template_for_all(tmp_path: Path) -> None:
    path = written(tmp_path, "jsonl", FACTS)
    assert facts(path, WORDS, template="big {}", n=2).sides["clean"].texts == ["big boy", "big girl"]
    assert refused(lambda: facts(path, WORDS, template="big"))[0] == "MI0511"
    assert "no column `capital`" in refused(lambda: facts(path, WORDS, answer="capital"))[1]
    assert refused(lambda: facts(str(tmp_path / "none.parquet"), WORDS))[0] == "MI0504"
    assert refused(lambda: facts(str(tmp_path / "rows.txt"), WORDS))[0] == "MI0511"
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    assert refused(lambda: facts(str(tmp_path / "bad.parquet"), WORDS))[0] == "MI0504"


def test_answers_that_are_no_token_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, "jsonl", [*FACTS[:2], {"subject": "dog", "answer": "Rex", "template": "the {}"}])
    (left,) = facts(path, WORDS).ineligible
    assert left.reason == "answer ' Rex' is not in the vocabulary"


def test_texts_with_a_label_and_a_number(tmp_path: Path) -> None:
    records = [
        {"text": "the boy", "label": "x", "number": 1},
        {"text": "the big big girl", "label": "y", "number": 2.5},
    ]
    path = written(tmp_path, "parquet", records)
    d = texts(path, WORDS, label="label", number="number")
    part = d.sides[""]
    assert part.columns["label"].values == ["x", "y"] and list(part.columns["number"].values) == [1.0, 2.5]
    assert d.provenance == "real" and rows(part)[0] == WORDS.encode("the boy")
    short = texts(path, WORDS, ctx=3)
    assert len(short.sides[""]) == 1 and "more than 3 tokens" in short.ineligible[0].reason
    assert set(short.sides[""].columns) == {"start", "end"}


def test_table_reads_parquet(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet", [{"clean": "the boy", "corrupt": "the girl", "answer": "He"}])
    assert table(path, WORDS).sides["corrupt"].texts == ["the girl"]
