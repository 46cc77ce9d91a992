"""The base of IR nodes: identity by content, children, and walks over trees that share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from midsl.ir.types import Axis, PlainType, TensorType
from midsl.source import NO_SPAN, Span

_quoted = json.encoder.encode_basestring_ascii
T = TypeVar("T")
Scalar = int | float | str | bool | None
Json = Scalar | tuple["Json", ...]


def encode(value: object) -> str:
    """An attribute as JSON, children by digest."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Node):
        return f'{{"node":"{value.digest}"}}'
    if isinstance(value, tuple):
        return f"[{','.join(map(encode, value))}]"
    if isinstance(value, Axis):
        return f'{{"axis":[{_quoted(value.name)},{_quoted(value.owner)},{_quoted(value.span)}]}}'
    if isinstance(value, float):
        return f'{{"float":"{value.hex()}"}}'
    if isinstance(value, (bool, int, type(None))):
        return json.dumps(value)
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


_CONTENT: dict[type, tuple[str, ...]] = {}


def content_of(kind: type[Node]) -> tuple[str, ...]:
    """The fields of a class of nodes that make up its identity."""
    known = _CONTENT.get(kind)
    if known is None:
        known = _CONTENT[kind] = tuple(f.name for f in fields(kind) if f.name not in ("type", "span"))
    return known


class once(Generic[T]):
    """``cached_property`` without its lock, which costs more than most of what nodes remember."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self.make, self.name, self.__doc__ = make, make.__name__, make.__doc__

    def __get__(self, node: object, kind: type) -> T:
        value = node.__dict__[self.name] = self.make(node)
        return value


@dataclass(frozen=True, eq=False)
class Node:
    """Base of IR nodes; `type` and `span` are not part of the identity."""

    type: TensorType | PlainType = field(default=PlainType("?"), kw_only=True)
    span: Span = field(default=NO_SPAN, kw_only=True, repr=False)

    @once
    def digest(self) -> str:
        content = self._content()
        text = f"[{','.join((_quoted(type(self).__name__), *content))}]"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _content(self) -> list[str]:
        """What makes up the identity besides the kind of node."""
        return [encode(getattr(self, name)) for name in content_of(type(self))]

    @once
    def children(self) -> tuple[Node, ...]:
        """The nodes this one is built from, in order, with repeats."""
        return tuple(n for name in content_of(type(self)) for n in _nodes_in(getattr(self, name)))

    def map_children(self, f: Callable[[Node], Node]) -> Node:
        """Return this node with `f` applied to each child; itself if nothing changed."""
        changed = {}
        for name in content_of(type(self)):
            old = getattr(self, name)
            new = _rebuild(old, f)
            if new != old:
                changed[name] = new
        if not changed:
            return self
        values = {name: getattr(self, name) for name in content_of(type(self))}
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


def fold(root: Node, memo: dict[str, T], make: Callable[[Node], T]) -> T:
    """What `make` says of a node, once it is known of all nodes below; `memo` has that by digest.

    No calls in calls: a rollout of states is a chain of runs, and may be long.
    """
    if root.digest in memo:
        return memo[root.digest]
    stack = [root]
    while stack:
        node = stack[-1]
        left = () if node.digest in memo else tuple(c for c in node.children if c.digest not in memo)
        if left:
            stack.extend(reversed(left))
            continue
        stack.pop()
        if node.digest not in memo:
            memo[node.digest] = make(node)
    return memo[root.digest]


def rewrite(root: Node, f: Callable[[Node], Node], memo: dict[str, Node] | None = None) -> Node:
    """Rebuild a tree bottom-up: children first, then `f` on the node that results."""
    done: dict[str, Node] = {} if memo is None else memo
    return fold(root, done, lambda node: f(node.map_children(lambda c: done[c.digest])))
