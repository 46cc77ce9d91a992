"""Rollouts as steps of a plan: what they cost, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from midsl.backends.eager import Counts
from midsl.data.written import written
from midsl.diagnostics.model import fail
from midsl.graph.sites import ModelGraph
from midsl.ir import nodes as ir
from midsl.passes.chunk import crosses_rows
from midsl.plan.decode import Decoder
from midsl.plan.memory import Budget
from midsl.plan.session import Session
from midsl.plan.steps import RollStep
from midsl.plan.totals import Totals

SHARE = 0.5
"""The share of the memory at hand that keys and values may take."""


def decoder(session: Session, step: RollStep) -> Decoder:
    """What writes the rows of a rollout: raises MI0606 for a model that cannot."""
    rollout = step.rollout
    done = session.decoders.get(id(step))
    if done is not None:
        return done
    engine = session.bound.engine(rollout.model)
    if not isinstance(engine, ModelGraph):
        raise fail(
            "MI0606",
            "this model cannot write rows on",
            rollout.span,
            label=engine.info.why,
            help="take a model that can be exported",
        )
    tokenizer = session.bound.tokenizer(rollout.model)
    if tokenizer is None and dict(rollout.options)["stop"]:
        raise fail(
            "MI0503",
            "the model has no tokenizer",
            rollout.span,
            label="`stop` is a list of texts",
            help="give the model one: `tokenizer: ...`",
        )
    made = Decoder(engine, rollout, session.bound.part(rollout.room), session.evaluator, tokenizer)
    made.check()
    if session.written.known(rollout.room.data.part):  # else its prompts are yet to be written
        session.decoders[id(step)] = made
    return made


def groups(session: Session, made: Decoder, at_once: int = 0) -> list[slice]:
    """The rows that are written on together: as many as have room for their keys and values."""
    rows, width = len(made.room), made.room.tokens.shape[1]
    kept = 0 if made.why_whole else sum(made.rowed.runner.bytes_kept(n) for n in made.kept) * width
    each = max(kept, made.lowered.count(1, 1, width).peak_bytes)
    room = int(session.available * SHARE)
    budget = Budget(0, each)
    fits = budget.rows(room, width, made.rollout.span, "the rollout")
    fits = min(fits, at_once or fits)
    run = ir.Forward(made.rollout.model, made.rollout.room, made.rollout.edits)  # type: ignore[arg-type]
    if fits < rows and crosses_rows(run):
        fits = budget.together(rows, room, made.rollout.span, "an edit across the batch")
    return [slice(i, min(i + fits, rows)) for i in range(0, rows, fits)]


def predict(session: Session, step: RollStep, emitted: np.ndarray | None = None) -> Totals:
    """What a rollout costs: the most that it may, unless it is known how many tokens each row emits."""
    made = decoder(session, step)
    total = Totals(forwards=1, lanes=1)
    for rows in groups(session, made, step.at_once):
        _add(session, total, made, made.predict(rows, emitted))
    return total


def least(session: Session, step: RollStep) -> Totals:
    """What a rollout costs at least: each row emits one token."""
    made = decoder(session, step)
    if made.tokenizer is None:
        return predict(session, step)
    return predict(session, step, np.ones(len(made.room), np.int64))


def calls(session: Session, step: RollStep) -> int:
    """How many operations a rollout calls, about and at most."""
    made = decoder(session, step)
    return made.steps * len(made.lowered.runner.nodes) * len(groups(session, made, step.at_once))


def roll(session: Session, step: RollStep, done: Totals) -> Iterator[int]:
    """Write all rows on and keep them; yields how many tokens each step added."""
    made = decoder(session, step)
    room = made.room
    tokens, emitted = room.tokens.copy(), np.zeros(len(room), np.int64)
    done.forwards, done.lanes = 1, 1
    for rows in groups(session, made, step.at_once):
        made.counts = Counts()
        for n, found, many in made.run(rows):
            tokens[rows], emitted[rows] = found, many
            yield n
        _add(session, done, made, made.counts)
    start = np.asarray(room.lengths) - made.steps
    texts = [made.text(t[s : s + n].tolist()) for t, s, n in zip(tokens, start, emitted, strict=True)]
    prompts = session.bound.part(step.rollout.room.data.part)
    session.written.rows[step.rollout.digest] = written(prompts, tokens, emitted, texts)
    session.evaluator.rows.memo.clear()  # what was said of rows that were not there yet


def _add(session: Session, totals: Totals, made: Decoder, counts: Counts) -> None:
    width = made.room.tokens.shape[1]
    totals.add_counts(counts, session.whole_blocks(made.mg, made.rollout.model, width), width)
