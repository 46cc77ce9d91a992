"""Vocabularies that are plain lists: characters, words, integers.

Toys and published small models have no tokenizer file; their tokens are the list itself, in the order
of the ids. Nothing is guessed: text outside the list cannot be encoded unless there is an unknown token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from midsl.data.failures import Unencodable, read_text
from midsl.diagnostics.model import fail


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer whose tokens are a list of pieces joined by `joint` ("" characters, " " words)."""

    tokens: tuple[str, ...]
    joint: str
    bos_id: int | None = None
    unk_id: int | None = None
    eos_id: int | None = None
    fingerprint: str = field(init=False)
    special_ids: frozenset[int] = field(init=False)
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rules = ["vocabulary", self.joint, self.bos_id, self.unk_id, *self.tokens]
        digest = hashlib.sha256(json.dumps(rules).encode()).hexdigest()
        special = frozenset(i for i in (self.bos_id, self.unk_id) if i is not None)
        object.__setattr__(self, "fingerprint", digest)
        object.__setattr__(self, "special_ids", special)
        object.__setattr__(self, "_ids", {t: i for i, t in enumerate(self.tokens)})

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Token ids of a text, `bos_id` first where there is one.

        Raises:
            Unencodable: a piece is not in the vocabulary, and there is no unknown token.
        """
        first = [self.bos_id] if bos and self.bos_id is not None else []
        return first + self.pieces(text)

    def pieces(self, text: str) -> list[int]:
        """Token ids of a text, without a special token in front; raises as `encode`."""
        return [self._id(p) for p in (text.split() if self.joint else text)]

    def _id(self, piece: str) -> int:
        found = self._ids.get(piece, self.unk_id)
        if found is None:
            raise Unencodable(f"{piece!r} is not in the vocabulary of {len(self.tokens)} tokens")
        return found

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens left out."""
        return self.joint.join(self.tokens[i] for i in ids if i not in self.special_ids)

    def token(self, id: int) -> str:
        """One token as text."""
        return self.tokens[id]

    def single(self, text: str) -> int | None:
        """The id of a text that is exactly one token, else None.

        Words are separated by spaces, so one space around a word is no part of another token.
        """
        found = self._ids.get(text.strip(" ") if self.joint else text)
        return None if found == self.unk_id else found


def char_vocab(chars: str, bos: str | None = None) -> Vocabulary:
    """One token per character, in the order given.

    Args:
        chars: the characters, each once.
        bos: the character that begins a row; put first where it is not among them. None or "": none does.

    Raises:
        MiError: MI0511 if a character stands twice, or there is none.
    """
    return _vocabulary(list(chars), "", bos, None)


def word_vocab(words: Sequence[str], bos: str | None = None, unk: str | None = None) -> Vocabulary:
    """One token per word; text is split at white space.

    Args:
        words: the words in the order of their ids, each once.
        bos: the word that begins a row; put first where it is not among them. None or "": none does.
        unk: the word that stands for every other; put last where it is not among them.

    Raises:
        MiError: MI0511 if a word stands twice, holds white space, or there is none.
    """
    return _vocabulary(list(words), " ", bos, unk)


def int_vocab(n: int, bos: bool = False) -> Vocabulary:
    """`n` tokens that are written as integers: "0", "1", ...; with `bos`, id 0 is "<bos>" instead.

    A token is written as its id either way, so a model's logits can be read by number.

    Raises:
        MiError: MI0511 if there would be no token.

    >>> int_vocab(5, bos=True).encode("3 1")
    [0, 3, 1]
    """
    if n < 1 + bos:
        raise fail("MI0511", f"a vocabulary of {n} tokens holds nothing", help="ask for more")
    tokens = tuple(str(i) for i in range(n))
    return Vocabulary(("<bos>", *tokens[1:]) if bos else tokens, " ", 0 if bos else None)


def chars_of(path: str, bos: str | None = None) -> Vocabulary:
    """`char_vocab` of the characters that occur in a text file, sorted.

    Raises:
        MiError: MI0504 if the file cannot be read.
    """
    return char_vocab("".join(sorted(set(read_text(path)))), bos)


def words_of(path: str, bos: str | None = None, unk: str | None = None) -> Vocabulary:
    """`word_vocab` of the words that occur in a text file, sorted.

    Raises:
        MiError: MI0504 if the file cannot be read.
    """
    return word_vocab(sorted(set(read_text(Path(path)).split())), bos, unk)


def _vocabulary(tokens: list[str], joint: str, bos: str | None, unk: str | None) -> Vocabulary:
    what = "word" if joint else "character"
    if not tokens:
        raise fail("MI0511", f"a vocabulary needs at least one {what}", help=f"list each {what} once")
    twice = next((t for t in tokens if tokens.count(t) > 1), None) if len(set(tokens)) < len(tokens) else None
    if twice is not None:
        raise fail("MI0511", f"the {what} {twice!r} is in the vocabulary twice", help="give each once")
    special = [s for s in (bos, unk) if s]
    bad = next((t for t in tokens + special if joint and t.split() != [t]), None)
    if bad is not None:
        raise fail("MI0511", f"{bad!r} is not one word", help="words hold no white space and are not empty")
    if not joint and bos and len(bos) != 1:
        raise fail("MI0511", f"{bos!r} is not one character", help='`bos` is a character such as "."')
    if bos and bos == unk:
        raise fail(
            "MI0511",
            f"{bos!r} cannot both begin a row and stand for unknown words",
            help="give `bos` and `unk` a token each",
        )
    if bos and bos not in tokens:
        tokens = [bos, *tokens]
    if unk and unk not in tokens:
        tokens = [*tokens, unk]
    ids = {t: i for i, t in enumerate(tokens)}
    return Vocabulary(tuple(tokens), joint, ids[bos] if bos else None, ids[unk] if unk else None)
