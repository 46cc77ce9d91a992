"""Fitting decompositions: seeded steps on a shared stream of values, kept by fingerprint.

The key covers the parameters as drawn, the loss, the model's weights, the rows and the options, so that a
changed comment or plot never fits again. Fits on the same runs with the same batch and seed share one stream.
An interrupted fit goes on from its latest checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from midsl.backends.threads import threads_for
from midsl.cachedir import cache_dir, kept
from midsl.fit.draw import draw_params, units_of
from midsl.fit.optim import descend, optimiser_of
from midsl.ir import nodes as ir
from midsl.ops.named import NT
from midsl.plan.bind import Binder
from midsl.plan.domains import Domains
from midsl.plan.evaluate import Env
from midsl.plan.fitruns import RunLoss
from midsl.plan.fitsparse import LossEvaluator, sparse_parts
from midsl.plan.fitstream import Stream
from midsl.plan.inputs import Rows
from midsl.plan.train import trained_path
from midsl.show.progress import progress

RECIPE = 2
"""Raised whenever the same settings would fit to other parameters."""
EVERY = 20.0
"""Seconds between checkpoints."""
KEPT = 200
"""Losses that are kept of a fit, evenly spread."""


@dataclass
class Fitted:
    """What a fit was: for the record of the run."""

    steps: int
    losses: list[tuple[int, float]]
    seconds: float
    cached: bool


@dataclass
class Fitter:
    """Fits, or takes the result from the cache.

    Attributes:
        planned: all fits of the spec: those that can share a stream are done together.
        done: what each fit was.
    """

    planned: list[ir.Fit] = field(default_factory=list)
    done: dict[str, Fitted] = field(default_factory=dict)

    def __call__(self, binder: Binder, node: ir.Fit) -> dict[str, Tensor]:
        """The fitted tensors: raises MI0703 (exit code 4) if the loss stops being a number."""
        path = fitted_path(binder, node)
        if kept(path):
            if node.digest not in self.done:
                self.done[node.digest] = Fitted(steps_of(node), _losses(path), 0.0, True)
            return load_file(path)
        together = [node]
        if node.reads:
            together += [
                f
                for f in self.planned
                if f != node and _stream_key(f) == _stream_key(node) and not fitted_path(binder, f).exists()
            ]
        self._fit(binder, together)
        return load_file(path)

    def _fit(self, binder: Binder, nodes: Sequence[ir.Fit]) -> None:
        began = time.perf_counter()
        jobs = [_Job(binder, n) for n in nodes]
        if nodes[0].reads:
            reads = list(dict.fromkeys(r for n in nodes for r in n.reads))
            options = dict(nodes[0].options)
            stream = Stream(binder, reads, int(options["batch"]), int(options["seed"]))  # type: ignore[arg-type]
            places = {j.node.digest: [reads.index(r) for r in j.node.reads] for j in jobs}

            def values(step: int) -> list[NT]:
                return stream.step(step)

            losses = {j.node.digest: _value_loss(j, places[j.node.digest]) for j in jobs}
        else:
            losses = {j.node.digest: _run_loss(j) for j in jobs}

            def values(step: int) -> list[NT]:
                return []

        start, most = min(j.step for j in jobs), max(j.steps for j in jobs)
        saved = time.perf_counter()
        work = sum(6 * p.numel() * int(j.options["batch"]) for j in jobs for p in j.live.values())
        with progress("fitting", most) as advance, threads_for(work):
            advance(start, "")
            for step in range(start, most):
                seen = values(step)
                for job in jobs:
                    if job.step == step and job.step < job.steps:
                        job.advance(losses[job.node.digest](step, seen))
                if all(j.step >= j.steps for j in jobs):
                    break
                advance(1, f"loss {jobs[0].latest:.4g}")
                if time.perf_counter() - saved > EVERY:
                    for job in jobs:
                        job.checkpoint()
                    saved = time.perf_counter()
        seconds = time.perf_counter() - began
        for job in jobs:
            job.finish()
            self.done[job.node.digest] = Fitted(job.done_steps, job.curve, seconds / len(jobs), False)


class _Job:
    """One fit while it is made."""

    def __init__(self, binder: Binder, node: ir.Fit) -> None:
        self.binder, self.node = binder, node
        self.options: dict[str, Any] = dict(node.options)
        self.path = fitted_path(binder, node)
        self.live = {n: t.requires_grad_(True) for n, t in draw_params(node.params).items()}
        self.units = units_of(node.params)
        self.optimiser = optimiser_of(list(self.live.values()), self.options, fused=True)
        self.steps = self.done_steps = int(self.options["steps"])
        self.step = 0
        self.latest = float("nan")
        self.tail: list[float] = []
        self.losses: list[tuple[int, float]] = []
        self._restore()

    @property
    def _partial(self) -> Path:
        return self.path.with_suffix(".partial")

    def param(self, node: ir.Param) -> Tensor:
        """The tensor as it stands now, or one of another decomposition."""
        return self.live[node.name] if node.of == self.node.params else self.binder.param(node)

    def advance(self, loss: Tensor) -> None:
        """One step of the optimiser."""
        value = descend(self.optimiser, loss, self.options, self.step, self.node.span, "fit")
        with torch.no_grad():
            for name, dim in self.units.items():
                x = self.live[name]
                x /= x.norm(dim=dim, keepdim=True).clamp(min=1e-12)
        self.latest = value
        self.losses.append((self.step, value))
        self.tail = [*self.tail[-19:], value]
        self.step += 1
        until = self.options.get("until")
        if until is not None and len(self.tail) == 20 and float(np.mean(self.tail)) <= until:
            self.steps = self.done_steps = self.step

    @property
    def curve(self) -> list[tuple[int, float]]:
        """Some of the losses, the first and the last among them."""
        stride = max(1, -(-len(self.losses) // KEPT))
        found = self.losses[::stride]
        return found if not self.losses or found[-1] == self.losses[-1] else [*found, self.losses[-1]]

    def checkpoint(self) -> None:
        """Keep what a later session goes on from."""
        if self.step >= self.steps:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._partial.with_suffix(f".{os.getpid()}.tmp")
        state = {
            "live": {n: t.detach() for n, t in self.live.items()},
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "losses": self.losses,
        }
        torch.save(state, temporary)
        temporary.replace(self._partial)

    def _restore(self) -> None:
        if not self._partial.exists():
            return
        state = torch.load(self._partial, weights_only=True)
        with torch.no_grad():
            for n, t in state["live"].items():
                self.live[n].copy_(t)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.losses = [(int(s), float(v)) for s, v in state["losses"]]
        self.tail = [v for _, v in self.losses[-20:]]

    def finish(self) -> None:
        """Keep the result."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        tensors = {n: t.detach().clone().contiguous() for n, t in self.live.items()}
        save_file(
            tensors, temporary, metadata={"losses": json.dumps(self.curve), "steps": str(self.done_steps)}
        )
        temporary.replace(self.path)
        self._partial.unlink(missing_ok=True)


def _value_loss(job: _Job, places: Sequence[int]) -> Callable[[int, list[NT]], Tensor]:
    fast = sparse_parts(job.node.loss, int(job.options["batch"]))
    evaluator = LossEvaluator(_Live(job), Domains(), Rows({}, {}), fast=fast)  # type: ignore[arg-type]

    def loss(step: int, seen: list[NT]) -> Tensor:
        env = Env(seen=tuple(seen[i] for i in places))
        return evaluator.eval(job.node.loss, env, {}).data

    return loss


def _run_loss(job: _Job) -> Callable[[int, list[NT]], Tensor]:
    runs = RunLoss(job.binder, job.node.loss, job.param, int(job.options["batch"]), int(job.options["seed"]))
    return lambda step, seen: runs.at(step)


class _Live:
    """Inputs whose parameters are those at hand."""

    def __init__(self, job: _Job) -> None:
        self.job = job

    def part(self, node: ir.Part):  # type: ignore[no-untyped-def]
        return self.job.binder.part(node)

    def weight(self, model: ir.Node, name: str, layer: int | None) -> Tensor:
        return self.job.binder.weight(model, name, layer)

    def param(self, node: ir.Param) -> Tensor:
        return self.job.param(node)


def steps_of(node: ir.Fit) -> int:
    """How many steps a fit has at most."""
    return int(dict(node.options)["steps"])  # type: ignore[arg-type]


def fitted_path(binder: Binder, node: ir.Fit) -> Path:
    """Where the result of a fit is, or will be, kept."""
    return cache_dir() / "fitted" / f"{_key(binder, node)}.safetensors"


def _key(binder: Binder, node: ir.Fit) -> str:
    """Everything that decides the fitted tensors."""
    inputs: dict[str, str] = {}
    for n in ir.walk(node.params, node.loss, *node.reads):
        if isinstance(n, ir.Data):
            inputs[n.digest] = binder.dataset(n).fingerprint
        elif isinstance(n, ir.Train):
            inputs[n.digest] = trained_path(binder, n).stem
        elif isinstance(n, ir.Model):
            inputs[n.digest] = str(binder.loaded(n).weights_sha256)
        elif isinstance(n, ir.Fit):
            inputs[n.digest] = _key(binder, n)
    parts = [
        RECIPE,
        node.params.digest,
        node.loss.digest,
        [r.digest for r in node.reads],
        list(map(list, node.options)),
        sorted(inputs.values()),
        torch.__version__.split("+")[0],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _stream_key(node: ir.Fit) -> tuple[object, ...]:
    options = dict(node.options)
    runs = tuple(sorted({r.run.digest for r in node.reads}))  # type: ignore[attr-defined]
    return bool(node.reads), runs, _positions(node), options["batch"], options["seed"]


def _positions(node: ir.Fit) -> tuple[str, ...]:
    """Which positions of each row a fit is about: one stream has the same for all."""
    found = set()
    for read in node.reads:
        assert isinstance(read, ir.Read)
        at = read.site.index("pos")
        found.add(at.digest if at is not None else "")
    return tuple(sorted(found))


def _losses(path: Path) -> list[tuple[int, float]]:
    with safe_open(path, framework="pt") as f:
        return [(int(s), float(v)) for s, v in json.loads(f.metadata()["losses"])]
