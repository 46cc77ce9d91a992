"""Tokenizers: ids and texts, begin tokens, single tokens, and what damaged files say."""

from __future__ import annotations

import itertools
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midsl.data.dataset import Tokenizer
from midsl.data.failures import Unencodable
from midsl.data.llama2c import Llama2cTokenizer
from midsl.data.tokenizers import (
    char_vocab,
    chars_of,
    gpt2_bpe,
    hf_tokenizer,
    int_vocab,
    llama2c_tokenizer,
    word_vocab,
    words_of,
)
from midsl.diagnostics.model import MiError


def refused(error: MiError) -> str:
    return error.diagnostics[0].code


# ---------------------------------------------------------------- lists


def test_characters_keep_their_order() -> None:
    t: Tokenizer = char_vocab("cab", bos=".")
    assert t.vocab_size == 4 and t.bos_id == 0
    assert t.encode("abc") == [0, 2, 3, 1]
    assert t.encode("abc", bos=False) == t.pieces("abc") == [2, 3, 1]
    assert t.decode([0, 2, 3, 1]) == "abc"
    assert t.single("b") == 3 and t.single("ab") is None and t.token(3) == "b"
    assert char_vocab(".ab", bos=".").encode("b") == [0, 2]  # already there: not added again
    assert char_vocab("ab").encode("b") == [1]


def test_words_split_at_white_space() -> None:
    t = word_vocab(["to", "be", "or"], bos="<s>", unk="<unk>")
    assert t.encode("be  or\nnot to") == [0, 2, 3, 4, 1]
    assert t.decode([0, 2, 3, 4, 1]) == "be or to"
    assert t.single(" be") == 2 and t.single("not") is None and t.single("be or") is None
    assert t.special_ids == {0, 4}


def test_a_piece_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(Unencodable) as caught:
        char_vocab("ab").encode("abz")
    assert "'z'" in str(caught.value) and refused(caught.value) == "MI0511"


@pytest.mark.parametrize(
    "make",
    [
        lambda: char_vocab(""),
        lambda: char_vocab("aba"),
        lambda: char_vocab("ab", bos="xy"),
        lambda: word_vocab([]),
        lambda: word_vocab(["a b"]),
        lambda: word_vocab([""]),
        lambda: word_vocab(["a", "a"]),
        lambda: word_vocab(["a"], bos="x", unk="x"),
        lambda: int_vocab(0),
        lambda: int_vocab(1, bos=True),
    ],
)
def test_vocabularies_that_make_no_sense(make: Any) -> None:
    with pytest.raises(MiError) as caught:
        make()
    assert refused(caught.value) == "MI0511"


def test_integers() -> None:
    assert int_vocab(4).encode("3 0 1") == [3, 0, 1] and int_vocab(4).bos_id is None
    t = int_vocab(4, bos=True)
    assert (t.vocab_size, t.bos_id, t.token(0), t.token(3)) == (4, 0, "<bos>", "3")
    assert t.encode("3") == [0, 3]


def test_vocabulary_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("to be or\nto", encoding="utf-8")
    assert words_of(str(path)).tokens == ("be", "or", "to")
    assert chars_of(str(path), bos="^").tokens == ("^", "\n", " ", "b", "e", "o", "r", "t")
    with pytest.raises(MiError) as caught:
        chars_of(str(tmp_path / "none.txt"))
    assert refused(caught.value) == "MI0504"


def test_fingerprints_tell_tokenizers_apart() -> None:
    made = [
        char_vocab("ab"),
        char_vocab("ba"),
        char_vocab("ab", bos="."),
        word_vocab(["a", "b"]),
        int_vocab(2),
    ]
    assert len({t.fingerprint for t in made}) == len(made)
    assert char_vocab("ab").fingerprint == char_vocab("ab").fingerprint


# ---------------------------------------------------------------- llama2.c

PIECES = [" ", "a", "b", "c", "ab", "bc", "abc", " a", " ab", "cc", "ca", "é"]


def toy_vocab() -> tuple[list[bytes], list[float]]:
    vocab = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(f"<0x{i:02X}>".encode() for i in range(256))]
    vocab += [p.encode() for p in PIECES]
    scores = [0.0] * 259 + [-float(i % 5) for i in range(len(PIECES))]  # several equal scores
    return vocab, scores


def toy_file(folder: Path) -> Path:
    vocab, scores = toy_vocab()
    raw = struct.pack("<i", max(map(len, vocab)))
    for piece, score in zip(vocab, scores, strict=True):
        raw += struct.pack("<fi", score, len(piece)) + piece
    path = folder / "tok.bin"
    path.write_bytes(raw)
    return path


def slow_merge(t: Llama2cTokenizer, ids: list[int]) -> list[int]:
    """The loop as it is usually written: look at all neighbours, merge the best, start again."""
    known = {piece: i for i, piece in enumerate(t.vocab)}
    while True:
        found = [
            (t.scores[known[t.vocab[a] + t.vocab[b]]], -i)
            for i, (a, b) in enumerate(itertools.pairwise(ids))
            if t.vocab[a] + t.vocab[b] in known
        ]
        if not found:
            return ids
        i = -max(found)[1]
        ids = [*ids[:i], known[t.vocab[ids[i]] + t.vocab[ids[i + 1]]], *ids[i + 2 :]]


def test_llama2c_by_hand(tmp_path: Path) -> None:
    t: Tokenizer = llama2c_tokenizer(toy_file(tmp_path))
    ids = {p: 259 + i for i, p in enumerate(PIECES)}
    assert t.vocab_size == 259 + len(PIECES) and t.bos_id == 1
    # " " + "a" + "b": "ab" scores -4, " a" -2: the space goes first, then " ab" joins
    assert t.encode("ab") == [1, ids[" ab"]]
    assert t.encode("ab", bos=False) == [ids[" ab"]]
    assert t.pieces("ab") == [ids["ab"]] and t.single("ab") == ids["ab"] and t.single(" ab") == ids[" ab"]
    assert t.encode("") == [1]
    assert t.encode("z") == [1, ids[" "], ord("z") + 3]  # byte fallback
    assert t.pieces("☃") == [b + 3 for b in "☃".encode()]
    assert t.token(ord("z") + 3) == "z" and t.token("☃".encode()[0] + 3) == "<0xE2>"
    assert t.decode(t.encode("ab z☃é")) == "ab z☃é"
    assert t.decode(t.encode("ab", bos=False)) == " ab"  # only a begin token swallows the space
    assert t.decode([1, ids["ab"], 2]) == "ab"


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abc é☃", max_size=30))
def test_llama2c_merges_like_the_slow_loop_and_decodes_back(text: str) -> None:
    t = Llama2cTokenizer(*(tuple(x) for x in toy_vocab()))  # type: ignore[arg-type]
    assert t.pieces(text) == slow_merge(t, t._start(text))
    assert t.decode(t.encode(text)) == text


def test_llama2c_damaged(tmp_path: Path) -> None:
    whole = toy_file(tmp_path).read_bytes()
    for raw in (b"", whole[:-1], whole[:2000], b"\xff" * 4000, whole + b"\x00"):
        path = tmp_path / "bad.bin"
        path.write_bytes(raw)
        with pytest.raises(MiError) as caught:
            llama2c_tokenizer(path)
        assert refused(caught.value) == "MI0510"
    with pytest.raises(MiError) as caught:
        llama2c_tokenizer(tmp_path / "none.bin")
    assert refused(caught.value) == "MI0504"


# ---------------------------------------------------------------- the tokenizers library


def byte_level(folder: Path, **config: Any) -> Path:
    """A GPT-2-like folder: bytes, a few merges, <|endoftext|>."""
    lib = pytest.importorskip("tokenizers")
    alphabet = sorted(lib.pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "M"), ("a", "r"), ("ar", "y"), ("ĠM", "ary"), ("M", "ary")]
    vocab = {t: i for i, t in enumerate([*alphabet, *(a + b for a, b in merges), "<|endoftext|>"])}
    (folder / "encoder.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = "#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n"
    (folder / "vocab.bpe").write_text(lines, encoding="utf-8")
    made = gpt2_bpe(folder / "encoder.json", folder / "vocab.bpe")
    made.backend.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def metaspace(folder: Path) -> Path:
    """A Llama-like folder: a space in front of every text, <s> put first by the template."""
    lib = pytest.importorskip("tokenizers")
    pieces = ["<unk>", "<s>", "</s>", "▁", "\n", *"Mary(ab", "▁a", "▁M", "ar", "ary", "Mary", "▁Mary"]
    merges = [("▁", "a"), ("a", "r"), ("ar", "y"), ("M", "ary"), ("▁", "Mary")]
    vocab = {p: i for i, p in enumerate(dict.fromkeys(pieces))}
    t = lib.Tokenizer(lib.models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"))
    t.pre_tokenizer = lib.pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    t.decoder = lib.decoders.Metaspace(prepend_scheme="first", split=False)
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    t.post_processor = lib.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocab["<s>"])]
    )
    t.enable_truncation(4)
    t.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}')
    return folder


def test_gpt2_files(tmp_path: Path) -> None:
    folder = byte_level(tmp_path)
    t: Tokenizer = gpt2_bpe(folder / "encoder.json", folder / "vocab.bpe")
    assert t.bos_id is None and t.eos_id == 261 and t.special_ids == {261}
    assert [t.token(i) for i in t.encode("Mary Mary!")] == ["Mary", " Mary", "!"]
    assert t.single(" Mary") == 259 and t.single("Mary") == 260 and t.single(" Mar") is None
    assert t.decode(t.encode("Mary, é ☃")) == "Mary, é ☃"
    with_bos = gpt2_bpe(folder / "encoder.json", folder / "vocab.bpe", bos=True)
    assert with_bos.encode("Mary") == [261, 260] and with_bos.decode([261, 260]) == "Mary"
    assert with_bos.fingerprint != t.fingerprint


def test_hf_folder_begins_rows_as_its_tokenizer_does(tmp_path: Path) -> None:
    assert hf_tokenizer(byte_level(tmp_path)).encode("Mary") == [260]
    assert hf_tokenizer(tmp_path, bos="add").encode("Mary") == [261, 260]
    assert hf_tokenizer(tmp_path / "tokenizer.json", bos="add").encode("Mary") == [261, 260]
    assert hf_tokenizer(byte_level(tmp_path, add_bos_token=True)).encode("Mary") == [261, 260]
    assert hf_tokenizer(tmp_path, bos="none").encode("Mary") == [260]
    assert hf_tokenizer(byte_level(tmp_path, add_bos_token=False)).bos_id is None


@pytest.mark.parametrize("flag", [None, True, False])
def test_the_template_decides_about_the_begin_token(tmp_path: Path, flag: bool | None) -> None:
    transformers = pytest.importorskip("transformers")
    flags = {} if flag is None else {"add_bos_token": flag}
    settings = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        **flags,
    }
    (metaspace(tmp_path) / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    assert hf_tokenizer(tmp_path).encode("Mary a") == theirs("Mary a").input_ids == [1, 16, 11]


def test_hf_template_and_spaces(tmp_path: Path) -> None:
    t: Tokenizer = hf_tokenizer(metaspace(tmp_path))
    text = "Mary a Mary a Mary"
    ids = t.encode(text)
    assert ids[0] == t.bos_id == 1 and t.eos_id == 2
    assert [t.token(i) for i in ids[1:]] == [" Mary", " a", " Mary", " a", " Mary"]  # and nothing cut off
    assert t.decode(ids) == text
    assert t.token(t.single(" Mary") or 0) == " Mary" and t.token(t.single("Mary") or 0) == "Mary"
    assert t.single("Mary") != t.single(" Mary")
    assert t.single("☃") is None
    assert hf_tokenizer(tmp_path, bos="none").encode("Mary") == ids[1:2]


def test_a_token_that_stands_for_another_text_is_not_that_text(tmp_path: Path) -> None:
    lib = pytest.importorskip("tokenizers")
    inner = lib.Tokenizer(lib.models.WordLevel({"[UNK]": 0, "mary": 1, "a": 2}, unk_token="[UNK]"))
    inner.normalizer = lib.normalizers.Lowercase()
    inner.pre_tokenizer = lib.pre_tokenizers.Whitespace()
    inner.save(str(tmp_path / "tokenizer.json"))
    t = hf_tokenizer(tmp_path)
    assert t.encode("Mary zebra") == [1, 0]
    assert t.pieces("Mary") == [1] and t.single("Mary") is None and t.single("zebra") is None


def test_transformers_object(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(metaspace(tmp_path) / "tokenizer.json"), bos_token="<s>", eos_token="</s>"
    )
    t = hf_tokenizer(theirs)
    assert t.encode("Mary a") == theirs("Mary a").input_ids and t.bos_id == 1
    theirs.save_pretrained(tmp_path / "saved")
    assert hf_tokenizer(tmp_path / "saved").encode("Mary a") == theirs("Mary a").input_ids
    with pytest.raises(MiError) as caught:
        hf_tokenizer(object())
    assert refused(caught.value) == "MI0507"


def test_older_folder_through_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = byte_level(tmp_path, tokenizer_class="GPT2Tokenizer")
    (folder / "tokenizer.json").unlink()
    (folder / "encoder.json").rename(folder / "vocab.json")
    (folder / "vocab.bpe").rename(folder / "merges.txt")
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    assert hf_tokenizer(folder).encode("Mary Mary") == [260, 259]


def test_hf_damaged(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    cases: list[tuple[Any, str]] = [(tmp_path, "MI0510"), (tmp_path / "none.json", "MI0504")]
    empty = tmp_path / "empty"
    empty.mkdir()
    cases.append((empty, "MI0507"))
    for source, code in cases:
        with pytest.raises(MiError) as caught:
            hf_tokenizer(source)
        assert refused(caught.value) == code
    byte_level(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("not json")
    with pytest.raises(MiError) as caught:
        hf_tokenizer(tmp_path)
    assert refused(caught.value) == "MI0510"
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(MiError) as caught:
        hf_tokenizer(tmp_path, bos="add")
    assert refused(caught.value) == "MI0511"
    with pytest.raises(MiError) as caught:
        hf_tokenizer(tmp_path, bos="always")  # type: ignore[arg-type]
    assert refused(caught.value) == "MI0511"
    with pytest.raises(MiError) as caught:
        gpt2_bpe(tmp_path / "encoder.json", tmp_path / "none.bpe")
    assert refused(caught.value) == "MI0504"
    (tmp_path / "encoder.json").write_text('{"a": 0}')
    with pytest.raises(MiError) as caught:
        gpt2_bpe(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    assert refused(caught.value) == "MI0510"


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = byte_level(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    files = folder / "encoder.json", folder / "vocab.bpe"
    makes: list[Callable[[], Tokenizer]] = [lambda: hf_tokenizer(folder), lambda: gpt2_bpe(*files)]
    for make in makes:
        with pytest.raises(MiError) as caught:
            make()
        assert refused(caught.value) == "MI0507" and "midsl[hf]" in caught.value.diagnostics[0].help
