"""Text to tree, with every syntax error of the file and not only the first.

An error is reported once; then the parser skips to the next token that opens a statement (or closes
a block) and drops just enough of what was half read for that token to fit, closing blocks that were
left open. Statements around an error are left out of the tree, and the names they would have bound
are kept in `Module.broken`, so that later checks can stay silent about them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

from midsl.diagnostics.model import Bag, Diagnostic, Fix, Label, MiError, fail
from midsl.source import SourceFile, Span
from midsl.syntax import ast
from midsl.syntax.build import AstBuilder
from midsl.syntax.comments import Docs
from midsl.syntax.lexer import DECLARATIONS, ERROR, STATEMENTS, Token, lex
from midsl.syntax.machine import Machine
from midsl.syntax.messages import describe, fitting, one_of, slip
from midsl.syntax.tables import END, load_tables

EDITIONS = (1,)
_MOST = 25  # errors reported of one file
_DEEPEST = 250  # states on the stack: some eighty brackets inside each other
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


def parse_expression(expression: str, name: str = "<expression>") -> ast.Expr:
    """An expression by itself; `name` is what messages call its text.

    Raises:
        MiError: with what is wrong with it as syntax, and MI0101 for more than one expression.
    """
    bag = Bag()
    tree = parse(SourceFile(name, f"language mi 1\nlet it = {expression}\n"), bag)
    if tree is None or bag.errors:
        raise MiError(*bag.errors)
    if len(tree.decls) != 1 or not isinstance(tree.decls[0], ast.Binding):
        raise fail("MI0101", "this is more than one expression", help="give one: `mean(r[z], over: batch)`")
    return tree.decls[0].value


_OPENERS = STATEMENTS | DECLARATIONS - {"fn"}


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
        self.tried = -1  # where recovery went on the last time
        # The last statement keyword inside a line that was read as a name, and what else would have
        # fitted: in `let x =  let y = 2` the second `let` is at fault, and not the `y` that shows it.
        self.confused: tuple[int, set[str]] | None = None

    def run(self) -> ast.Module | None:
        module = self._run()
        self.out.extend(sorted(self.bag, key=lambda d: (d.span.start, d.span.end)))
        return module

    def _run(self) -> ast.Module | None:
        at = self._edition()
        while True:
            token = self.tokens[at]
            kind = self.machine.read(token)
            if token.keyword and kind == "NAME" and token.text in STATEMENTS:
                self.confused = at, self.machine.expected()
            # At the start of a line `fn name` declares, also where a function value could stand.
            misplaced = token.hard and token.text == "fn" and not self.machine.accepts("_EXPERIMENT")
            if not misplaced and self.machine.feed(token, kind):
                if token.type == END:
                    break
                if len(self.machine.states) > _DEEPEST:
                    self._too_deep(token)
                    return None
                token.hard |= kind == token.keyword and token.text in _OPENERS
                at += 1
                continue
            if token.type != ERROR:
                self._report(at)
            if len(self.bag.errors) >= _MOST:
                return None
            next_at = self._recover(at)
            if next_at is None:
                return None
            at = self.tried = next_at
        module: ast.Module = self.machine.result
        return replace(module, broken=frozenset(self.broken))

    def _too_deep(self, token: Token) -> None:
        """Refuse what every later walk over the tree would stumble over."""
        self.bag.add(
            Diagnostic(
                "MI0101",
                "this is nested too deeply",
                self._span(token),
                f"more than {_DEEPEST} unfinished parts are open here",
                help="bind inner parts to names with `let`",
            )
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
                fix = Fix(span, f"{span.text} {EDITIONS[-1]}") if len(line) == 2 else None
                self._no_edition(span, "the number of the edition is missing", fix)
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
            line_one = Fix(Span(self.source, 0, 0), f"language mi {EDITIONS[-1]}\n")
            self._no_edition(self._span(first), "the edition belongs before this", line_one)
            rest = 0
        place = first.start
        made = [("language", "_LANGUAGE"), ("mi", "_MI"), (str(EDITIONS[-1]), "INT")]
        for text, kind in made:
            self.machine.feed(Token(kind, text, place, place))
        return rest

    def _no_edition(self, span: Span, label: str, fix: Fix | None = None) -> None:
        self.bag.add(
            Diagnostic(
                "MI0104",
                "the file does not say which edition of the language it is written in",
                span,
                label,
                help=f"make the first line `language mi {EDITIONS[-1]}`",
                fix=fix,
            )
        )

    # ------------------------------------------------------------ reporting

    def _report(self, at: int) -> None:
        token = self.tokens[at]
        expected = self.machine.expected()
        before = self.tokens[at - 1] if at else None
        after = self.tokens[at + 1] if at + 1 < len(self.tokens) else None
        if self.confused is not None and self.confused[0] == at - 1:
            at, expected = self.confused
            token, after, before = self.tokens[at], token, self.tokens[at - 1]
        opener = self._opener(at)
        options = one_of(fitting(expected, self.tables))
        closes = opener is not None and any(self.tables.texts.get(k) == _CLOSE[opener.text] for k in expected)
        if token.type == END:
            code, message = "MI0102", "unexpected end of file"
            help = f"the file stops where {options} should follow"
        else:
            kind = "" if opener is None else self._kind(opener)
            code, message, help = slip(token, before, after, expected, kind, self.tables)
            code, message = code or "MI0101", message or f"unexpected {describe(token, self.tables)}"
            help = help or f"put {options} here"
        notes: tuple[Label, ...] = ()
        if opener is not None and closes:
            if token.type == END or token.hard:
                help = f"close it with `{_CLOSE[opener.text]}`" + (" before this" if token.hard else "")
            if token.type == END or token.hard or token.text in _CLOSE.values():
                notes = (Label(self._span(opener), f"this `{opener.text}` is still open"),)
        self.builder.errors += [token.start, self.tokens[at].start]
        span = self._span(token)
        meant = re.fullmatch(r"write `([^` ]+)`( here)?", help)  # one word, in place of what was found
        fix = Fix(span, meant.group(1)) if meant else None
        self.bag.add(Diagnostic(code, message, span, f"expected {options}", notes, help, fix=fix))

    def _opener(self, at: int) -> Token | None:
        """Return the innermost bracket that is open before a token."""
        stack: list[Token] = []
        for token in self.tokens[:at]:
            _match(token, stack)
        return stack[-1] if stack else None

    def _kind(self, opener: Token) -> str:
        """Tell the braces of edits (`do{`) and blocks (`body{`) from those of records (`{`)."""
        if opener.text != "{":
            return opener.text
        at = self.tokens.index(opener)
        before = self.tokens[at - 1].text if at else ""
        if before == "do":
            return "do{"
        start = max((i for i in range(at) if self.tokens[i].hard), default=0)
        block = self.tokens[start].text in ("experiment", "method", "test", "fn")
        return "body{" if block and not any(t.text == "=" for t in self.tokens[start:at]) else "{"

    # ------------------------------------------------------------ recovery

    def _recover(self, at: int) -> int | None:
        """Find where to go on after an error at a token, make the machine ready for it, and return it."""
        if self.confused is not None and self.confused[0] == at - 1:
            at -= 1
            self.tokens[at].hard = True
            self.confused = None
        self._forget(at)
        begin = max(at, self.tried + 1)  # never at one token twice, or it could go on for ever
        brackets: list[Token] = []
        for token in self.tokens[:begin]:
            _match(token, brackets)
        for i in range(begin, len(self.tokens)):
            token = self.tokens[i]
            known = {id(value) for value, _, _ in self.machine.values if isinstance(value, Token)}
            skipping = any(id(t) not in known for t in brackets)  # inside a block that is being skipped
            opener = _match(token, brackets)
            nested = bool(brackets) and token.text in DECLARATIONS
            if token.type == END or (token.hard and (self._column(token) == 1 or not (skipping or nested))):
                # `fn` here is a declaration: it fits where any declaration does.
                if self._resume(i, "_EXPERIMENT" if token.text == "fn" else token.keyword or token.type):
                    return i
            elif token.text == "}" and opener and id(opener) in known and self._close(i, opener):
                return i
        return None

    def _resume(self, i: int, kind: str) -> bool:
        """Cut the stack so that a statement (or the end of the file) fits, closing what was left open."""
        token = self.tokens[i]
        top = len(self.machine.states)
        # Where a declaration may start, all above is half read and all below is complete.
        floor = next((d for d in range(top, 0, -1) if self.machine.accepts("_EXPERIMENT", d)), top)
        for depth in range(top, floor - 1, -1):
            for inserted in ((), ("RBRACE",), ("RBRACE", "RBRACE")):
                if inserted and token.type != END and self._column(token) > 1:
                    continue  # indented: not the end of the block around it
                if self.machine.accepts(kind, depth, inserted):
                    self.machine.drop(depth)
                    place = self.tokens[i - 1].end if i else token.start
                    for brace in inserted:
                        self.machine.feed(Token(brace, "}", place, place))
                    # What starts here is sound, even where it was this token that did not fit.
                    self.builder.errors = [e for e in self.builder.errors if e < token.start]
                    return True
        return False

    def _close(self, i: int, opener: Token) -> bool:
        """Cut the stack to right inside a brace that is closed here."""
        lowest = next(n for n, (value, _, _) in enumerate(self.machine.values) if value is opener) + 2
        for depth in range(len(self.machine.states), lowest - 1, -1):
            inside = self.machine.values[lowest - 1 : depth - 1]
            if any(isinstance(v, Token) and v.text in _CLOSE and v.type != "STRING" for v, _, _ in inside):
                continue
            if self.machine.accepts("RBRACE", depth):
                self.machine.drop(depth)
                return True
        return False

    def _forget(self, at: int) -> None:
        """Note what the statement around a token would have bound, and that it is not to be trusted."""
        here = self.tokens[at]
        self.builder.errors.append(here.start)
        between = here.first and self.machine.accepts("_LET")  # the statement before is complete
        last = at if here.hard and between else at - 1
        start = max((i for i in range(last + 1) if self.tokens[i].hard), default=None)
        if start is None or (between and not here.hard):
            return
        first = self.tokens[start]
        if not here.first:
            self.builder.errors.append(first.start)
        stop = next((i for i in range(start + 1, len(self.tokens)) if self.tokens[i].hard), None)
        rest = self.tokens[start + 1 : stop]
        if first.text in ("import", "from"):
            self.broken |= {t.text for t in rest if t.type == "NAME" and t.text != "as"}
        elif first.text == "sweep":
            pairs = pairwise(rest)
            names = [t for i, (t, after) in enumerate(pairs) if after.text == "in" or i == 0]
            self.broken |= {t.text for t in names if t.type == "NAME"}
        elif first.text != "language":
            name = rest[1] if first.text == "extern" and len(rest) > 1 else rest[0] if rest else first
            self.broken |= {name.text} if name.type == "NAME" else set()

    def _column(self, token: Token) -> int:
        return self.source.line_col(token.start)[1]

    def _span(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)


def _match(token: Token, stack: list[Token]) -> Token | None:
    """Push an opening bracket on a stack; for a closing one, pop and return what it closes."""
    if token.type == "STRING":
        return None
    if token.text in _CLOSE:
        stack.append(token)
    elif token.text in _CLOSE.values():
        if token.text == "}" and any(t.text == "{" for t in stack):
            while stack[-1].text != "{":  # a brace closes what was forgotten inside it
                stack.pop()
        if stack and _CLOSE[stack[-1].text] == token.text:
            return stack.pop()
    return None
