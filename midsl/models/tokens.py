"""Which tokenizer goes with a model: the one it was given, the one in its folder, or plain integers.

The tokenizers themselves live in `midsl.data.tokenizers`, imported only where one is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.reach import may_read

if TYPE_CHECKING:  # numpy comes with it, and `check` reads this module
    from midsl.data.dataset import Tokenizer


def tokenizer_at(path: str) -> Tokenizer:
    """Build the tokenizer of a path.

    Args:
        path: a folder with tokenizer files (or `encoder.json` + `vocab.bpe`), a `tokenizer.json`, or a
            llama2.c `.bin`.

    Raises:
        MiError: MI0504 if there is no such file, MI0510 if it is damaged.
    """
    from midsl.data import tokenizers

    where = may_read(path)
    if not where.exists():
        raise fail("MI0504", f"there is no tokenizer at {where}", help="give a folder or a tokenizer file")
    if where.suffix == ".bin":
        return tokenizers.llama2c_tokenizer(where)
    if (where / "encoder.json").exists() and (where / "vocab.bpe").exists():
        return tokenizers.gpt2_bpe(where / "encoder.json", where / "vocab.bpe")
    return tokenizers.hf_tokenizer(where)


def plain_tokenizer(
    vocab: int,
    *,
    path: str = "",
    words: Sequence[str] = (),
    chars: str = "",
    bos: str = "",
    int_bos: bool = False,
) -> Tokenizer:
    """Build the tokenizer of a model that brings none: from a path, words, characters, else integers.

    Args:
        bos: the word or character that begins a row.
        int_bos: whether integer 0 begins a row.

    Raises:
        MiError: MI0509 if more than one is given, or it does not fit the model's vocabulary; MI0504, MI0510
            and MI0511 as the tokenizers raise them.
    """
    from midsl.data import tokenizers

    if sum((bool(path), bool(words), bool(chars))) > 1:
        raise fail("MI0509", "a model has one tokenizer", help="give only one of tokenizer, words and chars")
    if bos and not (words or chars):
        raise fail("MI0509", "`bos` is one of the model's words or chars", help="give them, or leave it out")
    if path:
        made = tokenizer_at(path)
        if made.vocab_size > vocab:
            raise fail(
                "MI0509",
                f"{path} has {made.vocab_size} tokens and the model only {vocab}",
                help="give the tokenizer that the model was trained with",
            )
        return made
    if words:
        made = tokenizers.word_vocab(list(words), bos)
    elif chars:
        made = tokenizers.char_vocab(chars, bos)
    else:
        return tokenizers.int_vocab(vocab, bos=int_bos)
    if made.vocab_size != vocab:
        raise fail(
            "MI0509",
            f"the tokenizer has {made.vocab_size} tokens and the model {vocab}",
            help=f"give {vocab} words or characters, in the order of the model's token ids",
        )
    return made
