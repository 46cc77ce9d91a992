"""What each token of a sound file is for: the machine drives, and this listens.

A formatter has to tell a minus from a sign and a comparison from a unit. The grammar knows; so the
parser's own machine reads the file once more with a builder that notes places and builds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from midsl.diagnostics.model import Bag
from midsl.source import SourceFile, Span
from midsl.syntax.lexer import Lexed, Token, lex
from midsl.syntax.machine import Machine
from midsl.syntax.tables import load_tables

_STATEMENTS = frozenset(
    {"binding", "param", "axis", "alias", "fn", "extern", "method", "experiment", "test"}
) | {
    *("sweep", "report", "expect", "plot", "save", "view", "plan", "import_as", "import_names", "start"),
}


@dataclass
class Roles:
    """Places of one file, as character offsets.

    Attributes:
        lexed: the tokens; `kinds` holds what each was read as (a keyword's terminal, or NAME).
        starts: where statements and declarations begin, and the `return` of a block.
        blocks: the braces that hold statements.
        columns: the braces that hold the columns of a type.
        fn_types: the `fn` of function types.
        units: the names in `<>` of types.
        sizes: the sizes in types, as in `pos=16`.
    """

    lexed: Lexed
    kinds: list[str] = field(default_factory=list)
    starts: set[int] = field(default_factory=set)
    blocks: set[int] = field(default_factory=set)
    columns: set[int] = field(default_factory=set)
    fn_types: set[int] = field(default_factory=set)
    units: set[int] = field(default_factory=set)
    sizes: set[int] = field(default_factory=set)

    def reduce(self, action: str, children: list[Any], span: Span) -> Token | None:
        """Note where a rule stands; the only value kept is a lone token, for `type_ref` and `ax`."""
        if action in _STATEMENTS:
            self.starts.add(span.start)
        elif action in ("body", "fn_block"):
            self.blocks.add(span.start)
        elif action == "columns":
            self.columns.add(span.start)
        elif action == "fn_type":
            self.fn_types.add(span.start)
        elif action == "type_ref" and isinstance(children[-2], Token):
            self.units.add(children[-2].start)
        elif action == "ax" and isinstance(children[1], Token):
            self.sizes.add(children[1].start)
        return None


def roles_of(source: SourceFile) -> Roles:
    """Read a file that parses without an error, and return what its tokens are for."""
    tables = load_tables()
    roles = Roles(lex(source, tables, Bag()))
    machine = Machine(tables, source, roles)
    for token in roles.lexed.tokens:
        kind = machine.read(token)
        roles.kinds.append(kind)
        if kind == "_RETURN":
            roles.starts.add(token.start)
        if not machine.feed(token):
            raise ValueError(f"{source.name} does not parse")
    return roles
