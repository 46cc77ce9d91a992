"""Tokenizers of the `tokenizers` library: Hugging Face folders and files, and GPT-2's own two files.

A checkpoint's habits are kept: a begin token stands in front of a text exactly where the tokenizer puts
one there itself, unless the caller says otherwise. Needs the extra ``midsl[hf]``, imported on use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from midsl.data.chat import ChatTemplate, chat_template
from midsl.data.failures import read_text
from midsl.diagnostics.model import fail
from midsl.reach import may_read

Bos = Literal["tokenizer", "add", "none"]
_ANCHORS = ("\n", "(", "a")


class FastTokenizer:
    """A `tokenizers.Tokenizer` behind midsl's protocol.

    Attributes:
        special_ids: tokens the file marks as special, with the begin and end tokens.
        fingerprint: sha256 of the tokenizer's own serialisation and of the begin token in use.
        chat: the template that conversations are written in, if the tokenizer has one.
    """

    def __init__(
        self, backend: Any, bos_id: int | None, eos_id: int | None, chat: ChatTemplate | None = None
    ) -> None:
        self.backend = backend
        self.chat = chat
        self.bos_id = bos_id
        self.eos_id = eos_id
        self.vocab_size: int = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        marked = {i for i, t in backend.get_added_tokens_decoder().items() if t.special}
        self.special_ids = frozenset(marked | {i for i in (bos_id, eos_id) if i is not None})
        text = f"{backend.to_str()}\n{bos_id}" + (f"\n{chat.source}" if chat is not None else "")
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Token ids of a text, `bos_id` first where there is one; no end token."""
        first = [self.bos_id] if bos and self.bos_id is not None else []
        return first + self._ids(text)

    def offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a text as it stands, and the characters that each is of; nothing is added."""
        made = self.backend.encode(text, add_special_tokens=False)
        return list(made.ids), [(int(a), int(b)) for a, b in made.offsets]

    def pieces(self, text: str) -> list[int]:
        """Token ids of a text as it stands inside a longer one.

        Tokenizers that put a space before a text are asked for a longer text, whose first part is then
        cut off; which first part does not melt into the text is found by trying.
        """
        plain = self._ids(text)
        if self._spelt(plain) == text:
            return plain
        for anchor in _ANCHORS:
            head, whole = self._ids(anchor), self._ids(anchor + text)
            tail = whole[len(head) :]
            if whole[: len(head)] == head and self._spelt(tail) == text:
                return tail
        return plain

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens left out."""
        text: str = self.backend.decode([i for i in ids if i not in self.special_ids])
        return text

    def token(self, id: int) -> str:
        """One token as text, its leading space kept; as the file spells it where it is no whole character."""
        piece: str = self.backend.id_to_token(id) or f"<{id}>"
        if id in self.special_ids:
            return piece
        head, base = self._anchor
        both: str = self.backend.decode([*head, id], skip_special_tokens=False)
        text = both.removeprefix(base) if both.startswith(base) else ""
        return piece if not text or "\ufffd" in text else text

    def single(self, text: str) -> int | None:
        """The id of a text that is exactly one token, else None; no space is added or taken away."""
        ids = self.pieces(text)
        return ids[0] if len(ids) == 1 and self.token(ids[0]) == text else None

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def _spelt(self, ids: list[int]) -> str:
        head, base = self._anchor
        both: str = self.backend.decode([*head, *ids], skip_special_tokens=False)
        return both.removeprefix(base) if both.startswith(base) else both

    @cached_property
    def _anchor(self) -> tuple[list[int], str]:
        """A token to decode others behind, since decoders drop the space at the front of a text."""
        head = self._ids("a")
        return head, self.backend.decode(head, skip_special_tokens=False)


def gpt2_bpe(encoder: str | Path, merges: str | Path, bos: bool = False) -> FastTokenizer:
    """Read GPT-2's `encoder.json` and `vocab.bpe` (also called `vocab.json` and `merges.txt`).

    Args:
        encoder: JSON, token to id, in the byte alphabet of GPT-2.
        merges: one merge per line, best first.
        bos: put ``<|endoftext|>`` in front of every text, which GPT-2 itself does not.

    Raises:
        MiError: MI0504 if a file cannot be read, MI0510 if it is damaged, MI0507 without ``midsl[hf]``,
            MI0511 if `bos` is asked for and the vocabulary has no ``<|endoftext|>``.
    """
    lib = _library()
    text, merges_text = read_text(encoder), read_text(merges)
    try:
        vocab = json.loads(text)
        pairs = [tuple(line.split()) for line in merges_text.splitlines() if not line.startswith("#version")]
        model = lib.models.BPE(vocab=vocab, merges=[p for p in pairs if p])
    except Exception as error:  # the library raises bare exceptions of its own
        files = f"{encoder} and {merges}"
        raise fail(
            "MI0510",
            f"{files} are not a byte-level BPE vocabulary: {_line(error)}",
            help="give the files as they are published: encoder.json and vocab.bpe",
        ) from error
    backend = lib.Tokenizer(model)
    backend.pre_tokenizer = lib.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = lib.decoders.ByteLevel()
    end = vocab.get("<|endoftext|>")
    if end is not None:
        backend.add_special_tokens(["<|endoftext|>"])
    elif bos:
        raise fail(
            "MI0511",
            f"{encoder} has no token <|endoftext|> to begin a row with",
            help="leave `bos` out, or give a vocabulary that has it",
        )
    return FastTokenizer(backend, end if bos else None, end)


def hf_tokenizer(source: Any, bos: Bos = "tokenizer") -> FastTokenizer:
    """Build a tokenizer from a folder, a `tokenizer.json`, or a transformers tokenizer.

    Args:
        source: a path, or a loaded "fast" tokenizer of transformers.
        bos: "tokenizer" puts a begin token in front where the tokenizer does so itself; "add" always,
            "none" never.

    Raises:
        MiError: MI0504 if a file cannot be read, MI0510 if it is damaged, MI0507 if the folder has no
            tokenizer that can be loaded or ``midsl[hf]`` is missing, MI0511 if `bos` is not one of the
            three or there is no begin token to add.
    """
    if bos not in ("tokenizer", "add", "none"):
        raise fail("MI0511", f"bos: {bos!r} is unknown", help='one of "tokenizer", "add", "none"')
    if not isinstance(source, (str, Path)):
        return _from_object(source, bos)
    path = may_read(source)
    folder, file = (path, path / "tokenizer.json") if path.is_dir() else (path.parent, path)
    if path.is_dir() and not file.exists():
        return _from_object(_with_transformers(path), bos)
    text, lib = read_text(file), _library()
    try:
        backend = lib.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare exceptions
        raise fail("MI0510", f"{file} is not a tokenizer: {_line(error)}", help="fetch it again") from error
    settings = _settings(folder)

    def named(key: str) -> int | None:
        value = settings.get(key)
        name = value.get("content") if isinstance(value, dict) else value
        found: int | None = backend.token_to_id(name) if isinstance(name, str) else None
        return found

    chat = chat_template(settings, folder)
    begin, end = named("bos_token"), named("eos_token")
    return _finish(backend, begin, end, settings.get("add_bos_token"), bos, chat)


def _from_object(tokenizer: Any, bos: Bos) -> FastTokenizer:
    """Wrap a transformers tokenizer by a copy of its backend, which stays as it is."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        raise fail(
            "MI0507",
            f"{type(tokenizer).__name__} has no form that the `tokenizers` library can run",
            help="save it with a tokenizer.json, then load that folder",
        )
    backend = _library().Tokenizer.from_str(inner.to_str())
    adds = getattr(tokenizer, "add_bos_token", None)
    names = ("chat_template", "bos_token", "eos_token")
    chat = chat_template({n: getattr(tokenizer, n, None) for n in names}, None)
    return _finish(backend, tokenizer.bos_token_id, tokenizer.eos_token_id, adds, bos, chat)


def _finish(
    backend: Any, begin: int | None, end: int | None, adds: Any, bos: Bos, chat: ChatTemplate | None
) -> FastTokenizer:
    """Decide the begin token; rows are cut and padded by midsl, never by the tokenizer."""
    backend.no_padding()
    backend.no_truncation()
    if bos == "none":
        return FastTokenizer(backend, None, end, chat)
    if bos == "add":
        if begin is None:
            raise fail("MI0511", "the tokenizer has no begin token to add", help='leave out `bos: "add"`')
        return FastTokenizer(backend, begin, end, chat)
    plain = backend.encode("a", add_special_tokens=False).ids
    full = backend.encode("a", add_special_tokens=True).ids
    own = full[0] if full[: len(plain)] != plain and full else None
    # The template decides, as in transformers; `add_bos_token: true` speaks for files that have none. A
    # `false` says nothing: transformers writes and ignores it where the template adds a begin token.
    return FastTokenizer(backend, begin if own is None and adds is True else own, end, chat)


def _settings(folder: Path) -> dict[str, Any]:
    """Read `tokenizer_config.json`, with `special_tokens_map.json` for what it leaves out."""
    out: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if path.exists():
            try:
                found = json.loads(read_text(path))
            except (ValueError, RecursionError) as error:
                raise fail("MI0510", f"{path} is not JSON: {error}", help="fetch it again") from error
            if not isinstance(found, dict):
                raise fail("MI0510", f"{path} holds no settings", help="fetch it again")
            out |= {k: v for k, v in found.items() if v is not None}
    return out


def _with_transformers(folder: Path) -> Any:
    """Let transformers read the older file formats of a local folder."""
    transformers = _needs(lambda: __import__("transformers"), "transformers")
    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever a converter may raise
        raise fail(
            "MI0507",
            f"{folder} has no tokenizer that can be loaded: {_line(error)}",
            help="the folder needs a tokenizer.json, or vocab.json and merges.txt",
        ) from error


def _library() -> Any:
    """Import `tokenizers` with the submodules used here."""
    return _needs(lambda: __import__("tokenizers", fromlist=["decoders", "models"]), "tokenizers")


def _needs(load: Callable[[], Any], name: str) -> Any:
    try:
        return load()
    except ImportError as error:
        raise fail(
            "MI0507", f"this tokenizer needs the package `{name}`", help="pip install 'midsl[hf]'"
        ) from error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
