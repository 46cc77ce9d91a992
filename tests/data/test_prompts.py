"""Chat prompts: rows are what transformers writes, spans what was said, templates stay in their sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midsl.data.tasks.prompts import prompts
from midsl.diagnostics.model import MiError

tokenizers = pytest.importorskip("tokenizers")

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} <|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = [
    "<s>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "be",
    "brief",
    "why",
    "so",
    "yes",
    "[UNK]",
]


def folder(path: Path, template: str | None = TEMPLATE) -> Path:
    """A tokenizer of a few words, as a folder that transformers can read, too."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(WORDS[:5])
    made.save(str(path / "tokenizer.json"))
    settings = {"bos_token": "<s>", "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


@pytest.fixture
def table(tmp_path: Path) -> str:
    rows = [{"q": "why so", "s": "be brief", "l": "a"}, {"q": "why", "s": "be so", "l": "b"}]
    path = tmp_path / "h.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def hf(path: Path):  # type: ignore[no-untyped-def]
    from midsl.data.tokenizers import hf_tokenizer

    return hf_tokenizer(path)


def test_rows_are_what_transformers_writes(tmp_path: Path, table: str) -> None:
    transformers = pytest.importorskip("transformers")
    own = folder(tmp_path)
    data = prompts(table, hf(own), {"system": "s", "user": "q", "generation_prompt": True}, label="l")
    theirs = transformers.AutoTokenizer.from_pretrained(str(own))
    for i, (s, q) in enumerate([("be brief", "why so"), ("be so", "why")]):
        messages = [{"role": "system", "content": s}, {"role": "user", "content": q}]
        want = theirs.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        part = data.sides[""]
        assert part.tokens[i, : part.lengths[i]].tolist() == list(want)
    assert data.sides[""].columns["label"].values == ["a", "b"]


def test_spans_are_what_was_said(tmp_path: Path, table: str) -> None:
    tokenizer = hf(folder(tmp_path))
    part = prompts(table, tokenizer, {"system": "s", "user": "q"}).sides[""]
    said = []
    for role in ("system", "user"):
        for row, (a, b) in zip(part.tokens, part.columns[role].values, strict=True):
            said.append(" ".join(WORDS[t] for t in row[a:b]))
    assert said == ["be brief", "be so", "why so", "why"]
    assert [WORDS[t] for t in part.tokens[1][: part.lengths[1]]][-1] == "<|end|>", "no answer was asked for"


def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path, table: str) -> None:
    bad = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(MiError) as caught:
        prompts(table, hf(folder(tmp_path, bad)), {"user": "q"})
    assert caught.value.diagnostics[0].code == "MI0510"


def test_a_template_may_refuse_a_conversation(tmp_path: Path, table: str) -> None:
    picky = "{% if messages[0]['content'] == 'why' %}{{ raise_exception('too short') }}{% endif %}" + TEMPLATE
    data = prompts(table, hf(folder(tmp_path, picky)), {"user": "q"})
    assert len(data.sides[""]) == 1 and "too short" in data.ineligible[0].reason


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        ({"human": "q"}, "no role"),
        ({"user": "nothing"}, "no column"),
        ({"generation_prompt": True}, "nobody says"),
        ({"user": "q", "generation_prompt": "yes"}, "true or false"),
    ],
)
def test_bad_conversations_are_refused(
    tmp_path: Path, table: str, chat: dict[str, str | bool], message: str
) -> None:
    with pytest.raises(MiError, match=message):
        prompts(table, hf(folder(tmp_path)), chat)


def test_without_a_template_there_is_no_chat(tmp_path: Path, table: str) -> None:
    with pytest.raises(MiError, match="no chat template"):
        prompts(table, hf(folder(tmp_path, None)), {"user": "q"})
