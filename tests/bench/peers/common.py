"""What every worker shares: its inputs, the points of a workload, and how a sweep is timed on some of them.

A worker runs in an environment of its own, so nothing of midsl is imported here. It prints one JSON document:
CPU seconds of the part that is done once (`fixed`) and of one intervention (`each`), the seconds that all
points would take (`total`), and the value at each point that was run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

STRENGTHS = [float(k) for k in (*range(-10, 0), *range(1, 11))]
CAPTURED = (4, 8)
"""The blocks of which w4 captures four places each."""
DIRECTION = 17
"""The row of W_U that w6 adds."""


class Dictionary:
    """w5's decomposition: its directions are encoder and decoder, and `features` are those to set to zero."""

    def __init__(self, arrays: Any) -> None:
        self.directions = torch.from_numpy(arrays["directions"])
        self.bias = torch.from_numpy(arrays["bias"])
        self.centre = torch.from_numpy(arrays["centre"])
        self.features: list[int] = arrays["features"].tolist()
        self.k, self.layer = int(arrays["k"]), int(arrays["layer"])

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """The code of x [.., d_model]: [.., feature]."""
        pre = torch.relu((x - self.centre) @ self.directions.T + self.bias)
        top = pre.topk(self.k, dim=-1)
        return torch.zeros_like(pre).scatter_(-1, top.indices, top.values)

    def without(self, x: torch.Tensor, code: torch.Tensor, feature: int) -> torch.Tensor:
        """x with one feature set to zero and its error kept."""
        return x - code[..., feature, None] * self.directions[feature]


class Inputs:
    """The model's folder and its two sets of rows."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        arrays = np.load(self.folder / "rows.npz")
        self.clean = torch.from_numpy(arrays["clean"])
        self.corrupt = torch.from_numpy(arrays["corrupt"])
        self.answer = torch.from_numpy(arrays["answer"])
        self.wrong = torch.from_numpy(arrays["wrong"])
        self.dictionary = Dictionary(arrays) if "directions" in arrays else None

    def load(self) -> Any:
        """The model as transformers has it."""
        from transformers import GPT2LMHeadModel

        model = GPT2LMHeadModel.from_pretrained(self.folder / "model", attn_implementation="sdpa")
        model.train(False)
        return model

    def difference(self, last: torch.Tensor) -> torch.Tensor:
        """Mean logit difference from logits [n, vocab] of the last position."""
        rows = torch.arange(len(self.answer))
        return (last[rows, self.answer] - last[rows, self.wrong]).mean()


def points(workload: str, layers: int, heads: int, length: int) -> list[tuple[int, Any]]:
    """(layer, position, head or strength) of every intervention, in the order of midsl's rows."""
    second: list[Any] = list(range(heads))
    if workload == "w1":
        second = list(range(length))
    if workload == "w6":
        second = list(STRENGTHS)
    return [(layer, s) for layer in range(layers) for s in second]


def some(n: int, k: int) -> list[int]:
    """`k` of `n` places, evenly spread."""
    return sorted({round(i * (n - 1) / max(1, k - 1)) for i in range(k)})


def timed(
    once: Callable[[], Any], each: Callable[[Any, Any], float], every: list[Any], k: int
) -> dict[str, Any]:
    """Run what is done once, then `k` of the interventions; the first of each kind warms up, untimed."""
    state = once()
    each(state, every[len(every) // 2])
    began = time.process_time()
    state = once()
    fixed = time.process_time() - began
    values = {}
    began = time.process_time()
    chosen = some(len(every), k)
    for i in chosen:
        values[i] = each(state, every[i])
    per = (time.process_time() - began) / len(chosen)
    return {"fixed": fixed, "each": per, "total": fixed + per * len(every), "values": values}


def whole(once: Callable[[], torch.Tensor]) -> dict[str, Any]:
    """A workload without points: run it once to warm up, and once more."""
    once()
    began = time.process_time()
    found = once()
    spent = time.process_time() - began
    values = {i: float(v) for i, v in enumerate(found.flatten())}
    return {"fixed": spent, "each": 0.0, "total": spent, "values": values}


Worker = Callable[[Inputs, int], dict[str, Any]]


def main(
    package: str,
    sweep: Callable[[str, bool], Worker],
    attribution: Callable[[bool], Worker] | None = None,
    capture: Callable[[bool], Worker] | None = None,
    ablation: Callable[[bool], Worker] | None = None,
) -> None:
    """``worker.py FOLDER WORKLOAD IDIOM POINTS``; what makes a worker is told whether it is to be fast."""
    folder, workload, idiom, k = sys.argv[1:]
    torch.set_num_threads(1)
    fast = idiom == "fast"
    makers = {"w3": attribution, "w4": capture, "w5": ablation}
    if workload in makers:
        make = makers[workload]
        assert make is not None, f"{package} has no {workload}"
        worker = make(fast)
    else:
        worker = sweep(workload, fast)
    found = worker(Inputs(folder), int(k))
    version = f"{package} {metadata.version(package)}"
    sys.stdout.write(json.dumps(found | {"version": version}) + "\n")
