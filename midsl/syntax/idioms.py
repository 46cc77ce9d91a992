"""Habits of other languages, recognised by the token that does not fit and what would have fitted.

Each is a slip that the general message ("put `=` here") answers correctly and unhelpfully.
"""

from __future__ import annotations

from midsl.syntax.lexer import Token

_INSTEAD = {
    "is": "values compare with `==`, floats with `~=`",
    "xor": "write `a != b`",
    "of": "write `in` here",
    "rollout": "`rollout` stands before `do`: `run m on d rollout { steps: 8 } do { ... }`",
    "elif": "choices nest: `if a then x else if b then y else z`",
}
_COMMENTS = {"/": "*/", "-": "-", "<": "!"}


def idiom(
    found: Token, before: Token | None, after: Token | None, texts: set[str], opener: str
) -> tuple[str, str] | None:
    """Return (message, help) of a habit, the message "" where the general one will do, or None.

    Args:
        found, before, after: the token that does not fit, and its neighbours.
        texts: what would have fitted, as written.
        opener: the innermost open bracket.
    """
    text, name, then = found.text, before.text if before else "", after.text if after else ""
    glued = before is not None and before.end == found.start
    statement = "experiment" in texts or "report" in texts
    if text in _INSTEAD and found.type == "NAME" and ("in" in texts or statement or "else" in texts):
        return "", _INSTEAD[text]
    if text == "for" and opener == "[" and "if" in texts:
        return (
            "a list is made by one walk",
            "nest the lists, `[[f(a, b) for a in xs] for b in ys]`, or sweep both",
        )
    if name == "for" and opener == "[":
        return "what the list holds is missing", "it stands before `for`: `[f(x) for x in xs]`"
    if statement and text in _COMMENTS and then.startswith(tuple(_COMMENTS[text])):
        return "this is no comment", "a comment starts with `#`"
    if text == "/" and name == "/":
        return "`//` is no operator", "a comment starts with `#`"
    if found.type == "STRING" and glued and before is not None:
        if before.type == "NAME":
            return "strings have no prefixes", f"remove `{name}`"
        if before.type == "STRING":
            return "there are no triple quotes", 'a string stays on one line, between single `"`'
    if found.type == "STRING" and "," in texts and statement:
        return "", "is a comma missing before it?"
    if texts == {"a string"} and found.type == "NAME" and not found.hard:
        return "", f'write `"{text}"`'
    if found.type == "STRING" and opener == "{" and then == ":":
        return "the names of a record have no quotes", f"write `{text[1:-1]}: value`"
    if text == ":" and "{" in texts and "=" in texts:
        return "", "a block stands in braces: `experiment name { ... }`"
    if text == ":" and opener == "[" and "," in texts:
        return "", "a range is spelled `a..b`; a label is a name: `z[pos: 0..10]`"
    if text == "=>" and "=" in texts:
        return "`=>` belongs to a function value", "write `=` here"
    if text == "->" and "=>" in texts:
        return "`->` belongs to a type", "write `=>` here"
    if texts == {"->"}:
        return "what the function returns is missing", "it stands before the body: `fn f(x: Int) -> Int = x`"
    if texts == {":"} and opener != "{" and text in (",", ")", "="):
        return f"`{name}` has no type", f"write one: `{name}: Int`"
    if texts == {"(", "["} and text == "<":
        return "", "generic axes stand in square brackets: `fn f[d](x: Float[d]) -> Float = ...`"
    if texts == {"("} and name == "fn":
        return "", "a function value is spelled `fn (x) => x + 1`"
    if name == "." and found.type == "INT":
        return "", "a number has a digit on both sides of its point: `0.5`; parts of a list are `a[0]`"
    if text == ">" and name == "<":
        return "`<>` is no operator", "two values differ by `!=`"
    if text == "=" and name in ("==", "+", "-", "*", "/"):
        if name == "==":
            return "`===` is no operator", "values compare with `==`, floats with `~=`"
        return f"`{name}=` is no operator", f"an edit is spelled in full: `site := self {name} value`"
    if {"=", "["} <= texts and (found.hard or text == "("):
        if text == "(":
            return "", "the axes of a type stand in square brackets: `Float[batch]`"
        return "the function has no body", "it is `= expression`, or `{ let y = x  return y }`"
    if text == "}" and "return" in texts:
        return "this function returns nothing", "end its block with `return value`"
    if text == "=" and statement and "," in texts and "~=" not in texts:
        return "", "axes have no sizes here: models and data give them"
    if text == "," and statement and "}" in texts:
        return "", "one statement a name: write `report` again"
    if text == "if" and statement:
        return "", "a choice is a value: `let x = if a then b else c`; to leave rows out use `where`"
    if text == "within":
        return "", "a tolerance goes with `~=`: `a ~= b within 0.1`"
    if text == "*" and "self" in texts:
        return "", "`*` stands for all in brackets: `z[head: *]`"
    if text == "*" and name == "import":
        return "there is no import of everything", "name what you use: `from std.tasks import ioi, induction`"
    if text == "where" and "=" in texts:
        return "", "a condition stands behind the value: `data d = facts where x > 0`"
    if text == "{" and texts <= {"(", "["} and texts:
        return "", "a method has parameters, if none then `()`; without any, write `experiment name { ... }`"
    if text == "(" and "=" in texts and statement:
        return "a result needs a name", "write `report name = value`"
    return None
