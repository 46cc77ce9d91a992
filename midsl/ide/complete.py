"""What may come next: names in reach, fields and sites behind a dot, options inside a call, keywords."""

from __future__ import annotations

import re
from dataclasses import dataclass

from midsl.graph.names import NAMES
from midsl.ide.analysis import Analysis
from midsl.ide.words import WORDS
from midsl.sema.values import (
    BlocksV,
    DataV,
    ExternV,
    FnV,
    ModelV,
    PartV,
    RecordV,
    RunV,
    SpaceV,
    Value,
)
from midsl.syntax import ast

_BEHIND_DOT = re.compile(r"([A-Za-z_]\w*(?:\[[^\[\]\n]*\]|\.\w+)*)\.(\w*)$")
_CALL = re.compile(r"([A-Za-z_][\w.]*)\($")


@dataclass(frozen=True)
class Completion:
    """One proposal; `kind` is name, field, site, option, axis or keyword."""

    label: str
    kind: str
    detail: str = ""


def complete(a: Analysis, before: Analysis, offset: int) -> list[Completion]:
    """Return proposals for an offset.

    Args:
        a: the file as it is, most likely broken right here.
        before: its last version that could be checked; types come from there.
        offset: where the cursor is.
    """
    line = a.source.text[a.source.text.rfind("\n", 0, offset) + 1 : offset]
    dotted = _BEHIND_DOT.search(line)
    if dotted:
        return _fields(before, dotted.group(1))
    found = _options(a, before, offset)
    names = before.names.visible(min(offset, len(before.source.text))) | a.names.visible(offset)
    found += [Completion(n, "name", d.kind) for n, d in sorted(names.items())]
    return found + [Completion(w, "keyword") for w in sorted(WORDS)]


def _value(a: Analysis, name: str) -> Value | None:
    """What a name came to, wherever it was used or bound."""
    for d in reversed(a.names.definitions):
        if d.name != name:
            continue
        bound = getattr(d.node, "value", None)
        spans = [bound.span] if isinstance(bound, ast.Expr) and d.kind != "sweep" else []
        for span in [*spans, *a.names.of(d)]:
            if (value := a.value_of(span)) is not None:
                return value
    return None


def _fields(a: Analysis, chain: str) -> list[Completion]:
    steps = re.findall(r"\w+(?:\[[^\]]*\])?", chain)
    value, path = _value(a, steps[0].partition("[")[0]), ""
    for step in steps[1:]:
        if isinstance(value, ModelV) and step.startswith("blocks"):
            value = BlocksV(value)
        elif isinstance(value, BlocksV):
            path += step + "."
        elif isinstance(value, DataV) and step in value.splits:
            value = DataV(value.node, value.sides, value.splits, value.columns, step)
        elif isinstance(value, DataV) and step in value.sides:
            return _columns(value.columns)
        elif isinstance(value, RunV) and step == "data":
            value = value.part
        elif isinstance(value, RecordV):
            value = value.fields.get(step)
        else:
            return []
    if isinstance(value, SpaceV):
        return [Completion(n, "field", f"of {value.name}") for n in sorted(value.members)]
    if isinstance(value, ModelV):
        outer = [Completion(n.name, "site", n.doc) for n in NAMES if not n.per_block and "." not in n.name]
        return [Completion("blocks", "field", "the blocks"), Completion("tokenizer", "field"), *outer]
    if isinstance(value, BlocksV):
        sites = {}
        for n in NAMES:
            if n.per_block and n.name.startswith(path):
                head, dot, _ = n.name[len(path) :].partition(".")
                sites[head] = Completion(head, "field" if dot else "site", "" if dot else n.doc)
        return list(sites.values())
    if isinstance(value, DataV):
        own = [] if value.split else [Completion(s, "field", "a split") for s in value.splits]
        return own + [Completion(s, "field", "a side") for s in value.sides] + _columns(value.columns)
    if isinstance(value, PartV):
        return _columns(value.columns)
    if isinstance(value, RunV):
        return [Completion("logits", "field", "Float[batch, pos, vocab]"), Completion("data", "field")]
    if isinstance(value, RecordV):
        return [Completion(n, "field") for n in value.fields]
    return []


def _columns(columns: object) -> list[Completion]:
    assert isinstance(columns, dict) or hasattr(columns, "items")
    return [Completion(n, "field", f"a column: {kind}") for n, kind in columns.items()]


def _options(a: Analysis, before: Analysis, offset: int) -> list[Completion]:
    """The parameters of the call that an offset is in."""
    depth, at = 0, offset - 1
    text = a.source.text
    while at >= 0 and depth >= 0:
        depth += (text[at] in ")]}") - (text[at] in "([{")
        at -= 1
    if depth >= 0 or text[at + 1] != "(":
        return []
    called = _CALL.search(text[: at + 2])
    if called is None:
        return []
    head, _, member = called.group(1).partition(".")
    value = _value(before, head)
    if isinstance(value, SpaceV) and member in value.members:
        value = value.members[member]()
    params = (
        value.decl.params if isinstance(value, ExternV) else value.params if isinstance(value, FnV) else ()
    )
    return [Completion(p.name + ":", "option", re.sub(r"\s+", " ", p.span.text)) for p in params]
