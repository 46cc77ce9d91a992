"""The words of the language by what they do, for whatever colours or completes them.

A test holds this table to the grammar: a keyword that is in one and not in the other fails it.
"""

from __future__ import annotations

ROLES = ("let", "model", "data", "site", "decomposition", "basis", "metric", "control")
DECLARATIONS = ("param", "axis", "type", "fn", "extern", "method", "experiment", "test")
STATEMENTS = ("sweep", "report", "expect", "plot", "save", "view", "plan", "return")
IMPORTS = ("language", "mi", "import", "from", "as")
CLAUSES = ("where", "by", "within", "on", "rollout", "for", "of", "in", "if", "then", "else", "run", "do")
OPERATORS = ("and", "or", "not")
CONSTANTS = ("true", "false")
SELF = ("self",)

GROUPS: dict[str, tuple[str, ...]] = {
    "storage.type": ROLES,
    "keyword.declaration": DECLARATIONS,
    "keyword.control.statement": STATEMENTS,
    "keyword.control.import": IMPORTS,
    "keyword.control.clause": CLAUSES,
    "keyword.operator.word": OPERATORS,
    "constant.language": CONSTANTS,
    "variable.language": SELF,
}
"""TextMate scope -> words."""

WORDS = frozenset(word for group in GROUPS.values() for word in group)
