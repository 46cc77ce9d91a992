"""Every tokenizer that a spec or a model loader can ask for, under one roof.

Each is in a file of its own kind: `vocab` (characters, words, integers), `llama2c`, and `fast` (whatever
the `tokenizers` library reads, GPT-2's files included; it alone needs an extra).
"""

from midsl.data.fast import gpt2_bpe, hf_tokenizer
from midsl.data.llama2c import llama2c_tokenizer
from midsl.data.vocab import char_vocab, chars_of, int_vocab, word_vocab, words_of

__all__ = [
    "char_vocab",
    "chars_of",
    "gpt2_bpe",
    "hf_tokenizer",
    "int_vocab",
    "llama2c_tokenizer",
    "word_vocab",
    "words_of",
]
