"""Writing rows on: a model's next tokens, with edits in force, each position computed once.

A step is a run by rows (``midsl.backends.rows``) over the newest position of each example: the keys and
values of those before it are kept, where a run by rows has those of its base run. The graph is that of the
run with all its edits, and so the tokens are those of the model that the run on the finished rows is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from midsl.backends.eager import Counts
from midsl.backends.rows import RowRun
from midsl.backends.threads import threads_for
from midsl.data.dataset import Part, Tokenizer
from midsl.diagnostics.model import fail
from midsl.graph.rules import MIXING
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.ops.random import draw
from midsl.plan.domains import Table
from midsl.plan.edits import Chunk
from midsl.plan.evaluate import Evaluator
from midsl.plan.keys import Key
from midsl.plan.lower import Lowered, lower
from midsl.plan.rowed import Rowed
from midsl.plan.rowplan import EditRows, Masks, RowPlan, operands, plan_rows

LOGITS: Key = ("logits", None)
STREAM = "rollout"


def noise(options: dict[str, Any], examples: np.ndarray, step: int, vocab: int) -> np.ndarray:
    """What makes the greatest of logits / temperature a draw: Gumbel's, float64 [batch, vocab].

    A function of the seed, the example's number, the step and the token, as every draw is.
    """
    coords = {"batch": examples, "step": np.array([step]), "vocab": np.arange(vocab, dtype=np.int64)}
    found = draw("uniform", int(options["seed"]), STREAM, coords)[:, 0]
    return -np.log(-np.log(np.clip(found, 1e-300, 1 - 1e-16)))


def scores(logits: Tensor, options: dict[str, Any], examples: np.ndarray, step: int) -> Tensor:
    """What the next token is the greatest of: the logits [batch, vocab], with the noise of a temperature."""
    warmth = float(options["temperature"])
    if not warmth:
        return logits
    return logits.double() / warmth + torch.from_numpy(noise(options, examples, step, logits.shape[1]))


def run_on(rollout: ir.Rollout) -> tuple[ir.Forward, ir.Read]:
    """The run that a rollout is, on the rows that it has written, and the logits of it."""
    rows = ir.Part(rollout)

    def there(node: ir.Node) -> ir.Node:
        return rows if node == rollout.room else node

    edits: Any = tuple(ir.rewrite(e, there) for e in rollout.edits)
    run = ir.Forward(rollout.model, rows, edits, span=rollout.span)
    axes = (Axis("batch", rows.rows.owner), Axis("pos", rows.owner), Axis("vocab"))
    site = ir.Site(rollout.model, LOGITS[0])
    return run, ir.Read(run, site, type=TensorType(axes=axes), span=rollout.span)


@dataclass
class Decoder:
    """One rollout over some rows of its prompts.

    Attributes:
        room: the prompts, with room behind them.
        evaluator: has what the edits are made of.
        tokenizer: tells where a row ends; None if nothing does.
    """

    mg: ModelGraph
    rollout: ir.Rollout
    room: Part
    evaluator: Evaluator
    tokenizer: Tokenizer | None
    counts: Counts = field(default_factory=Counts)

    @cached_property
    def options(self) -> dict[str, Any]:
        return dict(self.rollout.options)

    @cached_property
    def steps(self) -> int:
        return int(self.rollout.room.data.steps)

    @cached_property
    def lowered(self) -> Lowered:
        edits: tuple[Any, ...] = self.rollout.edits
        run = ir.Forward(self.rollout.model, self.rollout.room, edits, span=self.rollout.span)
        return lower(self.mg, run, [LOGITS], (), self.evaluator, project=False, tidy=True)

    @cached_property
    def rowed(self) -> Rowed:
        width = self.room.tokens.shape[1]
        real = torch.arange(width)[None, None, :] < torch.from_numpy(self.room.lengths)[None, :, None]
        table = Table.product((), self.evaluator.domains)
        return Rowed(self.mg, self.lowered, self.room, table, real, [], None, False)

    @property
    def why_whole(self) -> str:
        """Why each step runs all positions again; "" where each is run once."""
        return self.rowed.veto

    def check(self) -> None:
        """Refuse a model of which later positions could change earlier ones: it cannot write on."""
        for node in self.mg.gm.graph.nodes:
            if self.mg.rules.get(node.name) == MIXING:
                raise fail(
                    "MI0606",
                    "this model cannot write rows on",
                    self.rollout.span,
                    label=f"{node.name} is not known to leave earlier positions as they are",
                    help="a rollout needs a causal model",
                )

    # -- what a step computes

    @cached_property
    def _logits(self) -> fx.Node:
        return self.rowed.outputs[LOGITS]

    @cached_property
    def kept(self) -> list[fx.Node]:
        """Keys and values of all attentions."""
        every = [n for n in self.rowed.nodes if self.rowed.rowwise.kinds[n] == "attention"]
        return list(dict.fromkeys(x for n in every for x in operands(n)[1:]))

    def plan(self, rows: Tensor, last: Tensor, until: Tensor) -> RowPlan:
        """The rows of each node for the new rows, of which the logits of the `last` are read."""
        edits = {n: EditRows(rows, None, None) for n in self.rowed.edited}
        reads = {self._logits: last, **dict.fromkeys(self.kept, rows)}
        start = dict.fromkeys(self.rowed.start, rows)
        return plan_rows(self.rowed.nodes, self.rowed.rowwise, until, start, edits, reads, Masks())

    def masks(self, at: Tensor, live: Tensor, first: bool) -> tuple[Tensor, Tensor, Tensor]:
        """New rows, the last of each example, and all rows up to it: bool [1, batch, pos]."""
        pos = torch.arange(self.room.tokens.shape[1])
        last = (pos == at[:, None]) & live[:, None]
        until = (pos <= at[:, None]) & live[:, None]
        return (until if first else last)[None], last[None], until[None]

    def predict(self, rows: slice, emitted: np.ndarray | None = None) -> Counts:
        """What some rows cost, if each emits as many tokens (as many as it may, unless `emitted` says)."""
        counts = Counts()
        one = self._part(rows)
        lengths = torch.from_numpy(one._prompt_lengths)
        most = torch.full_like(lengths, self.steps) if emitted is None else torch.from_numpy(emitted[rows])
        for step in range(int(most.max())):
            if self.why_whole:
                counts.add(one.lowered.count(len(lengths), 1, self.room.tokens.shape[1]))
                continue
            plan = one.plan(*one.masks(lengths + step - 1, step < most, step == 0))
            one.rowed.runner.predict(plan.active, {one._logits, *one.kept}, counts)
        return counts

    @property
    def _prompt_lengths(self) -> np.ndarray:
        return np.asarray(self.room.lengths) - self.steps

    def _part(self, rows: slice) -> Decoder:
        """The same for some of the rows."""
        if rows.start == 0 and rows.stop == len(self.room):
            return self
        some = self.room.take(np.arange(rows.start, rows.stop))
        return Decoder(self.mg, self.rollout, some, self.evaluator, self.tokenizer, self.counts)

    # -- running

    def run(self, rows: slice) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Write rows on: yields after each step how many rows it wrote, the tokens and how many are new."""
        part = self._part(rows)
        tokens = torch.from_numpy(part.room.tokens.copy())
        lengths = torch.from_numpy(part._prompt_lengths)
        emitted = torch.zeros_like(lengths)
        live = torch.ones(len(lengths), dtype=torch.bool)
        examples = self.room.examples[rows]
        step_of = part._whole(tokens, rows) if self.why_whole else part._by_rows(tokens, rows)
        for step in range(self.steps):
            if not bool(live.any()):
                return
            wide = tokens.shape[1] if self.why_whole or step == 0 else 1
            with threads_for(self.lowered.count(len(tokens), 1, wide).flops), torch.no_grad():
                logits = step_of(lengths + emitted - 1, live, step == 0)
            found = scores(logits, self.options, examples, step)
            chosen = (found == found.amax(1, keepdim=True)).to(torch.int64).argmax(1)  # ties to the lowest
            at = live.nonzero().flatten()
            tokens[at, (lengths + emitted)[at]] = chosen[at]
            emitted[at] += 1
            for i in at.tolist():
                live[i] = not self._ends(tokens[i, lengths[i] : lengths[i] + emitted[i]].tolist())
            yield len(at), tokens.numpy(), emitted.numpy()

    def _ends(self, new: list[int]) -> bool:
        """Whether a row is done: at the end token, or at a text to stop at."""
        if self.tokenizer is None:
            return False
        if new[-1] == self.tokenizer.eos_id:
            return True
        stops = self.options["stop"]
        return bool(stops) and any(s in self.tokenizer.decode(new) for s in stops)

    def text(self, new: list[int]) -> str:
        """What was emitted, as text: up to the text that it stopped at, without special tokens."""
        if self.tokenizer is None:
            return " ".join(map(str, new))
        text = self.tokenizer.decode(new)
        ends = [text.index(s) for s in self.options["stop"] if s in text]
        return text[: min(ends, default=len(text))]

    def _by_rows(self, tokens: Tensor, rows: slice) -> Callable[[Tensor, Tensor, bool], Tensor]:
        """Steps of which each computes the newest rows alone, over the keys and values of those before."""
        rowed, width = self.rowed, tokens.shape[1]
        mask = torch.ones_like(tokens)
        names = {n for n, k in rowed.rowwise.kinds.items() if k == "static"}
        cache: dict[fx.Node, Tensor] = {}
        chunk = Chunk(rowed.table, rows)

        def step(at: Tensor, live: Tensor, first: bool) -> Tensor:
            static = self.lowered.runner.static([tokens, mask], names)
            plan = self.plan(*self.masks(at, live, first))
            edits = {n: EditRows(m, None, None) for n, m in plan.active.items() if n in rowed.edited}
            run = RowRun(
                rowed.runner,
                plan.active,
                static,
                cache.get,
                {},
                _nowhere,
                lambda node, run: rowed._edit(node, edits[node], chunk, run),
                {self._logits, *self.kept},
                self.counts,
                (len(tokens), width),
            )
            run.run()
            for node in self.kept:
                _, example, pos = run.index(plan.active[node]).parts
                value = run.values[node][0]
                if node not in cache:
                    cache[node] = value.new_zeros(len(tokens), value.shape[0], width, value.shape[2])
                cache[node][example, :, pos] = value.transpose(0, 1)
            found = run.at(self._logits, *run.index(plan.active[self._logits]).parts)
            rows_of = live.nonzero().flatten()
            flat = found.reshape(len(rows_of), -1)
            logits = flat.new_zeros(len(tokens), flat.shape[1])
            logits[rows_of] = flat
            return logits

        return step

    def _whole(self, tokens: Tensor, rows: slice) -> Callable[[Tensor, Tensor, bool], Tensor]:
        """Steps of which each runs all positions."""
        mask = torch.ones_like(tokens)

        def step(at: Tensor, live: Tensor, first: bool) -> Tensor:
            every = slice(0, len(tokens))
            ahead = self.lowered.prefix(tokens, mask, every, self.counts)
            chunk = Chunk(Table.product((), self.evaluator.domains), rows)
            found = self.lowered.run(ahead, chunk, self.counts).values[LOGITS]
            logits = found.permute_to(("@", "batch", "pos", "vocab")).data[0]
            return logits[torch.arange(len(tokens)), at]

        return step


def _nowhere(node: fx.Node) -> Tensor:
    raise AssertionError("a rollout takes no rows of another run")
