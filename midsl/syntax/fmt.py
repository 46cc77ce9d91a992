"""The canonical layout of a file: `midsl fmt`.

Tokens are set anew, lines are not: where a line ends says what belongs together, and only its author
knows. So the spaces between tokens, indentation, alignment and blank lines are the formatter's; which
item starts a line is not, except that statements of a block over several lines each get one. The text
is checked against the tree before it is handed out: a formatter may never change a meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from midsl.diagnostics.model import Bag, MiError
from midsl.source import SourceFile
from midsl.syntax.lexer import Token
from midsl.syntax.parse import parse
from midsl.syntax.roles import Roles, roles_of

INDENT = 2
COMMENT_COLUMN = 55  # comments behind code start here where the code leaves room
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
_OPERANDS = frozenset({"NAME", "TNAME", "INT", "FLOAT", "STRING", "_SELF", "_TRUE", "_FALSE"})
_ALIGNED = frozenset({"_LET", "_MODEL", "_DATA", "_SITE", "_BASIS", "_METRIC", "_CONTROL"})
_COMMENT = re.compile(r"#[^\n]*")


@dataclass
class _Line:
    """One line of output.

    Attributes:
        indent: spaces before it.
        code: its tokens, spaced.
        comment: what stands behind the code, or alone.
        gap: an empty line stands before it.
        cells: where (role, name) end in the code, if the line is a plain binding or report.
        kind: what `cells` may be aligned with: other bindings, or other reports.
    """

    indent: int = 0
    code: str = ""
    comment: str = ""
    gap: bool = False
    cells: tuple[int, int] | None = None
    kind: str = ""


@dataclass
class _Bracket:
    """An open bracket: the indent of the line it stands on, and what it holds."""

    token: Token
    outer: int
    block: bool
    whole: bool  # a block that spans lines: each statement gets one


@dataclass
class _Piece:
    """A token with the comments that follow it."""

    token: Token
    kind: str
    new_line: bool
    gap: bool  # an empty line before it (before the comments that stand above it)
    behind: str = ""
    above: list[tuple[str, bool]] = field(default_factory=list)  # comment lines, and a gap before each


def format_source(source: SourceFile) -> str:
    """Return the text of a file in canonical layout; raises its syntax errors (family 01).

    >>> format_source(SourceFile("a.mi", "language mi 1\\nlet x=1+2 # three\\nlet long = [1,2,]"))
    'language mi 1\\nlet x    = 1 + 2                                       # three\\nlet long = [1, 2]\\n'
    """
    bag = Bag()
    tree = parse(source, bag)
    if tree is None or bag.errors:
        raise MiError(*bag.errors)
    text = _Layout(source, roles_of(source)).text()
    again = parse(SourceFile(source.name, text), Bag())
    if again != tree:
        raise AssertionError("formatting would have changed the meaning of the file")
    return text


class _Layout:
    def __init__(self, source: SourceFile, roles: Roles) -> None:
        self.source = source
        self.roles = roles
        self.pieces = self._pieces()
        self.stack: list[_Bracket] = []
        self.lines: list[_Line] = []

    def text(self) -> str:
        """Lay the file out."""
        self._set_lines()
        _align_bindings(self.lines)
        _align_comments(self.lines)
        out: list[str] = []
        for line in self.lines:
            if line.gap and out:
                out.append("")
            out.append((" " * line.indent + line.code + line.comment).rstrip())
        return "\n".join(out) + "\n"

    # ------------------------------------------------------------ tokens with their comments

    def _pieces(self) -> list[_Piece]:
        text = self.source.text
        tokens = self.roles.lexed.tokens
        out: list[_Piece] = []
        previous = 0
        for token, kind in zip(tokens, self.roles.kinds, strict=True):
            between = text[previous : len(text) if token.text == "" else token.start]
            piece = _Piece(token, kind, "\n" in between or not out, False)
            head, *rest = between.split("\n")
            if found := _COMMENT.search(head):
                if out:
                    out[-1].behind = _tidy(found.group())
                else:
                    piece.above.append((_tidy(found.group()), False))
            gap = False
            for i, line in enumerate(rest):
                if found := _COMMENT.search(line):
                    piece.above.append((_tidy(found.group()), gap))
                    gap = False
                elif i < len(rest) - 1:
                    gap = True
            piece.gap = gap
            last = out[-1] if out else piece
            if (
                _closes(token) and not piece.new_line and last.token.text == ","
            ):  # `[a, b,]` loses its last comma
                piece.new_line, piece.gap, piece.above = last.new_line, last.gap, last.above
                out.pop()
            out.append(piece)
            previous = token.end if token.text else previous
        return out

    # ------------------------------------------------------------ lines

    def _set_lines(self) -> None:
        starts = self.roles.starts
        line = _Line()
        for i, piece in enumerate(self.pieces):
            token, before = piece.token, self.pieces[i - 1] if i else None
            closing = _closes(token)
            top = self.stack[-1] if self.stack else None
            breaks = piece.new_line or bool(piece.above)
            if token.start in starts or (closing and top and top.block):
                breaks = breaks or ((top is None or top.whole) and not self._documented(i))
            if token.text == "" or breaks or not self.lines:
                inside = self._indent(token, before)
                for comment, gap in piece.above:
                    at = inside if not closing else (top.outer if top else 0) + INDENT
                    self.lines.append(_Line(at, comment=comment, gap=gap and self._may_gap()))
                if token.text == "":
                    return
                line = _Line(inside, gap=piece.gap and not closing and self._may_gap())
                self.lines.append(line)
            elif before is not None:
                two = token.start in starts and before.token.text not in _OPEN
                line.code += "  " if two and top and top.block else self._space(i)
                if two:
                    line.cells = None
            line.code += token.text
            self._cells(line, i)
            if closing and self.stack:
                self.stack.pop()
            elif token.text in _OPEN:
                block = token.start in self.roles.blocks
                self.stack.append(_Bracket(token, line.indent, block, block and self._spans(i)))
            if piece.behind:
                line.comment = piece.behind

    def _may_gap(self) -> bool:
        """Whether an empty line may follow the last one: not behind an opening bracket."""
        return bool(self.lines) and not self.lines[-1].code.endswith(tuple(_OPEN))

    def _indent(self, token: Token, before: _Piece | None) -> int:
        top = self.stack[-1] if self.stack else None
        if _closes(token) and top:
            return top.outer
        base = top.outer + INDENT if top else 0
        if token.text == "" or token.start in self.roles.starts or before is None:
            return base
        if top is None or top.block:
            return base + INDENT
        return base if before.token.text == "," or before.token is top.token else base + INDENT

    def _documented(self, i: int) -> bool:
        """Whether the rest of a line ends in `##`: whom that documents hangs on what shares its line."""
        while i + 1 < len(self.pieces) and not self.pieces[i].behind and not self.pieces[i + 1].new_line:
            i += 1
        return self.pieces[i].behind.startswith("##")

    def _spans(self, i: int) -> bool:
        """Whether the block that opens at a token goes on over the line."""
        depth = 0
        for piece in self.pieces[i:]:
            depth += (piece.token.text in _OPEN) - (piece.token.text in _CLOSE)
            if piece is not self.pieces[i] and (piece.new_line or piece.above):
                return True
            if not depth:
                return False
        return True

    def _cells(self, line: _Line, i: int) -> None:
        """Note the two ends that `let name =` is aligned by, when its `=` has been set."""
        if self.pieces[i].token.text != "=" or i < 2 or line.kind:
            return
        role, name = self.pieces[i - 2], self.pieces[i - 1]
        if role.token.start not in self.roles.starts or line.code.count(" ") != 2:
            return
        if role.kind in _ALIGNED or role.kind == "_REPORT":
            line.kind = "binding" if role.kind in _ALIGNED else "report"
            first = len(role.token.text)
            line.cells = (first, first + 1 + len(name.token.text))

    # ------------------------------------------------------------ spaces

    def _operand(self, i: int) -> bool:
        """Whether something that has a value ends at a token."""
        piece = self.pieces[i]
        return piece.kind in _OPERANDS or piece.token.text in _CLOSE

    def _space(self, i: int) -> str:
        """Return what stands between a token and the one before it on its line."""
        roles, here, before = self.roles, self.pieces[i].token, self.pieces[i - 1].token
        text, last = here.text, before.text
        after = self.pieces[i + 1].token.start if i + 1 < len(self.pieces) else -1
        ends = self._operand(i - 1)
        if text in (",", ":", ")", "]") or last in ("(", "["):
            return ""
        if last == "." or (text == "." and ends):
            return ""
        if text in ("..", "..="):
            return "" if ends else " "
        if last in ("..", "..="):
            return " " if self.pieces[i].kind == "_BY" else ""
        if text == "}" and last == "{":
            return ""
        if text == "{" and here.start in roles.columns and ends:
            return ""
        if text in ("(", "["):
            return "" if ends or before.start in roles.fn_types else " "
        if after in roles.units or here.start in roles.units:
            return ""
        if text == ">" and before.start in roles.units:
            return ""
        if (text == "=" and after in roles.sizes) or here.start in roles.sizes:
            return ""
        if last in ("-", "+", "*") and not self._binary(i - 1):
            return ""
        return " "

    def _binary(self, i: int) -> bool:
        """Whether a `-`, `+` or `*` stands between two operands."""
        return i > 0 and self._operand(i - 1)


def _closes(token: Token) -> bool:
    """Whether a token is a closing bracket; the text of a string has its quotes, so no string is."""
    return token.text in _CLOSE


def _tidy(comment: str) -> str:
    """A space between the sign and the words: `#x` is `# x`; rulers stay as they are."""
    return re.sub(r"^(##?)(?=\w)", r"\1 ", comment.rstrip())


def _runs(lines: list[_Line], fits: list[bool]) -> list[list[_Line]]:
    """Neighbouring lines that fit, with no empty line between them."""
    out: list[list[_Line]] = []
    open_run = False
    for line, fit in zip(lines, fits, strict=True):
        if fit and open_run and not line.gap:
            out[-1].append(line)
        elif fit:
            out.append([line])
        open_run = fit
    return out


def _align_bindings(lines: list[_Line]) -> None:
    """Set the names of neighbouring bindings in a column, and their `=` in another; reports apart."""
    for kind in ("binding", "report"):
        for run in _runs(lines, [line.cells is not None and line.kind == kind for line in lines]):
            for indent in {line.indent for line in run}:
                group = [(line, line.cells) for line in run if line.indent == indent and line.cells]
                role = max(cells[0] for _, cells in group)
                name = max(cells[1] - cells[0] - 1 for _, cells in group)
                for line, (first, second) in group:
                    head = f"{line.code[:first]:{role}} {line.code[first + 1 : second]:{name}}"
                    line.code = head + line.code[second:]


def _align_comments(lines: list[_Line]) -> None:
    """Set comments behind code in one column for the whole file; behind long lines in their own."""
    for long in (False, True):
        fits = [bool(x.code and x.comment) and (_end(x) + 2 > COMMENT_COLUMN) == long for x in lines]
        for run in _runs(lines, fits):
            column = max(COMMENT_COLUMN, *(_end(line) + 2 for line in run))
            for line in run:
                line.comment = " " * (column - _end(line)) + line.comment


def _end(line: _Line) -> int:
    return line.indent + len(line.code)
