"""Values kept for reuse, up to a number of bytes: a sweep over a real model must not fill the memory.

What depends on the `self` of an edit has another value each time, and is kept only while it is the same one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from midsl.ir import nodes as ir
from midsl.ops.named import NT

V = TypeVar("V", bound="NT | Mapping[tuple[str, int | None], NT]")
LIMIT = 1 << 30


class Memo(Generic[V]):
    """A table that forgets what was used longest ago once it holds more than `limit` bytes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.held = 0
        self.table: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """Return what is kept under a key, or None."""
        if key in self.table:
            self.table.move_to_end(key)
        return self.table.get(key)

    def put(self, key: Hashable, value: V) -> V:
        """Keep a value and return it; the newest is kept even if it is larger than the limit."""
        if key in self.table:
            self.held -= _bytes(self.table.pop(key))
        self.table[key] = value
        self.held += _bytes(value)
        while self.held > self.limit and len(self.table) > 1:
            _, old = self.table.popitem(last=False)
            self.held -= _bytes(old)
        return value


class OfSelf:
    """What was worked out of the last `self`: an expression may use each of its parts many times."""

    def __init__(self) -> None:
        self.me: NT | None = None
        self.memo: Memo[NT] = Memo()

    def of(self, me: NT | None) -> Memo[NT]:
        """Return what is kept of one `self`; what was kept of another is forgotten."""
        if me is not self.me:
            self.me, self.memo = me, Memo()
        return self.memo


def _bytes(value: NT | Mapping[tuple[str, int | None], NT]) -> int:
    items = [value] if isinstance(value, NT) else value.values()
    return sum(x.data.numel() * x.data.element_size() for x in items) + 1


_SELF: dict[str, bool] = {}


def uses_self(node: ir.Node) -> bool:
    """Whether a value depends on the `self` of the edit it stands in (not of an edit inside it)."""
    known = _SELF.get(node.digest)
    if known is None:
        inside = () if isinstance(node, (ir.Forward, ir.Sweep)) else node.children
        known = _SELF[node.digest] = isinstance(node, ir.Self) or any(uses_self(c) for c in inside)
    return known
