"""Tokenizers of the llama2.c format: a list of byte strings with merge scores.

Encoding follows ``run.c``: begin token, a space in front of the text, characters (bytes where a
character has no token), then the best-scored merge of two neighbours until none is left.
"""

from __future__ import annotations

import hashlib
import heapq
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

from midsl.diagnostics.model import fail
from midsl.reach import may_read

BOS, EOS, FIRST_BYTE = 1, 2, 3
_BYTE = re.compile(rb"<0x([0-9A-F]{2})>$")


@dataclass(frozen=True)
class Llama2cTokenizer:
    """A byte-fallback BPE tokenizer: pieces and scores by token id."""

    vocab: tuple[bytes, ...]
    scores: tuple[float, ...]
    bos_id: int | None = BOS
    eos_id: int | None = EOS
    special_ids: frozenset[int] = frozenset((0, BOS, EOS))
    fingerprint: str = field(init=False)
    _ids: dict[bytes, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(b"llama2c")
        for piece, score in zip(self.vocab, self.scores, strict=True):
            digest.update(struct.pack("<fi", score, len(piece)) + piece)
        object.__setattr__(self, "fingerprint", digest.hexdigest())
        ids: dict[bytes, int] = {}
        for id, piece in enumerate(self.vocab):
            if id not in self.special_ids:
                ids.setdefault(piece, id)
        object.__setattr__(self, "_ids", ids)

    @property
    def vocab_size(self) -> int:
        return len(self.vocab)

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Token ids of a text: BOS with `bos`, and a space in front of any text."""
        return ([BOS] if bos else []) + (self._merge(self._start(" ") + self._start(text)) if text else [])

    def pieces(self, text: str) -> list[int]:
        """Token ids of a text as it stands inside a longer one."""
        return self._merge(self._start(text))

    def _start(self, text: str) -> list[int]:
        """Characters, or their bytes where a character has no token."""
        out: list[int] = []
        for char in text:
            raw = char.encode()
            found = self._ids.get(raw)
            out += [found] if found is not None else [byte + FIRST_BYTE for byte in raw]
        return out

    def _merge(self, ids: list[int]) -> list[int]:
        """Merge the two neighbours of the highest score (the leftmost of equals), until none is left.

        A heap of candidate pairs; a pair whose ends have changed since is stale and skipped.
        """
        ids = list(ids)
        after = [*range(1, len(ids)), -1] if ids else []
        before = list(range(-1, len(ids) - 1))
        heap: list[tuple[float, int, int, int, int]] = []

        def offer(left: int) -> None:
            right = after[left]
            merged = self._ids.get(self.vocab[ids[left]] + self.vocab[ids[right]]) if right >= 0 else None
            if merged is not None:
                heapq.heappush(heap, (-self.scores[merged], left, ids[left], ids[right], merged))

        for i in range(len(ids)):
            offer(i)
        while heap:
            _, left, a, b, merged = heapq.heappop(heap)
            right = after[left]
            if right < 0 or ids[left] != a or ids[right] != b:
                continue
            ids[left], ids[right] = merged, -1
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(left)
            if before[left] >= 0:
                offer(before[left])
        return [i for i in ids if i >= 0]

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens left out; the space after a first BOS is not text."""
        raw = b"".join(self._bytes(i) for i in ids if i not in self.special_ids)
        if ids and ids[0] == BOS:
            raw = raw.removeprefix(b" ")
        return raw.decode(errors="replace")

    def _bytes(self, id: int) -> bytes:
        found = _BYTE.match(self.vocab[id])
        return bytes([int(found.group(1), 16)]) if found else self.vocab[id]

    def token(self, id: int) -> str:
        """One token as text; a byte that is no character by itself as ``<0xE2>``."""
        if id in self.special_ids:
            return self.vocab[id].decode(errors="replace").strip()
        raw = self._bytes(id)
        return raw.decode() if raw.isascii() else self.vocab[id].decode(errors="replace")

    def single(self, text: str) -> int | None:
        """The id of a text that is exactly one token, else None; no space is added or taken away."""
        ids = self.pieces(text)
        return ids[0] if len(ids) == 1 else None


def llama2c_tokenizer(bin: str | Path) -> Llama2cTokenizer:
    """Read a llama2.c tokenizer file: int32 longest piece, then per token float32 score, int32 length, bytes.

    Raises:
        MiError: MI0504 if the file cannot be read, MI0510 if it is damaged or of another format.

    Source: github.com/karpathy/llama2.c, the layout that ``run.c`` reads.
    """
    path = may_read(bin)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise fail(
            "MI0504",
            f"cannot read the tokenizer {path}: {error.strerror}",
            help="paths are relative to the folder of the spec",
        ) from error
    vocab, scores, at = [], [], 4
    longest = struct.unpack_from("<i", raw)[0] if len(raw) >= 4 else 0
    while at < len(raw):
        if at + 8 > len(raw):
            raise _damaged(path)
        score, size = struct.unpack_from("<fi", raw, at)
        at += 8 + size
        if not 0 <= size <= longest or at > len(raw):
            raise _damaged(path)
        vocab.append(raw[at - size : at])
        scores.append(score)
    bytes_there = all(_BYTE.match(piece) for piece in vocab[FIRST_BYTE : FIRST_BYTE + 256])
    if len(vocab) < FIRST_BYTE + 256 or not bytes_there:
        raise _damaged(path)
    return Llama2cTokenizer(tuple(vocab), tuple(scores))


def _damaged(path: Path) -> Exception:
    return fail(
        "MI0510",
        f"{path} is not a whole llama2.c tokenizer",
        help="wanted: int32 longest piece; per token float32 score, int32 length, bytes; bytes are 3 to 258",
    )
