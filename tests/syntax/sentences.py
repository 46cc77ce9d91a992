"""Random programs: sentences drawn from the grammar itself, set with random spaces and comments.

They mean nothing and need not check, but most of them parse, and together they hold every form.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from random import Random
from typing import Any

from hypothesis import strategies as st
from lark import Lark

from midsl.resources import resource_dir
from midsl.syntax.tables import load_tables

_TEXTS = {
    "NAME": ["x", "h_1", "clean", "model", "report", "where", "z", "by", "plan", "camelCase"],
    "TNAME": ["Float", "Data", "W_out", "T"],
    "INT": ["0", "1", "12", "1_000"],
    "FLOAT": ["0.5", "1e-3", "2.5e3"],
    "STRING": ['""', '"a"', r'"q\"t\n"', '"{ # } ,"', '".."', '"-"'],
}
_SPACES = [
    " ",
    "  ",
    "\n",
    "\n\n\n",
    "\t",
    "\r\n",
    " # note\n",
    "\n## doc\n",
    "  ##doc\n",
    "\n  # a\n\n# b\n",
]


@lru_cache(maxsize=1)
def _grammar() -> tuple[dict[str, list[tuple[int, list[str]]]], dict[str, str]]:
    """Expansions by rule, each with the least depth it takes to end; and how a terminal is written."""
    text = (resource_dir("grammar") / "mi.lark").read_text(encoding="utf-8")
    lark = Lark(text, parser="lalr", strict=True, maybe_placeholders=True)
    by_origin: dict[str, list[list[str]]] = defaultdict(list)
    for rule in lark.rules:
        by_origin[str(rule.origin.name)].append([str(s.name) for s in rule.expansion])
    height: dict[str, int] = {}
    while len(height) < len(by_origin):
        for origin, expansions in by_origin.items():
            depths = [_depth(e, height, by_origin) for e in expansions]
            if known := [d for d in depths if d is not None]:
                height[origin] = min(known)
    out: dict[str, list[tuple[int, list[str]]]] = {}
    for origin, expansions in by_origin.items():
        out[origin] = [(_depth(e, height, by_origin) or 0, e) for e in expansions]
    return out, load_tables().texts


def _depth(expansion: list[str], height: dict[str, int], rules: Any) -> int | None:
    depths = [height.get(s) if s in rules else 0 for s in expansion]
    return None if None in depths else 1 + max((d for d in depths if d is not None), default=0)


def _derive(symbol: str, room: int, random: Random, out: list[str]) -> None:
    rules, texts = _grammar()
    if symbol not in rules:
        out.append(random.choice(_TEXTS[symbol]) if symbol in _TEXTS else texts[symbol])
        return
    options = [e for depth, e in rules[symbol] if depth <= room]
    if not options:
        least = min(depth for depth, _ in rules[symbol])
        options = [e for depth, e in rules[symbol] if depth == least]
    for part in random.choice(options):
        _derive(part, room - 1, random, out)


def sentence(seed: int) -> str:
    """Return a program drawn by a seed; its words are kept apart, all else may touch."""
    random = Random(seed)
    words: list[str] = []
    rules, _ = _grammar()
    wanted = random.choice(["decl", "stmt"])
    for _ in range(random.randint(1, 4)):
        _derive(wanted, random.randint(10, 24), random, words)
    if wanted == "stmt":
        words = ["experiment", "e", "{", *words, "}"]
    assert "decl" in rules
    out = "language mi 1\n"
    for word in words:
        apart = out[-1].isalnum() or out[-1] in "_." or not word[0].isalnum()
        out += (random.choice(_SPACES) if random.random() < 0.2 else " " if apart else "") + word
    return out + random.choice(["", "\n", "  # end", "\n\n# end\n"])


def sentences() -> st.SearchStrategy[str]:
    """Programs as hypothesis draws them: by their seed."""
    return st.integers(0, 2**32 - 1).map(sentence)
