"""What a file of a graph says: names of nodes, columns of nodes and of edges; no numpy and no torch.

Nodes of attribution graphs go by what they are: `f3.17@5` is feature 17 of layer 3 at position 5, `e3@5` the
error of that layer there, `t464@5` token 464 and `o123@5` logit 123 there. Other formats keep their names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midsl.artefacts.base import not_understood
from midsl.diagnostics.model import MiError, fail

Number = int | float | bool
MOST = 4000
"""How many nodes a graph in a spec may have: its edges are a dense matrix."""
_NODE = re.compile(r"(?:f(?P<f>\d+)\.(?P<i>\d+)|e(?P<e>\d+)|t(?P<t>\d+)|o(?P<o>\d+))@(?P<pos>\d+)")


@dataclass(frozen=True)
class GraphFile:
    """A graph as a file has it.

    Attributes:
        format: whose format it is.
        names: of the nodes, each once.
        nodes: columns of nodes, one number each; `kept` among them.
        src, dst: numbers of the nodes at the ends of each edge.
        edges: columns of edges, one number each; `weight` and `kept` among them.
        about: what else the file says.
    """

    format: str
    names: tuple[str, ...]
    nodes: Mapping[str, Sequence[Number]]
    src: Sequence[int]
    dst: Sequence[int]
    edges: Mapping[str, Sequence[Number]]
    about: Mapping[str, Any] = field(default_factory=dict)

    def checked(self, path: Path) -> GraphFile:
        """The same, if each node and each edge is there once, and there are not too many.

        Raises:
            MiError: MI0514.
        """
        if len(set(self.names)) < len(self.names):
            twice = next(n for n in self.names if self.names.count(n) > 1)
            raise not_understood(f"two nodes are `{twice}`", path)
        if len(self.names) > MOST:
            help = f"prune it first: a graph of a spec has at most {MOST}"
            raise not_understood(f"{len(self.names)} nodes", path, help)
        pairs = list(zip(self.src, self.dst, strict=True))
        if len(set(pairs)) < len(pairs):
            seen: set[tuple[int, int]] = set()
            s, t = next(p for p in pairs if p in seen or seen.add(p))  # type: ignore[func-returns-value]
            raise not_understood(f"two edges go from `{self.names[s]}` to `{self.names[t]}`", path)
        return self


@dataclass(frozen=True)
class Part:
    """What a node of an attribution graph is: `kind` in f (feature), e (error), t (token), o (logit)."""

    kind: str
    layer: int
    index: int
    pos: int

    @property
    def name(self) -> str:
        """
        >>> Part("f", 3, 17, 5).name, Part("t", -1, 464, 5).name
        ('f3.17@5', 't464@5')
        """
        head = {"f": f"f{self.layer}.{self.index}", "e": f"e{self.layer}"}.get(self.kind)
        return f"{head or f'{self.kind}{self.index}'}@{self.pos}"


def parts_of(names: Sequence[str], format: str) -> list[Part]:
    """What each node is, by its name.

    Raises:
        MiError: MI0514 for names of other graphs.
    """
    found = []
    for name in names:
        match = _NODE.fullmatch(name)
        if match is None:
            raise no_place(f"a node called `{name}`", format, "nodes are f3.17@5, e3@5, t464@5 and o123@5")
        g = match.groupdict()
        layer = int(g["f"] or g["e"] or -1)
        kind = next(k for k in "feto" if g[k] is not None)
        index = int(g["i"] or g["t"] or g["o"] or 0)
        found.append(Part(kind, layer, index, int(g["pos"])))
    return found


def no_place(what: str, format: str, help: str) -> MiError:
    """MI0514: a format cannot say what a graph has."""
    return fail("MI0514", f"{format} has no place for {what}", help=help)


def need(about: Mapping[str, Any], keys: Sequence[str], format: str) -> None:
    """MI0514 where a format says more than a graph has, and nobody said it."""
    if missing := [k for k in keys if k not in about]:
        help = (
            f"put it in the file of --about: {{{', '.join(f'{chr(34)}{k}{chr(34)}: ..' for k in missing)}}}"
        )
        raise fail("MI0514", f"{format} also says `{missing[0]}`", help=help)


def only(found: Mapping[str, Any], known: Sequence[str], what: str, path: Path) -> None:
    """MI0514 where a file has keys that would be passed over."""
    if extra := sorted(set(found) - set(known)):
        raise not_understood(f"what is `{extra[0]}` of {what}?", path, f"known are {', '.join(known)}")


def column(graph: GraphFile, name: str, format: str) -> Sequence[Number]:
    """A column of the nodes that a format needs (MI0514)."""
    if name not in graph.nodes:
        help = f"give the graph the column: `graph(g, nodes: {{ {name}: .. }})`"
        raise fail("MI0514", f"{format} needs `{name}` of each node", help=help)
    return graph.nodes[name]
