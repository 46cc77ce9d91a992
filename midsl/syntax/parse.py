"""Text to tree, with every syntax error of the file and not only the first.

An error is reported once; then the parser skips to the next token that opens a statement (or closes
a block) and drops just enough of what was half read for that token to fit, closing blocks that were
left open. Statements around an error are left out of the tree, and the names they would have bound
are kept in `Module.broken`, so that later checks can stay silent about them.
"""

from __future__ import annotations

from midsl.diagnostics.model import Bag, Diagnostic, Label
from midsl.source import SourceFile, Span
from midsl.syntax import ast
from midsl.syntax.build import AstBuilder
from midsl.syntax.comments import Docs
from midsl.syntax.lexer import ERROR, Token, lex
from midsl.syntax.machine import Machine
from midsl.syntax.messages import describe, fitting, one_of, slip
from midsl.syntax.tables import END, load_tables

EDITIONS = (1,)
_MOST = 25  # errors reported of one file
_CLOSE = {"(": ")", "[": "]", "{": "}"}


def parse(source: SourceFile, bag: Bag) -> ast.Module | None:
    """Parse one file.

    Args:
        source: the text.
        bag: takes the errors (family 01), in the order of the text.

    Returns:
        The module, without the statements that hold an error; None if nothing could be made of it.
    """
    return _Parser(source, bag).run()


class _Parser:
    def __init__(self, source: SourceFile, bag: Bag) -> None:
        self.source = source
        self.bag = Bag()
        self.out = bag
        self.tables = load_tables()
        lexed = lex(source, self.tables, self.bag)
        self.tokens = lexed.tokens
        self.builder = AstBuilder(source, self.bag, Docs(source, lexed))
        self.machine = Machine(self.tables, source, self.builder)
        self.broken: set[str] = set()

    def run(self) -> ast.Module | None:
        module = self._run()
        self.out.extend(sorted(self.bag, key=lambda d: (d.span.start, d.span.end)))
        return module

    def _run(self) -> ast.Module | None:
        at = self._edition()
        while True:
            token = self.tokens[at]
            if self.machine.feed(token):
                if token.type == END:
                    break
                at += 1
                continue
            if token.type != ERROR:
                self._report(at)
            if len(self.bag.errors) >= _MOST:
                return None
            next_at = self._recover(at)
            if next_at is None:
                return None
            at = next_at
        module: ast.Module = self.machine.result
        return ast.Module(
            module.source, module.edition, module.imports, module.decls, frozenset(self.broken), span=module.span
        )

    # ------------------------------------------------------------ the first line

    def _edition(self) -> int:
        """Read `language mi N`; where it is missing or unknown, report that and go on as if it were right."""
        first = self.tokens[0]
        end = next((t for t in self.tokens if t.first and t.start > first.start), self.tokens[-1])
        line = self.tokens[: self.tokens.index(end)] or [first]
        if first.text == "language" and [t.text for t in line[:2]] == ["language", "mi"]:
            if len(line) == 2 or line[2].type != "INT":
                span = self._span(line[-1])
                self._no_edition(span, "the number of the edition is missing")
                rest = 2
            elif line[2].text not in map(str, EDITIONS):
                known = one_of([f"`language mi {n}`" for n in EDITIONS])
                self.bag.add(
                    Diagnostic(
                        "MI0104",
                        f"unknown edition `{line[2].text}`",
                        self._span(line[2]),
                        "this version of midsl does not know it",
                        help=f"write {known}, or use the newer midsl that the file was written for",
                    )
                )
                rest = 3
            else:
                return 0
        elif first.text == "language":
            self._no_edition(self._span(line[-1]), "not an edition of the language")
            rest = len(line)
        else:
            self._no_edition(self._span(first), "the edition belongs before this")
            rest = 0
        place = first.start
        made = [("language", "_LANGUAGE"), ("mi", "_MI"), (str(EDITIONS[-1]), "INT")]
        for text, kind in made:
            self.machine.feed(Token(kind, text, place, place))
        return rest

    def _no_edition(self, span: Span, label: str) -> None:
        self.bag.add(
            Diagnostic(
                "MI0104",
                "the file does not say which edition of the language it is written in",
                span,
                label,
                help=f"make the first line `language mi {EDITIONS[-1]}`",
            )
        )

    # ------------------------------------------------------------ reporting

    def _report(self, at: int) -> None:
        token = self.tokens[at]
        at, expected = self._blame(at)
        blamed = self.tokens[at]
        before = self.tokens[at - 1] if at else None
        after = self.tokens[at + 1] if at + 1 < len(self.tokens) else None
        opener = self._opener(at)
        options = one_of(fitting(expected, self.tables))
        label = f"expected {options}"
        notes: list[Label] = []
        closers = {k for k in expected if self.tables.texts.get(k, "") in _CLOSE.values()}
        if opener is not None and (closers or token.type == END):
            notes.append(Label(self._span(opener), f"this `{opener.text}` is still open"))
        kind = "" if opener is None else self._kind(opener)
        if blamed.type == END:
            code, message = "MI0102", "unexpected end of file"
            closing = _CLOSE[opener.text] if opener else ""
            help = f"close it with `{closing}`" if opener and closers else f"the file stops where {options} should follow"
            if opener is None or not closers:
                notes = [n for n in notes if closers]
        else:
            code, message, help = slip(blamed, before, after, expected, kind, self.tables)
            code, message = code or "MI0101", message or f"unexpected {describe(blamed, self.tables)}"
            help = help or f"put {options} here"
        line = self.source.line_col
        if notes and blamed.type != END and line(notes[0].span.start)[0] == line(blamed.start)[0] and not closers:
            notes = []
        self.builder.errors += [token.start, blamed.start]
        self.bag.add(Diagnostic(code, message, self._span(blamed), label, tuple(notes), help))

    def _blame(self, at: int) -> tuple[int, set[str]]:
        """Return the token to point at and what would have fitted there.

        That is the token the machine refuses, but for a statement keyword that was taken for a name
        (`let x =` and then `report y`): there the keyword is out of place, not what follows it.
        """
        return at, self.machine.expected()

    def _opener(self, at: int) -> Token | None:
        """Return the innermost bracket that is open before a token."""
        stack: list[Token] = []
        for token in self.tokens[:at]:
            if token.text in _CLOSE and token.type != "STRING":
                stack.append(token)
            elif token.text in _CLOSE.values() and token.type != "STRING":
                while stack and _CLOSE[stack[-1].text] != token.text and token.text == "}":
                    stack.pop()  # a brace closes what was forgotten inside it
                if stack and _CLOSE[stack[-1].text] == token.text:
                    stack.pop()
        return stack[-1] if stack else None

    def _kind(self, opener: Token) -> str:
        """Tell the braces of edits (`do{`) and blocks (`body{`) from those of records (`{`)."""
        if opener.text != "{":
            return opener.text
        at = self.tokens.index(opener)
        before = self.tokens[at - 1].text if at else ""
        if before == "do":
            return "do{"
        opens = [i for i in range(at) if self.tokens[i].hard or self.tokens[i].keyword == "_TEST"]
        start = self.tokens[opens[-1]].text if opens else ""
        if start in ("experiment", "method", "test") and not any(t.text == "=" for t in self.tokens[opens[-1] : at]):
            return "body{"
        return "body{" if start == "fn" else "{"

    # ------------------------------------------------------------ recovery

    def _recover(self, at: int) -> int | None:
        """Find where to go on after an error at a token, make the machine ready for it, and return it."""
        self._forget(at)
        for i in range(at, len(self.tokens)):
            token = self.tokens[i]
            closes = token.text == "}" and token.first
            if not (token.hard or closes or token.type == END):
                continue
            kind = token.keyword or token.type
            for depth in range(len(self.machine.states), 0, -1):
                for inserted in ((), ("RBRACE",), ("RBRACE", "RBRACE")):
                    if not self.machine.accepts(kind, depth, inserted):
                        continue
                    self.machine.drop(depth)
                    place = self.tokens[i - 1].end if i else token.start
                    for brace in inserted:
                        self.machine.feed(Token(brace, "}", place, place))
                    return i
        return None

    def _forget(self, at: int) -> None:
        """Note the name that the statement around a token would have bound."""
        for i in range(min(at, len(self.tokens) - 2), -1, -1):
            token, after = self.tokens[i], self.tokens[i + 1]
            if token.hard or (token.first and token.keyword):
                if token.text == "extern" and i + 2 < len(self.tokens):
                    after = self.tokens[i + 2]
                if after.type == "NAME":
                    self.broken.add(after.text)
                return

    def _span(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)
