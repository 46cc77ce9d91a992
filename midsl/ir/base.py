"""The base of IR nodes: identity by content, children, and walks over trees that share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from midsl.ir.types import Axis, PlainType, TensorType
from midsl.source import NO_SPAN, Span

Scalar = int | float | str | bool | None
Json = Scalar | tuple["Json", ...]


def _encode(value: object) -> Any:
    """Turn an attribute into something JSON can hold, children by digest."""
    if isinstance(value, Node):
        return {"node": value.digest}
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    if isinstance(value, Axis):
        return {"axis": [value.name, value.owner, value.span]}
    if isinstance(value, float):
        return {"float": value.hex()}
    if value is None or isinstance(value, (int, str, bool)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be an attribute of an IR node")


def _rebuild(value: object, f: Callable[[Node], Node]) -> object:
    if isinstance(value, Node):
        return f(value)
    if isinstance(value, tuple):
        return tuple(_rebuild(v, f) for v in value)
    return value


def _nodes_in(value: object) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, tuple):
        for v in value:
            yield from _nodes_in(v)


@dataclass(frozen=True, eq=False)
class Node:
    """Base of IR nodes; `type` and `span` are not part of the identity."""

    type: TensorType | PlainType = field(default=PlainType("?"), kw_only=True)
    span: Span = field(default=NO_SPAN, kw_only=True, repr=False)

    @cached_property
    def digest(self) -> str:
        content = [type(self).__name__]
        content += [_encode(getattr(self, f.name)) for f in self._content_fields()]
        text = json.dumps(content, separators=(",", ":"), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @classmethod
    def _content_fields(cls) -> tuple[Any, ...]:
        return tuple(f for f in fields(cls) if f.name not in ("type", "span"))

    @cached_property
    def children(self) -> tuple[Node, ...]:
        """The nodes this one is built from, in order, with repeats."""
        return tuple(n for f in self._content_fields() for n in _nodes_in(getattr(self, f.name)))

    def map_children(self, f: Callable[[Node], Node]) -> Node:
        """Return this node with `f` applied to each child; itself if nothing changed."""
        changed = {}
        for fl in self._content_fields():
            old = getattr(self, fl.name)
            new = _rebuild(old, f)
            if new != old:
                changed[fl.name] = new
        if not changed:
            return self
        values = {fl.name: getattr(self, fl.name) for fl in self._content_fields()}
        return type(self)(**{**values, **changed}, type=self.type, span=self.span)

    @property
    def tensor_type(self) -> TensorType:
        """The type, which must be a tensor's."""
        assert isinstance(self.type, TensorType), f"{type(self).__name__} is not a tensor"
        return self.type

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, eq=False)
class Opaque(Node):
    """A node whose inside is no part of the program around it: a training, a fit.

    Passes leave it as it is, and so what is kept of it stays valid.
    """

    @property
    def children(self) -> tuple[Node, ...]:
        """None."""
        return ()

    def map_children(self, f: Callable[[Node], Node]) -> Node:
        """Itself."""
        return self


def walk(*roots: Node) -> Iterator[Node]:
    """Yield every node under the roots once, children before parents."""
    seen: set[str] = set()
    stack: list[tuple[Node, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
            continue
        if node.digest in seen:
            continue
        seen.add(node.digest)
        stack.append((node, True))
        stack.extend((c, False) for c in reversed(node.children))


def rewrite(root: Node, f: Callable[[Node], Node], memo: dict[str, Node] | None = None) -> Node:
    """Rebuild a tree bottom-up: children first, then `f` on the node that results."""
    memo = {} if memo is None else memo

    def go(node: Node) -> Node:
        done = memo.get(node.digest)
        if done is None:
            done = memo[node.digest] = f(node.map_children(go))
        return done

    return go(root)
