"""Rich's text, of words that somebody else has written: names, tokens, messages, cells."""

from __future__ import annotations

from typing import Any

from rich.text import Text as RichText

from midsl.diagnostics.visible import visible


class Text(RichText):
    """A `rich.text.Text` in which control characters are written out: a terminal obeys none of them."""

    def __init__(self, text: str = "", *args: Any, **more: Any) -> None:
        super().__init__(visible(text), *args, **more)

    def append(self, text: RichText | str, style: Any = None) -> Text:
        """As rich's, for text that may be anybody's."""
        super().append(visible(text) if isinstance(text, str) else text, style)
        return self
