"""Counts of a plan: what `explain` predicts and `run` counts, in the same units (SEMANTICS 19)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from midsl.backends.eager import Counts


@dataclass
class Totals:
    """What was, or will be, done (SEMANTICS 19): see the README for the meaning of each count."""

    forwards: int = 0
    lanes: int = 0
    layer_tokens: float = 0.0
    flops: int = 0
    bytes: int = 0
    peak_bytes: int = 0

    def add(self, other: Totals) -> None:
        self.forwards += other.forwards
        self.lanes += other.lanes
        self.layer_tokens += other.layer_tokens
        self.flops += other.flops
        self.bytes += other.bytes
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)

    def add_counts(self, counts: Counts, blocks: Mapping[int, int], length: int) -> None:
        """Add what a run on rows of `length` tokens counted; `blocks`: FLOPs of each block on a whole row."""
        self.flops += counts.flops
        self.peak_bytes = max(self.peak_bytes, counts.peak_bytes)
        for block, flops in counts.by_block.items():
            if blocks.get(block):
                self.layer_tokens += flops / blocks[block] * length

    def as_dict(self) -> dict[str, int | float]:
        return {
            "forwards": self.forwards,
            "lanes": self.lanes,
            "layer_tokens": round(self.layer_tokens, 3),
            "flops": self.flops,
            "bytes": self.bytes,
            "peak_bytes": self.peak_bytes,
        }
