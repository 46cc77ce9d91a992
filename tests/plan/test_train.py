"""Trainings: one serves all its checkpoints, and a checkpoint is what a shorter training gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from midsl.data.dataset import Part
from midsl.ir import nodes as ir
from midsl.plan import train
from midsl.plan.driver import Compiled, Execution, compile_spec

HEAD = """language mi 1
import std.models as models
from std.tasks import repeats
from std.metrics import cross_entropy
model m = models.toy(layers: 1, heads: 2, d_model: 16, vocab: 16, ctx: 16, seed: 0)
data  d = repeats(m.tokenizer, n: 32, period_min: 3, period_max: 5, ctx: 12, seed: 0)
"""
LOSS = "minimise: fn (r) => cross_entropy(r), batch: 8, seed: 3"


def compiled(folder: Path, body: str) -> Compiled:
    path = folder / "t.mi"
    path.write_text(HEAD + body, encoding="utf-8")
    return compile_spec(path)


def losses(spec: Compiled) -> dict[tuple[object, ...], float]:
    """The first report of a spec: its keys to its values."""
    execution = Execution(spec)
    execution.run()
    table = execution.stages[0].tables[0]
    keys = zip(*table.keys.values(), strict=True) if table.keys else [()]
    return dict(zip(keys, map(float, table.value), strict=True))


def weights(spec: Compiled) -> dict[int, dict[str, torch.Tensor]]:
    """The weights of the trained models of a spec, by how many steps they took."""
    found = {}
    for digest, model in spec.binder.models.items():
        node = next((t for t in spec.trainer.planned if t.digest == digest), None)
        if node is not None:
            found[int(dict(node.options)["steps"])] = dict(model.module.state_dict())
    return found


CURVE = f"""
model t = train(m, on: d, steps: 12, {LOSS})
experiment e {{
  sweep k in [0, 4, 12]
  report loss = cross_entropy(run t[step: k] on d)
}}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, so that nothing is trained already."""
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def test_one_training_serves_all_its_checkpoints(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[int, ...]] = []
    real = train._train

    def counted(*args: object) -> None:
        trained.append(tuple(sorted(args[5])))  # type: ignore[call-overload]
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "_train", counted)
    spec = compiled(cache, CURVE)
    curve = losses(spec)
    assert trained == [(4, 12)]
    assert curve[(12,)] < curve[(4,)] < curve[(0,)]
    assert losses(compiled(cache, CURVE)) == curve and trained == [(4, 12)], "kept, and not trained again"


def test_a_checkpoint_is_a_shorter_training(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = compiled(cache, CURVE)
    losses(spec)
    on_the_way = weights(spec)[4]
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(cache / "other"))
    short = compiled(
        cache,
        f"""
model t = train(m, on: d, steps: 4, {LOSS})
experiment e {{ report loss = cross_entropy(run t on d) }}
""",
    )
    losses(short)
    alone = weights(short)[4]
    assert all(torch.equal(on_the_way[n], alone[n]) for n in alone)
    last = weights(spec)[12]
    assert any(not torch.equal(last[n], alone[n]) for n in alone)


def test_step_0_is_the_model_that_training_starts_from(cache: Path) -> None:
    spec = compiled(cache, CURVE)
    runs = {n.model.digest for n in ir.walk(*spec.program.roots) if isinstance(n, ir.Forward)}
    start = next(n for n in ir.walk(*spec.program.roots) if isinstance(n, ir.Model))
    assert start.digest in runs and len(runs) == 3


def test_a_trained_model_is_trained_further(cache: Path) -> None:
    spec = compiled(
        cache,
        f"""
model t = train(m, on: d, steps: 12, {LOSS})
model u = train(t, on: d, steps: 12, {LOSS})
experiment e {{
  sweep who in [m, t, u]
  report loss = cross_entropy(run who on d)
}}
""",
    )
    found = losses(spec)
    assert found[("u",)] < found[("t",)] < found[("m",)]


def test_a_population_has_statistics_over_its_members(cache: Path) -> None:
    spec = compiled(
        cache,
        """
experiment e {
  sweep s in 0..3
  model t = train(m, on: d, steps: 6, minimise: fn (r) => cross_entropy(r), batch: 8, seed: s)
  let loss = cross_entropy(run t on d)
  report each = loss
  report mean_of = mean(loss, over: s)
  report spread = std(loss, over: s)
}
""",
    )
    execution = Execution(spec)
    execution.run()
    each, mean_of, spread = execution.stages[0].tables
    assert len({float(v) for v in each.value}) == 3, "each seed draws minibatches of its own"
    assert float(mean_of.value[0]) == pytest.approx(each.value.mean())
    assert float(spread.value[0]) == pytest.approx(each.value.std(ddof=1))


def test_a_training_sees_the_rows_that_count_and_no_others(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A condition that keeps all rows changes nothing; under another, no other row is in a minibatch."""
    body = "\ndata k = d where .period {op} 4\nmodel t = train(m, on: k, steps: 6, {loss})\n"
    body += "experiment e {{ report loss = cross_entropy(run t on d) }}\n"
    seen: list[set[int]] = []
    minibatch = train._Minibatch.__init__

    def spy(self: train._Minibatch, part: Part) -> None:
        seen.append(set(np.asarray(part.columns["period"].values, int).tolist()))
        minibatch(self, part)

    monkeypatch.setattr(train._Minibatch, "__init__", spy)
    every = losses(compiled(cache, body.format(op=">", loss=LOSS).replace("> 4", "> 0")))
    assert set().union(*seen) == {3, 4, 5}
    seen.clear()
    few = losses(compiled(cache, body.format(op=">", loss=LOSS)))
    assert seen and set().union(*seen) == {5}
    plain = f"\nmodel t = train(m, on: d, steps: 6, {LOSS})\n"
    plain += "experiment e { report loss = cross_entropy(run t on d) }\n"
    assert every == losses(compiled(cache, plain)) != few
