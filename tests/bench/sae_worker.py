"""midsl's worker of `tests.bench.sae`: ``python -m tests.bench.sae_worker CELL KIND`` prints JSON."""

from __future__ import annotations

import json
import sys

import torch

from tests.bench.sae import ours

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(ours(sys.argv[1], sys.argv[2])) + "\n")
