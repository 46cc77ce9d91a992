"""GPT-2's tokens of published prompts, and where the words that matter stand in them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from midsl.data.build import locate
from midsl.data.fast import FastTokenizer
from midsl.data.tasks.ioi import ioi
from midsl.data.tasks.pairs import table
from midsl.data.tokenizers import gpt2_bpe, llama2c_tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data"
BPE, PROMPTS, STORIES = SHARED / "gpt2_bpe", SHARED / "ioi_greater_than", SHARED / "stories260k"
needs_gpt2 = pytest.mark.skipif(not (BPE.exists() and PROMPTS.exists()), reason="needs ../shared/data")
needs_stories = pytest.mark.skipif(not STORIES.exists(), reason="needs ../shared/data")


@pytest.fixture(scope="module")
def gpt2() -> FastTokenizer:
    pytest.importorskip("tokenizers")
    return gpt2_bpe(BPE / "encoder.json", BPE / "vocab.bpe")


@pytest.fixture(scope="module")
def ioi_rows() -> list[dict[str, str]]:
    with (PROMPTS / "ioi_pairs.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class PlainBpe:
    """GPT-2's algorithm written out for ASCII text, to compare the library with."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = json.loads((BPE / "encoder.json").read_text(encoding="utf-8"))
        lines = (BPE / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
        self.rank = {tuple(line.split()): i for i, line in enumerate(lines)}
        self.words = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")

    def encode(self, text: str) -> list[int]:
        out = []
        for word in self.words.findall(text):
            parts = list(word.replace(" ", "Ġ"))
            while len(parts) > 1:
                at = min(range(len(parts) - 1), key=lambda i: self.rank.get((parts[i], parts[i + 1]), 10**9))
                if (parts[at], parts[at + 1]) not in self.rank:
                    break
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            out += [self.ids[p] for p in parts]
        return out


@needs_gpt2
def test_known_ids(gpt2: FastTokenizer) -> None:
    assert gpt2.encode("Hello world") == [15496, 995]
    assert (gpt2.vocab_size, gpt2.bos_id, gpt2.eos_id) == (50257, None, 50256)
    assert gpt2.single(" Mary") == 5335 and gpt2.single(" John") == 1757
    assert gpt2.single(" Zebedee") is None and gpt2.token(5335) == " Mary"
    assert gpt2_bpe(BPE / "encoder.json", BPE / "vocab.bpe", bos=True).encode("Hello") == [50256, 15496]


@needs_gpt2
def test_every_published_prompt_as_the_algorithm_says(
    gpt2: FastTokenizer, ioi_rows: list[dict[str, str]]
) -> None:
    plain = PlainBpe()
    texts = [r[c] for r in ioi_rows for c in ("clean", "corrupted", "corrupted_hard")]
    with (PROMPTS / "greater_than.csv").open(encoding="utf-8") as file:
        texts += [r[c] for r in csv.DictReader(file) for c in ("clean", "corrupted")]
    assert len(texts) > 2000
    for text in texts:
        ids = gpt2.encode(text)
        assert ids == plain.encode(text)
        assert gpt2.decode(ids) == text


@needs_gpt2
def test_positions_of_the_papers_prompt(gpt2: FastTokenizer) -> None:
    """The prompt of the IOI paper: behind a begin token the names stand at 2, 4 and 10, the end is 14."""
    text = "When Mary and John went to the store, John gave a drink to"
    assert len(gpt2.encode(text)) == 14
    places = {" Mary": (4, 1), " John": (13, 3)}
    for name, (at, pos) in places.items():
        assert locate(gpt2, text, at, at + len(name), bos=False) == (pos, pos + 1)
    second = text.rindex(" John")
    assert locate(gpt2, text, second, second + 5, bos=False) == (9, 10)


@needs_gpt2
def test_positions_of_the_names_in_published_ioi_pairs(
    gpt2: FastTokenizer, ioi_rows: list[dict[str, str]]
) -> None:
    assert len(ioi_rows) == 499
    for row in ioi_rows:
        clean, hard = row["clean"], row["corrupted_hard"]
        tokens, other = gpt2.encode(clean), gpt2.encode(hard)
        found = re.match(r".*?( \w+) and( \w+) .*", clean)
        assert found is not None
        first, second = found.span(1), found.span(2)
        names = [clean[slice(*span)] for span in (first, second)]
        at = [locate(gpt2, clean, *span, bos=False) for span in (first, second)]
        assert [tokens[a:b] for a, b in at] == [[gpt2.single(name)] for name in names]
        # the hard corruption is another name as the subject: one token, and the only one that changes
        changed = [i for i, (a, b) in enumerate(zip(tokens, other, strict=True)) if a != b]
        assert len(changed) == 1
        subject, other_name = sorted(names, key=lambda n: -clean.count(n))
        assert clean.count(subject) == 2 and clean.count(other_name) == 1
        assert gpt2.token(tokens[changed[0]]) == subject and gpt2.token(other[changed[0]]) == other_name
        assert changed[0] > at[1][0]


@needs_gpt2
def test_positions_in_published_greater_than_pairs() -> None:
    """``The war lasted from the year 1352 to the year 13``: only the year's last two digits change."""
    pytest.importorskip("tokenizers")
    tokenizer = gpt2_bpe(BPE / "encoder.json", BPE / "vocab.bpe")
    data = table(str(PROMPTS / "greater_than.csv"), tokenizer, corrupt="corrupted", answer="label")
    clean = data.sides["clean"]
    assert data.rows_total == len(clean) == 1000
    for i in range(len(clean)):
        row = clean.tokens[i, : clean.lengths[i]].tolist()
        changed = clean.columns["changed"].values[i]
        assert not isinstance(changed, str) and changed.tolist() == [7, 8]
        assert len(row) == 12 and tokenizer.token(row[7]) == clean.texts[i].split()[6][2:]
        assert row[6] == row[11]  # " 13" of the year is " 13" at the end
        answer = clean.columns["answer"].values[i]
        assert not isinstance(answer, str) and tokenizer.token(int(answer)) == str(
            int(tokenizer.token(row[7]))
        )


@needs_gpt2
def test_every_built_in_name_serves_gpt2(gpt2: FastTokenizer) -> None:
    data = ioi(gpt2, n=500, seed=0)
    clean = data.sides["clean"]
    assert len(clean) == 500 and not data.ineligible and not len(data.splits)
    for i, text in enumerate(clean.texts):
        at = {c: int(clean.columns[c].values[i]) for c in ("io_pos", "s1_pos", "s2_pos")}
        tokens = [gpt2.token(t) for t in clean.tokens[i, : clean.lengths[i]].tolist()]
        assert "".join(tokens) == text
        assert tokens[at["s1_pos"]] == tokens[at["s2_pos"]] != tokens[at["io_pos"]]


@needs_stories
def test_published_story_of_stories260k() -> None:
    t = llama2c_tokenizer(STORIES / "tok512.bin")
    assert [t.single(x) for x in (" He", " She")] == [346, 338]
    assert t.token(317) == " Lily" and t.token(326) == " Tim"
    text = (STORIES / "expected_greedy_200.txt").read_text(encoding="utf-8")
    ids = t.encode(text)
    assert t.decode(ids) == text and "".join(t.token(i) for i in ids[1:]) == " " + text
    assert ids[0] == 1 and len(ids) == 1 + 200  # encodes back to as many tokens as were generated
