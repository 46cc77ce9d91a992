"""Draws depend on what they are for, and on nothing else: not on what runs beside them, nor on the layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from midsl.plan.driver import Execution, compile_spec
from midsl.store.rows import ResultTable
from tests.plan.corpus import load, tables

HEAD = """language mi 1
import std.models as models
from std.tasks import induction
model m = models.toy(layers: 2, heads: 2, d_model: 8, vocab: 24, ctx: 16, seed: 0)
data  d = induction(m.tokenizer, n: 6, period: 5, SPLIT seed: 0)
"""


def ran(folder: Path, body: str, split: str = "") -> dict[str, ResultTable]:
    """The tables of an experiment, by report."""
    path = folder / "spec.mi"
    path.write_text(HEAD.replace("SPLIT", split) + "experiment e {\n" + body + "\n}\n", encoding="utf-8")
    execution = Execution(compile_spec(path))
    execution.run()
    return {name.partition(".")[2]: table for name, table in tables(execution).items()}


def column(table: ResultTable) -> list[float]:
    return [float(v) for v in table.value]


ONE = "  report x = normal(like: (run m on d.clean).logits[pos: .end, vocab: 0], seed: 4)"


def test_a_draw_is_the_same_whatever_stands_around_it(tmp_path: Path) -> None:
    alone = column(ran(tmp_path, ONE)["x"])
    assert len(set(alone)) == 6 and abs(float(np.mean(alone))) < 2
    assert column(ran(tmp_path, "  # normal(\n\n" + ONE.replace("seed: 4", "seed:  4"))["x"]) == alone
    first = "  report y = uniform(like: (run m on d.clean).logits[pos: .end, vocab: 0], seed: 4)\n"
    both = ran(tmp_path, first + ONE)
    assert column(both["x"]) != alone, "it is the second call now"
    assert all(0 <= v < 1 for v in column(both["y"]))
    named = ran(tmp_path, (first + ONE).replace("seed: 4", 'seed: 4, stream: "mine"'))
    swapped = ran(tmp_path, (ONE + "\n" + first).replace("seed: 4", 'seed: 4, stream: "mine"'))
    assert column(named["x"]) == column(swapped["x"]), "a stream has a name of its own"
    assert column(ran(tmp_path, ONE.replace("seed: 4", "seed: 5"))["x"]) != alone


def test_an_example_has_its_draw_in_every_split(tmp_path: Path) -> None:
    split = "split: { a: 0.5, b: 0.5 },"
    whole = column(ran(tmp_path, ONE)["x"])
    a = column(ran(tmp_path, ONE.replace("d.clean", "d.a.clean"), split)["x"])
    b = column(ran(tmp_path, ONE.replace("d.clean", "d.b.clean"), split)["x"])
    assert len(a) == len(b) == 3 and sorted(a + b) == sorted(whole)


def test_sweeps_share_a_draw_unless_it_is_per_their_axis(tmp_path: Path) -> None:
    body = """  sweep l in m.blocks
  site x     = m.blocks[l].resid_post
  let clean  = run m on d.clean
  let shared = run m on d.clean do { x := normal(like: self, seed: 1, stream: "s") }
  let each   = run m on d.clean do { x := normal(like: self, seed: 1, stream: "s", per: [layer]) }
  report one = mean(shared[x], over: [batch, pos])
  report two = mean(each[x], over: [batch, pos])"""
    done = ran(tmp_path, body)
    one, two = (np.array(column(done[n])).reshape(2, 8) for n in ("one", "two"))
    assert np.array_equal(one[0], one[1]) and not np.array_equal(two[0], two[1])


def test_positions_of_a_stretch_have_the_draws_of_the_row(tmp_path: Path) -> None:
    body = """  let r = (run m on d.clean).logits[vocab: 0]
  report whole = normal(like: r, seed: 1, stream: "s")
  report later = normal(like: r[pos: 3..], seed: 1, stream: "s")"""
    done = ran(tmp_path, body)
    rows = {k: dict(zip(zip(*t.keys.values(), strict=True), column(t), strict=True)) for k, t in done.items()}
    assert len(rows["later"]) > 10
    assert all(rows["whole"][key] == value for key, value in rows["later"].items())


def test_a_shuffle_keeps_all_rows_and_its_groups(tmp_path: Path) -> None:
    body = """  let x = (run m on d.clean).logits[pos: .end, vocab: 0]
  report all    = x
  report moved  = shuffle(x, seed: 3)
  report inside = shuffle(x, seed: 3, within: .answer)
  report answers = 1.0 * d.clean.answer"""
    done = ran(tmp_path, body)
    every = column(done["all"])
    assert sorted(column(done["moved"])) == sorted(every) and column(done["moved"]) != every
    assert sorted(column(done["inside"])) == sorted(every)
    groups: dict[int, list[tuple[float, float]]] = {}
    for a, b, answer in zip(every, column(done["inside"]), column(done["answers"]), strict=True):
        groups.setdefault(int(answer), []).append((a, b))
    assert any(len(g) > 1 for g in groups.values()), "there is something to shuffle"
    assert all(sorted(a for a, _ in g) == sorted(b for _, b in g) for g in groups.values())


def test_seeds_that_are_swept_are_the_seeds_written(tmp_path: Path) -> None:
    swept = ran(tmp_path, "  sweep s in [4, 9]\n" + ONE.replace("seed: 4", "seed: s"))["x"]
    rows = dict(zip(zip(*swept.keys.values(), strict=True), column(swept), strict=True))
    assert [rows[4, i] for i in range(6)] == column(ran(tmp_path, ONE)["x"])


def test_the_corpus_spec_has_draws_everywhere() -> None:
    from midsl.ir import nodes as ir

    draws = [n for n in ir.walk(*load("draws").program.roots) if isinstance(n, ir.Draw)]
    assert {d.kind for d in draws} == {"normal", "uniform", "permutation"}
    assert any(isinstance(d.seed, ir.Coord) for d in draws) and any(d.within is not None for d in draws)
