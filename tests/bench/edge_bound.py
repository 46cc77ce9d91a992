"""The least that patching every edge alone can cost: ``python -m tests.bench.edge_bound``.

What an edge changes goes through everything behind its reader, and no two edges change it alike: each needs
that part of the model for itself, on the positions that change. An exact method can leave out: layers before
the reader; of the reader's layer all but the reading head (or its MLP) and what follows; positions before the
first at which the two prompts differ; where only the last position is read, of the last layer all but keys
and values elsewhere. Units are layer-tokens: rows of a block, by its share of the products of weights.
Attention's own products are left out, which makes the bound lower.
"""

from __future__ import annotations

from dataclasses import dataclass

import click

QKV, OUT, MLP = 3 / 12, 1 / 12, 8 / 12
"""Shares of a block's products, of a model with an MLP four times as wide as the stream."""


@dataclass(frozen=True)
class Shape:
    """A model with learnt positions, and rows of data.

    Attributes:
        first: the first position at which prompts differ, counted from 0.
    """

    layers: int
    heads: int
    length: int
    first: int = 0

    def edges(self) -> list[tuple[int, str, int]]:
        """Layer and kind of each reader, and how many sources it has."""
        found = []
        for layer in range(self.layers):
            before = 2 + (self.heads + 1) * layer
            found += [(layer, kind, before) for kind in "qkv" for _ in range(self.heads)]
            found.append((layer, "mlp", before + self.heads))
        return [*found, (self.layers, "logits", 2 + (self.heads + 1) * self.layers)]

    def naive(self) -> float:
        """A run for each edge."""
        return self.layers * self.length * sum(n for *_, n in self.edges())

    def least(self) -> float:
        """What no exact method can do without; read at the last position."""
        return sum(n * self._behind(layer, kind) for layer, kind, n in self.edges())

    def _behind(self, layer: int, kind: str) -> float:
        """Layer-tokens behind one reader."""
        if kind == "logits":
            return 0.0
        dirty, last = self.length - self.first, self.layers - 1
        head = 0.0 if kind == "mlp" else QKV / 3 / self.heads + OUT / self.heads
        if layer == last:  # keys and values go everywhere; what is read is the last position
            rows = dirty if kind in "kv" else 1
            return rows * QKV / 3 / self.heads * (kind != "mlp") + (head > 0) * OUT / self.heads + MLP
        own = dirty * (head + MLP)
        end = dirty * QKV * 2 / 3 + QKV / 3 + OUT + MLP
        return own + dirty * (last - 1 - layer) + end


def main() -> None:
    """Print the bounds of some shapes."""
    for name, shape in {
        f"GPT-2 small, T = 16, from position {first}": Shape(12, 12, 16, first)
        for first in (0, 8, 12, 14, 15)
    }.items():
        edges, naive, least = sum(n for *_, n in shape.edges()), shape.naive(), shape.least()
        click.echo(f"{name}: {edges:,} edges, naive {naive:,.0f}, least {least:,.0f}: {naive / least:.1f} x")


if __name__ == "__main__":
    main()
