"""Training a toy inside a spec: one opaque, seeded step whose result is cached by fingerprint.

The loss is an IR expression over a run of the model on its data. Each step runs a minibatch of rows
through the exported graph and evaluates that expression, with gradients for the weights. The cache
key covers the recipe, the starting weights and the rows, so a changed comment never retrains.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from midsl.backends.threads import threads_for
from midsl.cachedir import cache_dir, kept
from midsl.data.dataset import Part
from midsl.diagnostics.model import fail
from midsl.fit.optim import descend, optimiser_of
from midsl.graph.rebind import rebind
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.ir.states import from_data
from midsl.models.loaded import LoadedModel, weights_sha256
from midsl.plan.bind import Binder
from midsl.plan.chosen import chosen_rows
from midsl.plan.domains import Domains, Table
from midsl.plan.evaluate import Env, Evaluator
from midsl.plan.inputs import Rows
from midsl.plan.keys import keys_of
from midsl.plan.lower import lower
from midsl.show.progress import progress

RECIPE = 1
"""Raised whenever the same settings would train to other weights."""


@dataclass
class Training:
    """What a training was: for the record of the run."""

    steps: int
    loss: float
    seconds: float
    cached: bool


@dataclass
class Trainer:
    """Trains, or takes the result from the cache; `done` keeps what each training was.

    `planned`: all trainings of the spec. Those that differ in their number of steps alone are one: what is
    wanted after fewer steps is kept on the way.
    """

    done: dict[str, Training] = field(default_factory=dict)
    planned: list[ir.Train] = field(default_factory=list)

    def __call__(self, binder: Binder, node: ir.Train) -> LoadedModel:
        """The trained model: raises MI0703 (exit code 4) if the loss stops being a number."""
        start: LoadedModel
        if isinstance(node.model, ir.Train):
            start = self(binder, node.model)
        else:
            assert isinstance(node.model, ir.Model)
            start = binder._call(node.model.ref, node.model.args, node.model)
        assert isinstance(node.data, ir.Part)
        part = chosen_rows(binder, node.data)
        options = dict(node.options)
        path = _path(node, start, binder)
        began = time.perf_counter()
        cached = kept(path)
        if cached:
            loss = _load(start, path)
        else:
            stops = {int(dict(t.options)["steps"]): _path(t, start, binder) for t in self._alike(node)}
            graph = rebind(binder.graph(node.model), start)
            _train(node, start, graph, part, options, {n: p for n, p in stops.items() if not p.exists()})
            loss = _load(start, path)
        self.done[node.digest] = Training(int(options["steps"]), loss, time.perf_counter() - began, cached)
        start.module.requires_grad_(False)
        trained: LoadedModel = replace(start, weights_sha256=weights_sha256(start.module))
        return trained

    def _alike(self, node: ir.Train) -> list[ir.Train]:
        """The trainings that only take another number of steps, this one among them."""

        def recipe(t: ir.Train) -> tuple[object, ...]:
            rest = tuple((k, v) for k, v in t.options if k != "steps")
            return (t.model.digest, t.data.digest, t.loss.digest, rest)

        return [node, *(t for t in self.planned if recipe(t) == recipe(node))]


def trained_path(binder: Binder, node: ir.Train) -> Path:
    """Where the result of a training is, or will be, kept."""
    return _path(node, binder.loaded(node.model), binder)


def _path(node: ir.Train, start: LoadedModel, binder: Binder) -> Path:
    return cache_dir() / "trained" / f"{_key(node, start, binder)}.safetensors"


def _key(node: ir.Train, start: LoadedModel, binder: Binder) -> str:
    """Everything that decides the trained weights."""
    assert isinstance(node.data, ir.Part)
    parts = [
        RECIPE,
        node.loss.digest,
        list(map(list, node.options)),
        start.key,
        start.weights_sha256,
        binder.dataset(node.data.data).fingerprint,
        node.data.side,
        node.data.split,
        *([node.data.chosen] if node.data.chosen else []),
        torch.__version__.split("+")[0],
        *([list(start.held)] if start.held else []),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _save(model: LoadedModel, path: Path, loss: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    tensors = {n: t.detach().clone().contiguous() for n, t in model.module.state_dict().items()}
    save_file(tensors, temporary, metadata={"loss": repr(loss)})
    temporary.replace(path)


def _load(model: LoadedModel, path: Path) -> float:
    model.module.load_state_dict(load_file(path))
    with safe_open(path, framework="pt") as f:
        return float(f.metadata()["loss"])


class _Minibatch:
    """Inputs whose one data part is the minibatch at hand."""

    def __init__(self, part: Part) -> None:
        self.rows = part

    def part(self, node: ir.Part) -> Part:
        return self.rows  # the minibatch has no rows but those that count

    def weight(self, model: ir.Node, name: str, layer: int | None) -> torch.Tensor:
        raise fail(
            "MI0601",
            "not implemented: weights in a training loss",
            model.span,
            help="make the loss of what the run has: `nll(r)`; weight decay is `optim: adamw(wd: 0.1)`",
        )

    def param(self, node: ir.Param) -> torch.Tensor:
        raise fail(
            "MI0601",
            "not implemented: decompositions in a training loss",
            node.span,
            help="train the model first, then fit the decomposition to it",
        )


def _train(
    node: ir.Train,
    model: LoadedModel,
    mg: ModelGraph,
    part: Part,
    options: dict[str, float | str],
    stops: Mapping[int, Path],
) -> None:
    """Train up to the last of some numbers of steps, and keep what there is after each."""
    weights = [p for n, p in model.module.named_parameters() if n not in model.held]
    if not weights:
        raise fail(
            "MI0509",
            "there is nothing to train in this model",
            node.span,
            help="give it an MLP: `d_mlp: 64`",
        )
    for w in weights:
        w.requires_grad_(True)
    runs = [n for n in ir.walk(node.loss) if isinstance(n, ir.Forward)]
    other = any(isinstance(r.model, ir.Reweighted) for r in runs)
    if len(runs) != 1 or other or any(not from_data(e) for e in runs[0].edits):
        raise fail(
            "MI0601",
            "not implemented: a training loss over edited or several runs",
            node.span,
            help="make the loss of the one run that the function is given",
        )
    run = runs[0]
    domains = Domains()
    evaluator = Evaluator(_Minibatch(part), domains, Rows({}, {}))  # type: ignore[arg-type]
    reads = [n for n in ir.walk(node.loss) if isinstance(n, ir.Read)]
    keys = [k for r in reads for k in keys_of(r.site, mg.info, domains)]
    lowered = lower(mg, run, keys, [], evaluator, project=False)
    optimiser = optimiser_of(weights, options)
    generator = torch.Generator().manual_seed(int(options["seed"]))
    steps, size = max(stops), int(options["batch"])
    table = Table.product((), domains)
    tail: list[float] = []
    flops = 3 * lowered.count(size, 1, int(part.tokens.shape[1])).flops
    with progress("training", steps) as advance, threads_for(flops):
        for step in range(steps):
            rows = torch.randint(len(part), (size,), generator=generator).numpy()
            batch = part.take(rows)
            inputs = _Minibatch(batch)
            evaluator.inputs, evaluator.rows = inputs, Rows.of(inputs, (node.loss,))
            captured = lowered.over(batch)
            loss = evaluator.eval(
                node.loss, Env(table, slice(0, size), captured, torch.zeros(1, dtype=torch.int64)), {}
            ).data
            value = descend(optimiser, loss, options, step, node.span, "training")
            tail = [*tail[-19:], value]
            advance(1, f"loss {value:.3f}")
            if step + 1 in stops:
                _save(model, stops[step + 1], float(np.mean(tail)))
