"""Text to tokens and comments, in one pass and without the grammar's help.

A word that is a keyword becomes a token that knows both readings; the machine picks the keyword
where the grammar allows one there, else the name. A statement keyword that opens a line and is
followed by what a statement goes on with is `hard`: never a name, so that a broken line cannot
swallow the next one, and recovery knows where to start again.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from midsl.diagnostics.model import Bag, Diagnostic, Fix
from midsl.source import SourceFile, Span
from midsl.syntax.tables import END, Tables

ERROR = "$ERROR"  # a token that was reported already; no state accepts it

ROLES = frozenset({"let", "model", "data", "site", "decomposition", "basis", "metric", "control"})
STATEMENTS = ROLES | {"sweep", "report", "expect", "plot", "save", "view", "plan", "return"}
DECLARATIONS = frozenset({"param", "axis", "type", "fn", "extern", "method", "experiment", "test"}) | {
    *("import", "from", "language"),
}
_INFIX = frozenset({"and", "or", "in", "by", "where", "as", "on", "then", "else", "if", "for"}) | {
    *("within", "do", "rollout", "of"),
}


@dataclass(slots=True)
class Token:
    """A terminal with its text and offsets.

    Attributes:
        type: the terminal; for a soft keyword its name reading, NAME.
        keyword: the terminal of the keyword reading, or "".
        hard: opens a statement beyond doubt.
        first: the first token of its line.
    """

    type: str
    text: str
    start: int
    end: int
    keyword: str = ""
    hard: bool = False
    first: bool = False


@dataclass
class Lexed:
    """Tokens (the last is the end of the file), and `##` comments as (start, end, text)."""

    tokens: list[Token]
    docs: list[tuple[int, int, str]] = field(default_factory=list)


def lex(source: SourceFile, tables: Tables, bag: Bag) -> Lexed:
    """Cut a source into tokens; what cannot be a token is reported (MI0103, MI0106).

    Where the intent is clear (single quotes, `;`) the text is read as meant after the report.
    Elsewhere an `ERROR` token makes the parser skip to the next statement.
    """
    text = source.text
    match = tables.lexer.match
    out = Lexed([])
    at = 1 if text.startswith("\ufeff") else 0
    first = True
    while at < len(text):
        found = match(text, at)
        if found is None:
            at = _bad(source, at, out, bag, first)
            first = False
            continue
        kind, end = str(found.lastgroup), found.end()
        if kind == "SPACE":
            first = first or "\n" in text[at:end]
        elif kind == "COMMENT":
            if text.startswith("##", at):
                out.docs.append((at, end, text[at + 2 : end].strip()))
        else:
            word = text[at:end]
            keyword = tables.keywords.get(word, "") if kind == "NAME" else ""
            if kind in ("INT", "FLOAT") and end < len(text) and (text[end].isalpha() or text[end] == "_"):
                end = _glued(source, at, end, bag)
                kind, word = ERROR, text[at:end]
            if word in tables.reserved:
                kind = keyword
            out.tokens.append(Token(kind, word, at, end, keyword, first=first))
            first = False
        at = end
    end = out.tokens[-1].end if out.tokens else 0
    out.tokens.append(Token(END, "", end, end, first=True))
    for token, after in zip(out.tokens, out.tokens[1:], strict=False):
        token.hard = token.first and _opens(token, after, source)
    return out


def _opens(token: Token, after: Token, source: SourceFile) -> bool:
    """Whether a first token of a line is a statement keyword and not a name."""
    if token.text not in STATEMENTS and token.text not in DECLARATIONS:
        return False
    if "\n" in source.text[token.end : after.start] or after.type == END:
        return False
    if token.text == "fn":  # also a lambda
        return after.type == "NAME"
    if after.text == "=":
        return True
    spaced = after.start > token.end
    word = after.type in ("NAME", "TNAME", "INT", "FLOAT", "STRING") or bool(after.keyword)
    return spaced and ((word and after.text not in _INFIX) or after.text in ("{", ".", "(", "["))


_MEANT = {
    "&": "`and` joins two conditions; `|` joins two sites",
    "!": "negation is spelled `not`",
    "@": "there are no decorators and no `@`: `dot(a, b, over: axis)` multiplies matrices",
    "^": "a power is spelled `**`",
    "?": "a choice is spelled `if a then b else c`",
    "$": "names have no sigil: write the name alone",
    "`": "strings take double quotes",
    "\\": "a statement goes on over line ends by itself: no backslash is needed",
    "~": "two numbers compare with `~=`; negation is spelled `not`",
    "≤": "write `<=`",
    "≥": "write `>=`",
    "≠": "write `!=`",
    "≈": "write `~=`",
    "→": "write `->`",
    "−": "write the minus sign of the keyboard: `-`",
    "–": "write the minus sign of the keyboard: `-`",
    "×": "write `*`",
    "·": "write `*`, or `dot(a, b, over: axis)`",
    "…": "a range is spelled `..`",
}
_QUOTES = {"'": "'", "‘": "’", "’": "’", "“": "”", "”": "”"}


def _bad(source: SourceFile, at: int, out: Lexed, bag: Bag, first: bool) -> int:
    """Report what is at an offset, leave a token for it if there is one, and return where to go on."""
    text = source.text
    char = text[at]
    line_end = text.find("\n", at)
    line_end = len(text) if line_end < 0 else line_end
    if char == '"':
        bag.add(
            Diagnostic(
                "MI0106",
                "this string has no closing quote",
                Span(source, at, max(at + 1, len(text[:line_end].rstrip()))),
                "opened here, still open at the end of the line",
                help='close it with `"`; a string stays on one line, a line end inside it is written `\\n`',
            )
        )
        out.tokens.append(Token(ERROR, text[at:line_end], at, line_end, first=first))
        return line_end
    if char in _QUOTES:
        end = text.find(_QUOTES[char], at + 1, line_end)
        end = at + 1 if end < 0 else end + 1
        inside = text[at + 1 : end - 1]
        span = Span(source, at, end)
        if len(inside) == end - at - 2 and end > at + 1:
            meant = '"' + inside.replace('"', '\\"') + '"'
            bag.add(_unexpected(span, "strings take double quotes", f'write `"{inside}"`', meant))
            out.tokens.append(Token("STRING", meant, at, end, first=first))
        else:
            bag.add(_unexpected(span, "a quote that opens nothing", "strings take double quotes"))
            out.tokens.append(Token(ERROR, char, at, end, first=first))
        return end
    end = at + 1
    while end < line_end and text[end] == char:
        end += 1
    span = Span(source, at, end)
    if char == ";":
        bag.add(_unexpected(span, "statements have no terminator", "remove it", ""))
        return end
    if char.isspace() or unicodedata.category(char) in ("Cf", "Cc", "Zs"):
        name = unicodedata.name(char, "a control character").lower()
        bag.add(_unexpected(span, f"U+{ord(char):04X}, {name}", "replace it by an ordinary space", " "))
        return end
    if char == "&":
        bag.add(_unexpected(span, "no operator of the language", _MEANT["&"], "and"))
        out.tokens.append(Token("_AND", "and", at, end, "_AND", first=first))
        return end
    if char.isalpha():
        while end < line_end and (text[end].isalnum() or text[end] == "_"):
            end += 1
        span = Span(source, at, end)
        bag.add(_unexpected(span, "no letter of a name", "names are made of a-z, A-Z, 0-9 and `_`"))
    else:
        help = _MEANT.get(char, "remove it, or put it inside a string")
        spelt = re.match(r"write (?:the minus sign of the keyboard: )?`([^`]+)`$", help)
        bag.add(_unexpected(span, "no operator of the language", help, spelt.group(1) if spelt else None))
    out.tokens.append(Token(ERROR, text[at:end], at, end, first=first))
    return end


def _glued(source: SourceFile, at: int, end: int, bag: Bag) -> int:
    """Report a number that runs into letters, and return where the letters end."""
    text = source.text
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    bag.add(
        Diagnostic(
            "MI0103",
            f"`{text[at:end]}` is neither a number nor a name",
            Span(source, at, end),
            "a number that runs into letters",
            help="names start with a letter; numbers look like `10_000`, `0.5`, `1e-3`",
        )
    )
    return end


def _unexpected(span: Span, label: str, help: str, meant: str | None = None) -> Diagnostic:
    shown = span.text if span.text.isprintable() and not span.text.isspace() else f"U+{ord(span.text[0]):04X}"
    fix = None if meant is None else Fix(span, meant)
    return Diagnostic("MI0103", f"unexpected `{shown}`", span, label, help=help, fix=fix)
