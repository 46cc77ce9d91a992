"""One word exchanged for another in a sentence: the shortest way to write a counterfactual data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from midsl.data.build import (
    Cell,
    Kinds,
    Mismatched,
    Row,
    Sides,
    build_dataset,
    need,
    need_tokenizer,
    one_token,
)
from midsl.data.dataset import Dataset, Tokenizer

_KINDS: Kinds = {"answer": "token", "wrong": "token", "word": "label", "template": "label"}
_SLOT = "{}"


def swaps(
    tokenizer: Tokenizer | None,
    templates: Sequence[str],
    words: Sequence[str],
    answers: Sequence[str],
    bos: bool = True,
    mismatched: Mismatched = "error",
    split: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Dataset:
    """Put each word into each template, and pair it with every word that has another answer.

    Args:
        templates: prompts with one ``{}`` where the word goes.
        words: what goes there ("Lily", "Tim").
        answers: what should follow for each word, one token with its space (" She", " He").
        bos: put the tokenizer's begin token first, where it has one.
        mismatched: "error" refuses words of unequal length, "leave_out" leaves those rows out.
        split: name to fraction of the rows; `seed` deals them.

    Returns:
        Sides clean and corrupt, one row per template and ordered pair of words whose answers differ;
        columns `answer` and `wrong` (token), the answers of the clean and the corrupt word; `word`,
        `template` (label), the clean word and the template's number; `changed` (span) and `changed_end`
        (pos) are where the word stands. All are the same on both sides.

    Raises:
        MiError: MI0501 for words of unequal length, MI0502 if no row can be used, MI0503 without a
            tokenizer, MI0511 for a template without its one slot, lists of unequal length, or words that
            all have one answer.

    >>> from midsl.data.tokenizers import char_vocab
    >>> d = swaps(char_vocab("abcxy"), templates=["a{}", "{}b"], words=["x", "y"], answers=["b", "c"])
    >>> d.sides["clean"].texts, d.sides["corrupt"].texts
    (['ax', 'ay', 'xb', 'yb'], ['ay', 'ax', 'yb', 'xb'])
    """
    known = need_tokenizer(tokenizer)
    for name, values in {"templates": templates, "words": words, "answers": answers}.items():
        plain = not isinstance(values, str) and all(isinstance(v, str) for v in values)
        need(plain and bool(values), f"`{name}` is not a list of strings", "give at least one")
    bad = next((t for t in templates if t.count(_SLOT) != 1), None)
    need(bad is None, f"the template {bad!r} has not one `{{}}`", "write `{}` where the word goes, once")
    need(
        len(words) == len(answers),
        f"{len(words)} words and {len(answers)} answers",
        "give each word its answer",
    )
    items = [
        (number, i, j)
        for number in range(len(templates))
        for i in range(len(words))
        for j in range(len(words))
        if answers[i] != answers[j]
    ]
    need(bool(items), "all words have the same answer", "a pair is two words with different answers")
    need(mismatched in ("error", "leave_out"), f"mismatched: {mismatched!r}", '"error" or "leave_out"')

    def make(item: tuple[int, int, int]) -> Sides:
        number, i, j = item
        cells: dict[str, Cell] = {
            "answer": one_token(known, answers[i], "answer"),
            "wrong": one_token(known, answers[j], "wrong"),
            "word": words[i],
            "template": str(number),
        }
        texts = {s: templates[number].replace(_SLOT, words[w]) for s, w in {"clean": i, "corrupt": j}.items()}
        return {side: Row(known.encode(text, bos), cells, text) for side, text in texts.items()}

    return build_dataset(items, make, _KINDS, known, split=split, seed=seed, mismatched=mismatched)
