"""Colours wherever Pygments draws: terminals, Sphinx, notebooks. Found by its entry point, under `mi`."""

from __future__ import annotations

from typing import Any, ClassVar

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text

from midsl.ide import words as table

_LABEL = r"(?!\s*:(?!=))"  # a word before `:` is a label


def _word(group: tuple[str, ...]) -> Any:
    return words(group, prefix=r"(?<![.\w])", suffix=r"\b" + _LABEL)


class MiLexer(RegexLexer):  # type: ignore[misc]
    """Tokens of `.mi` files for Pygments."""

    name = "midsl"
    aliases: ClassVar[list[str]] = ["mi", "midsl"]
    filenames: ClassVar[list[str]] = ["*.mi"]
    tokens: ClassVar[dict[str, Any]] = {
        "root": [
            (r"\s+", Text),
            (r"##.*$", String.Doc),
            (r"#.*$", Comment.Single),
            (r'"(\\.|[^"\\\n])*"', String.Double),
            (r"[0-9][0-9_]*(\.[0-9][0-9_]*([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)", Number.Float),
            (r"[0-9][0-9_]*", Number.Integer),
            (r"(fn|method|experiment)(\s+)([a-z_]\w*)", bygroups(Keyword.Declaration, Text, Name.Function)),
            (_word(table.ROLES), Keyword.Type),
            (_word(table.DECLARATIONS), Keyword.Declaration),
            (_word(table.IMPORTS), Keyword.Namespace),
            (_word(table.STATEMENTS + table.CLAUSES), Keyword),
            (_word(table.OPERATORS), Operator.Word),
            (_word(table.CONSTANTS), Keyword.Constant),
            (_word(table.SELF), Name.Builtin.Pseudo),
            (r"[A-Za-z_]\w*(?=\s*:(?!=))", Name.Label),
            (r"(?<![\w)\]])\.[A-Za-z_]\w*", Name.Attribute),
            (r"[A-Z]\w*", Name.Class),
            (r"[a-z_]\w*(?=\()", Name.Function),
            (r"[a-z_]\w*", Name),
            (r":=|=>|->|~=|==|!=|<=|>=|\.\.=?|\*\*|[-+*/%|<>=]", Operator),
            (r"[()\[\]{},:.]", Punctuation),
        ]
    }


def highlighted(text: str) -> str:
    """A spec's text as HTML: words in spans whose classes `highlight_styles` colours."""
    return str(highlight(text, MiLexer(), HtmlFormatter(nowrap=True)))


def highlight_styles() -> tuple[str, str]:
    """CSS of those classes, for a light page and for a dark one."""
    light, dark = (HtmlFormatter(style=s).get_style_defs("pre code") for s in ("default", "native"))
    keep = "pre code, pre code .err { background: none; border: none; }"
    return light + keep, dark + keep
