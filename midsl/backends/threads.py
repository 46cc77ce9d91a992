"""How many threads a piece of work deserves: small products lose more to waiting than they gain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 2_000_000_000
"""FLOPs of one pass below which a second thread costs time (barriers on a busy machine: 5x and more)."""


@contextmanager
def threads_for(flops: int) -> Iterator[None]:
    """Use one thread inside, where the work is small; what was set before comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if flops < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
