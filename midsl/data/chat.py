"""Conversations as a tokenizer's own template writes them.

The template comes with the tokenizer and is Jinja, which is code: it runs in Jinja's sandbox, where it can
write text and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from midsl.data.failures import Unusable, read_text
from midsl.diagnostics.model import fail

Message = Mapping[str, str]


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with the special tokens that it may name."""

    source: str
    bos_token: str = ""
    eos_token: str = ""

    def render(self, messages: Sequence[Message], generation_prompt: bool) -> str:
        """The text of a conversation; with `generation_prompt`, up to where the model's answer begins.

        Raises:
            MiError: MI0510 if the template is damaged.
            Unusable: if the template refuses the conversation.
        """
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> NoReturn:
            raise Unusable(f"the chat template says: {message}")

        sandbox = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        sandbox.globals["raise_exception"] = refuse
        try:
            template = sandbox.from_string(self.source)
            return template.render(
                messages=[dict(m) for m in messages],
                add_generation_prompt=generation_prompt,
                bos_token=self.bos_token,
                eos_token=self.eos_token,
            )
        except TemplateError as err:
            why = str(err).splitlines()[0] if str(err) else type(err).__name__
            raise fail(
                "MI0510",
                f"the chat template of the tokenizer cannot be used: {why}",
                help="fetch the tokenizer again, or write the prompts out as a table for `texts`",
            ) from err


def chat_template(settings: Mapping[str, Any], folder: Path | None) -> ChatTemplate | None:
    """The chat template of a tokenizer's settings, or of the file beside them; of several the default."""
    source = settings.get("chat_template")
    if isinstance(source, list):
        named = {t["name"]: t["template"] for t in source if isinstance(t, dict) and "name" in t}
        source = named.get("default")
    file = folder / "chat_template.jinja" if folder is not None else None
    if file is not None and file.exists():
        source = read_text(file)
    if not isinstance(source, str):
        return None

    def word(key: str) -> str:
        value = settings.get(key)
        name = value.get("content") if isinstance(value, dict) else value
        return name if isinstance(name, str) else ""

    return ChatTemplate(source, word("bos_token"), word("eos_token"))
