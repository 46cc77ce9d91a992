"""What a syntax error says: what was found, what would fit there, and how to mend the usual slips.

The grammar tells which terminals fit; `fitting` puts them into words. `slip` knows the mistakes that
people make, by the token that was found, the one before it and what would have fitted.
"""

from __future__ import annotations

from midsl.syntax.idioms import idiom
from midsl.syntax.lexer import DECLARATIONS, STATEMENTS, Token
from midsl.syntax.tables import END, Tables

_NAMES = {
    "NAME": "a name",
    "TNAME": "a type name",
    "INT": "a whole number",
    "FLOAT": "a number",
    "STRING": "a string",
    END: "the end of the file",
}
_EXPRESSION = {"_SELF", "STRING", "FLOAT"}
_PUNCTUATION = ["=", ":=", ":", "->", "=>", ",", ")", "]", "}", "(", "[", "{", "*", "<", ">"]
_CONTINUES = frozenset({"+", "-", "*", "/", "%", "**", "|", "==", "!=", "<=", ">=", "<", ">", "~="}) | {
    *("..", "..=", ".", "(", "[", "and", "or", "in", "by", "within"),
}


def fitting(expected: set[str], tables: Tables) -> list[str]:
    """Put the terminals that fit into words, the most telling first, at most five."""
    texts = {tables.texts.get(k, "") for k in expected}
    out: list[str] = []
    value = expected >= _EXPRESSION
    if value:
        out.append("an expression")
        texts -= {"run", "do", "fn", "if", "not", "self", "true", "false", "+", "-", ".", "(", "[", "{"}
        texts -= {"..", "..="}
    else:
        out += [_NAMES[k] for k in ("NAME", "TNAME", "STRING", "INT") if k in expected]
    if (not value and texts & {"+", "**"}) or {"(", "[", "."} <= texts:
        # An expression ends here: anything that could go on with it fits, and that tells nothing.
        texts -= _CONTINUES
    if "TNAME" in expected and "fn" in texts and not value:
        out = ["a type"]
        texts -= {"fn", "{"}
    out += [f"`{p}`" for p in _PUNCTUATION if p in texts]
    words = {t for t in texts if t.isalpha()}
    for sign, kind in (("report", "a statement"), ("experiment", "a declaration"), ("metric", "a binding")):
        if sign in words:
            out.append(kind)
            words -= STATEMENTS - {"return"} | DECLARATIONS | {"where", "do", "rollout", "as"}
            break
    out += [f"`{w}`" for w in sorted(words)]
    if END in expected:
        out.append(_NAMES[END])
    return out[:5] or ["an operator"]


def one_of(options: list[str]) -> str:
    """Join alternatives: ``a``, ``a or b``, ``a, b or c``."""
    return options[0] if len(options) == 1 else ", ".join(options[:-1]) + " or " + options[-1]


def describe(token: Token, tables: Tables) -> str:
    """Name a token the way a reader would."""
    if token.type == END:
        return "end of the file"
    if token.text in tables.reserved:
        return f"reserved word `{token.text}`"
    if token.keyword and token.text in STATEMENTS | DECLARATIONS:
        return f"keyword `{token.text}`"
    kinds = {"NAME": "name ", "TNAME": "type name ", "STRING": "string "} | dict.fromkeys(
        ("INT", "FLOAT"), "number "
    )
    text = token.text if len(token.text) <= 30 else token.text[:27] + "..."
    return f"{kinds.get(token.type, '')}`{text}`"


_FOREIGN = {
    "def": "functions are declared with `fn`: `fn double(x: Float) -> Float = 2 * x`",
    "lambda": "a function value is spelled `fn (x) => x + 1`",
    "for": "there are no loops: `sweep x in xs` walks a list, `[f(x) for x in xs]` makes one",
    "while": "there are no loops: `iterate(init, fn, steps)` is bounded, `sweep x in xs` walks a list",
    "class": "there are no classes: a record `{ a: 1 }` holds values together",
    "const": "every name is bound once: `let x = 1`",
    "var": "every name is bound once: `let x = 1`",
    "print": "results leave an experiment by `report name = value`",
    "assert": 'a claim is spelled `expect condition, "why"`',
    "return": "only a `fn` with braces returns: `fn f(x: Int) -> Int { let y = x  return y }`",
    "elif": "choices nest: `if a then x else if b then y else z`",
    "with": "there is no `with`: an intervention is part of a run, `run m on d do { site := value }`",
    "use": "modules come in by `import std.x as y` or `from std.x import a`",
    "func": "functions are declared with `fn`",
    "function": "functions are declared with `fn`",
    "try": "there are no exceptions: what cannot work is refused before anything runs",
}
_CONSTANTS = {"True": "`true`", "False": "`false`", "None": "nothing: leave the argument out"}
_CLOSERS = {")": "(", "]": "[", "}": "{"}


def slip(
    found: Token, before: Token | None, after: Token | None, expected: set[str], opener: str, tables: Tables
) -> tuple[str, str, str]:
    """Recognise a usual mistake: (code, message, help), each "" where the general one will do.

    Args:
        found: the token that does not fit; `before` and `after` are its neighbours.
        expected: the terminals that fit.
        opener: the innermost open bracket: ``do``'s brace is ``do{``, that of a block ``body{``.
        tables: the grammar's tables.
    """
    texts = {tables.texts.get(k, "") for k in expected}
    text, name = found.text, before.text if before else ""
    if found.text in tables.reserved and "NAME" in expected and not expected >= _EXPRESSION:
        return (
            "MI0105",
            f"`{text}` is a reserved word and cannot be a name",
            f"choose another name, such as `{text}_` or `my_{text}`",
        )
    if habit := idiom(found, before, after, {"a string"} if expected == {"STRING"} else texts, opener):
        return "", *habit
    if name in _FOREIGN and before and before.type == "NAME" and found.type in ("NAME", "STRING", "TNAME"):
        return "", f"`{name}` is not a word of the language", _FOREIGN[name]
    opens = found.first or name in ("{", "}")
    if text in _FOREIGN and not ({"return", "for"} & {text} & texts) and opens:
        return "", f"`{text}` does not open a statement", _FOREIGN[text]
    if text in _CONSTANTS:
        return "", f"`{text}` is spelled differently here", f"write {_CONSTANTS[text]}"
    if text == ":=":
        if opener == "do{":
            return "", "", "one edit is `site := value`; several are separated by commas"
        if "=" in texts or "_EQ" in texts:
            return "", "`:=` sets a site inside `do { }`; `=` binds a name", "write `=` here"
        if opener in ("{", "(") and ":" in texts:
            return "", "`:=` sets a site inside `do { }`; here `:` gives a label its value", "write `:` here"
        return "", "`:=` stands only inside `do { }`", "an intervention is `run m on d do { site := value }`"
    if text == "=":
        if opener == "do{":
            return "", "`=` binds a name; an edit sets a site with `:=`", "write `site := value`"
        if opener == "{":
            return "", "the fields of a record take `:`", f"write `{name}: value`"
        if opener in ("(", "["):
            return "", "arguments are labelled with `:`", f"write `{name}: value`"
        if before and before.text in tables.keywords and "NAME" in expected:
            return "", f"`{name}` needs a name before `=`", f"write `{name} some_name = ...`"
        if "~=" in texts:
            return "", "`=` binds a name and does not compare", "compare with `==`, and floats with `~=`"
    if text == ":" and opener == "do{":
        return "", "`:` labels an argument; an edit sets a site with `:=`", "write `site := value`"
    if text == ":" and opener == "body{":
        return "", "`:` labels an argument; a binding takes `=`", "write `let name = value`"
    if name == ":" and "TNAME" in expected and "FLOAT" not in expected:
        return (
            "",
            "a type belongs after this `:`",
            "to bind a value write `=`: `let x = 3`; types start with a capital: `let x: Int = 3`",
        )
    if text in ("<", ">", "==", "!=", "<=", ">=", "~=", "in") and "and" in texts:
        return "", "comparisons do not chain", "write `a < b and b < c`"
    if text in _CLOSERS and not ({text} & texts):
        if not opener:
            return "", f"this `{text}` closes nothing", "remove it, or open it with a matching bracket"
        if opener[-1] != _CLOSERS[text] and not expected >= _EXPRESSION:
            wanted = {"(": ")", "[": "]", "{": "}"}[opener[-1]]
            return "", f"this `{text}` closes a `{opener[-1]}`", f"write `{wanted}` here"
    if text in ("..", "..=") or name in ("..", "..="):
        return (
            "",
            "a range without an end stands only in brackets or as an argument",
            "give it both ends: `0..10`; open ones select: `z[pos: 1..]`",
        )
    if text == "do" and "_RUN" not in expected and "_ON" not in expected:
        return "", "", "`do { ... }` goes with a run: `run m on d do { site := value }`"
    if text == "|" and name == "|":
        return "", "`||` is no operator", "conditions are joined by `or`, sites by `|`"
    if text == "/" and after and after.text == "/":
        return "", "`//` is no operator", "a comment starts with `#`"
    return _by_context(found, before, after, texts, expected, opener, tables)


def _by_context(
    found: Token,
    before: Token | None,
    after: Token | None,
    texts: set[str],
    expected: set[str],
    opener: str,
    tables: Tables,
) -> tuple[str, str, str]:
    """The slips that depend on what would have fitted more than on what was found."""
    text = found.text
    if "NAME" in expected and found.type == "TNAME" and not expected >= _EXPRESSION | {"TNAME"}:
        return "", "", "names start with a lower-case letter, types with a capital"
    if "TNAME" in expected and "fn" in texts and found.type == "NAME":
        return "", "", "types start with a capital: `Int`, `Float[batch, pos]`, `fn(Run) -> Float`"
    if "then" in texts and found.type != END:
        return "", "", "a choice is spelled `if a then b else c`"
    if "else" in texts and "then" not in texts:
        return "", "this `if` has no `else`", "both branches are needed: `if a then b else c`"
    if "on" in texts and "+" not in texts:
        return "", "", "a run is spelled `run model on data`"
    if text in ("report", "sweep", "expect", "plot", "save", "view") and "experiment" in texts:
        return "", f"`{text}` stands only inside an experiment", "put it into `experiment name { ... }`"
    if text in DECLARATIONS and opener == "body{":
        return "", f"`{text}` cannot stand inside a block", "close the block before it, or move it out"
    if text in ("import", "from") and "experiment" in texts:
        return "", "imports come before everything else", "move it up, below `language mi 1`"
    if text == "language":
        return "", "the edition stands once, on the first line", "remove this line"
    if text == "-" and after and after.text == ">":
        return "", "", "an arrow is spelled `->`, without a space"
    if "experiment" in texts or "report" in texts:
        statement = found.first and found.type in ("NAME", "TNAME")
        if statement and after and after.text == ":=":
            help = "an intervention is part of a run: `run m on d do { site := value }`"
            return "", "`:=` stands only inside `do { }`", help
        if statement and after and after.text in ("=", ":"):
            return "", "every statement opens with a keyword", f"to bind a name write `let {text} = ...`"
        if statement:
            help = "`let` binds, `report` gives a result, `expect` claims"
            return "", "every statement opens with a keyword", help
    starts = found.type in ("NAME", "INT", "FLOAT", "STRING", "TNAME") or text in tables.reserved
    if starts and opener in ("(", "[", "{", "do{") and "," in texts:
        return "", "", "is a comma missing before it?"
    return "", "", ""
