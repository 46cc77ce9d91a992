"""Parse tables: made by Lark from `grammar/mi.lark`, kept on disk as plain JSON.

Lark turns the grammar into LALR tables in half a second and takes a tenth of a second to import;
a spec takes a few milliseconds to parse. So Lark is the generator and not the runtime: its tables
are written down once per grammar and Lark version, and `machine.py` drives them. The file is JSON
(nothing is ever unpickled) and carries a checksum; one that does not match is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from midsl.cachedir import cache_dir, kept
from midsl.resources import resource_dir

_FORMAT = "1"  # of the file; raise it when `Tables` changes
END = "$END"


@dataclass(frozen=True)
class Rule:
    """One production, and how its children become the arguments of a builder.

    Attributes:
        origin: the nonterminal it reduces to.
        action: the builder's name: the alias in the grammar, else the origin.
        size: how many symbols it takes off the stack.
        keep: per symbol, whether its value is kept (punctuation and keywords are not).
        nones: per gap (``size + 1`` of them), how many absent optionals stand there.
        inline: the children join those of the parent (helper rules, whose name starts with ``_``).
        single: a lone child stands for the rule itself (``?rule`` in the grammar).
    """

    origin: str
    action: str
    size: int
    keep: tuple[bool, ...]
    nones: tuple[int, ...]
    inline: bool
    single: bool

    @cached_property
    def slots(self) -> tuple[tuple[bool, int], ...]:
        """Per symbol, whether it is kept, and how many absent optionals stand behind it."""
        return tuple(zip(self.keep, self.nones[1:], strict=True))

    @cached_property
    def passes(self) -> bool:
        """Whether it hands on the one value it takes, whatever that is."""
        return self.single and self.size == 1 and self.keep[0] and not any(self.nones)


@dataclass(frozen=True)
class Tables:
    """Everything the lexer and the machine need.

    Attributes:
        rules: productions by number.
        states: per state, symbol -> next state (>= 0), or reduction by rule ``-1 - n`` (< 0).
        start, end: the state to begin in, and the one that accepts.
        patterns: (terminal, regular expression), in the order to try them.
        keywords: word -> terminal.
        reserved: the words that are never names.
        texts: terminal -> how a reader writes it (``:=``, ``let``); absent for NAME and the like.
    """

    rules: tuple[Rule, ...]
    states: tuple[dict[str, int], ...]
    start: int
    end: int
    patterns: tuple[tuple[str, str], ...]
    keywords: dict[str, str]
    reserved: frozenset[str]
    texts: dict[str, str]

    @cached_property
    def chains(self) -> dict[tuple[int, int, str], int]:
        """Chains of reductions that hand a value on, from an atom up to an expression: see `chain`."""
        return {}

    def chain(self, below: int, top: int, kind: str) -> int:
        """The state that `top` becomes before a terminal by reductions that only hand its value on."""
        key = (below, top, kind)
        found = self.chains.get(key)
        if found is None:
            found = top
            while (step := self.states[found].get(kind, 0)) < 0 and self.rules[-1 - step].passes:
                found = self.states[below][self.rules[-1 - step].origin]
            self.chains[key] = found
        return found

    @cached_property
    def lexer(self) -> re.Pattern[str]:
        """All terminals but keywords, as one pattern with a group each."""
        return re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in self.patterns))


@lru_cache(maxsize=1)
def load_tables() -> Tables:
    """Return the tables of the grammar, from the cache or, failing that, from Lark."""
    grammar = (resource_dir("grammar") / "mi.lark").read_text(encoding="utf-8")
    digest = hashlib.sha256(f"{_FORMAT}\n{_lark_version()}\n{grammar}".encode()).hexdigest()
    path = cache_dir() / f"grammar-{digest[:16]}.json"
    tables = _read(path) if kept(path) else None
    if tables is None:
        data = _generate(grammar)
        _write(path, json.dumps(data, separators=(",", ":")))
        tables = _decode(data)
    return tables


def _lark_version() -> str:
    """Return what tells one Lark from another, without the cost of importing it or its metadata."""
    spec = find_spec("lark")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("midsl needs the package `lark`")
    found = re.search(r"^__version__.*$", Path(spec.origin).read_text(encoding="utf-8"), re.M)
    return found.group() if found else spec.origin


def _read(path: Path) -> Tables | None:
    """Return what a cache file holds, or None if it is absent, damaged or of another make."""
    try:
        checksum, payload = path.read_text(encoding="utf-8").split("\n", 1)
    except (OSError, ValueError):  # ValueError: not UTF-8, or no second line
        return None
    if hashlib.sha256(payload.encode()).hexdigest() != checksum:
        return None
    return _decode(json.loads(payload))


def _write(path: Path, payload: str) -> None:
    """Keep the tables for next time; a cache that cannot be written only costs that time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(hashlib.sha256(payload.encode()).hexdigest() + "\n" + payload)
        Path(name).replace(path)
    except OSError:
        return


def _decode(data: dict[str, Any]) -> Tables:
    rows: list[dict[str, int]] = data["rows"]
    return Tables(
        rules=tuple(
            Rule(origin, action, size, tuple(keep), tuple(nones), inline, single)
            for origin, action, size, keep, nones, inline, single in data["rules"]
        ),
        states=tuple(rows[i] for i in data["states"]),
        start=data["start"],
        end=data["end"],
        patterns=tuple((name, pattern) for name, pattern in data["patterns"]),
        keywords=data["keywords"],
        reserved=frozenset(data["reserved"]),
        texts=data["texts"],
    )


def _generate(grammar: str) -> dict[str, Any]:
    """Let Lark compile the grammar, and write its tables down as JSON values."""
    from lark import Lark
    from lark.parsers.lalr_analysis import Shift

    lark = Lark(grammar, parser="lalr", strict=True, maybe_placeholders=True)
    table = lark.parser.parser._parse_table
    numbers: dict[Any, int] = {}
    rows: dict[str, int] = {}  # many states share a row
    states = []
    for state in range(len(table.states)):
        row = {}
        for symbol, (action, arg) in table.states[state].items():
            row[symbol] = arg if action is Shift else -1 - numbers.setdefault(arg, len(numbers))
        text = json.dumps(row, separators=(",", ":"))
        states.append(rows.setdefault(text, len(rows)))
    keywords = {t.pattern.value[:-2]: t for t in lark.terminals if t.pattern.value.endswith("\\b")}
    words = {t.name for t in keywords.values()}
    # The order of Lark's own lexer: priority, then the longest.
    order = sorted(
        (t for t in lark.terminals if t.name not in words),
        key=lambda t: (-t.priority, -t.pattern.max_width, -len(t.pattern.value), t.name),
    )
    literal = {t.name: t.pattern.value for t in order if t.pattern.type == "str"}
    return {
        "rules": [_rule(rule) for rule in numbers],
        "rows": [json.loads(text) for text in rows],
        "states": states,
        "start": table.start_states["start"],
        "end": table.end_states["start"],
        "patterns": [[t.name, t.pattern.to_regexp()] for t in order],
        "keywords": {word: t.name for word, t in keywords.items()},
        "reserved": [word for word, t in keywords.items() if t.priority == 2],
        "texts": literal | {t.name: word for word, t in keywords.items()},
    }


def _rule(rule: Any) -> list[Any]:
    origin = rule.origin.name
    options = rule.options
    gaps = [0] * (len(rule.expansion) + 1)
    at = 0
    for absent in options.empty_indices:  # True: an optional that is absent; False: a symbol
        if absent:
            gaps[at] += 1
        else:
            at += 1
    keep = [options.keep_all_tokens or not (s.is_term and s.filter_out) for s in rule.expansion]
    single = bool(options.expand1 and not rule.alias)
    action = str(rule.alias or origin)
    return [str(origin), action, len(rule.expansion), keep, gaps, origin.startswith("_"), single]
