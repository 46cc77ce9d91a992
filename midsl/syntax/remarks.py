"""The comments of a file by the experiment they speak of: what may change without changing any result."""

from __future__ import annotations

from itertools import pairwise

from midsl.diagnostics.model import Bag
from midsl.source import SourceFile
from midsl.syntax.lexer import DECLARATIONS, ROLES, lex
from midsl.syntax.tables import load_tables


def remarks(source: SourceFile) -> dict[str, list[str]]:
    """Comments by experiment: those in it and right above it; all others under "".

    >>> text = "language mi 1\\n# a\\nlet x = 1\\n# b\\nexperiment e {\\n  report x  # c\\n}\\n"
    >>> remarks(SourceFile("a.mi", text))
    {'': ['# a'], 'e': ['# b', '# c']}
    """
    tokens = lex(source, load_tables(), Bag()).tokens
    found: dict[str, list[str]] = {}
    waiting: list[str] = []  # comments of which it is not known yet what they are above
    here, depth = "", 0
    start = 0
    for token, after in pairwise([*tokens, tokens[-1]]):
        gap = source.text[start : token.start]
        start = token.end
        waiting += [line for raw in gap.splitlines() if (line := raw.strip()).startswith("#")]
        opens = depth == 0 and token.first and token.text in DECLARATIONS | ROLES
        if opens or depth > 0 or token is tokens[-1]:
            if opens:
                here = after.text if token.text == "experiment" else ""
            found.setdefault(here, []).extend(waiting)
            waiting = []
        depth += {"{": 1, "}": -1}.get(token.text, 0)
    return {name: said for name, said in found.items() if said}
