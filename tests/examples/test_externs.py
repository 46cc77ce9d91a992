"""A spec with Python of its own: trusted or refused, verified, told of where it does not do what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import midsl as api
from tests.examples.common import midsl
from tests.examples.own_python import spread

SPEC = """language mi 1
import std.models as models
from std.tasks import induction
model m = models.toy(layers: 2, heads: 2, d_model: 8, vocab: 16, ctx: 12, seed: 0)
data  d = induction(m.tokenizer, n: 5, period: 3)
extern fn spread[d](x: Float[batch, d], seed: Int, names: List) -> { gaps: Float[batch], most: Float }
  = "tests.examples.own_python:spread"
extern fn wave(n: Int) -> Float[t] = "tests.examples.own_python:wave"
extern fn liar[d](x: Float[d]) -> Float[d] = "tests.examples.own_python:liar"
fn twice(x: Float, seed: Int) -> Float[batch] = 2.0 * spread(x, seed: seed, names: ["a", "b"]).gaps
experiment e {
  sweep s in 0..3
  let x = (run m on d.clean)[m.blocks[1].resid_post[pos: .end]]
  report gaps = twice(x, seed: s)
  report most = spread(x, seed: s, names: ["a", "b"]).most
  report sine = wave(4)
  expect min(twice(x, seed: s)) >= 0
}
"""
LIES = SPEC.replace("report sine = wave(4)", "report lie = liar(x)")


def test_it_runs_with_trust_and_agrees_with_the_oracle(tmp_path: Path) -> None:
    spec, store = tmp_path / "own.mi", tmp_path / "store"
    spec.write_text(SPEC, encoding="utf-8")
    refused = midsl("run", spec, "--store", store)
    assert refused.exit_code == 2 and "MI0605" in refused.output and not store.exists()
    done = midsl("run", spec, "--trust", "--store", store, "--json")
    assert done.exit_code == 0, done.output
    rows = midsl("sql", "--store", store, "--json", "SELECT * FROM e.sine ORDER BY t")
    values = [r["value"] for r in json.loads(rows.output)]
    assert np.allclose(values, np.sin(np.arange(4)), atol=1e-12), "its length was found while binding"
    checked = midsl("verify", "--trust", spec)
    assert checked.exit_code == 0, checked.output


def test_other_code_is_another_experiment(tmp_path: Path) -> None:
    """What was stored of a function is not taken for what the function gives now."""
    module = tmp_path / "my_own_module.py"
    spec, store = tmp_path / "own.mi", tmp_path / "store"
    spec.write_text(
        'language mi 1\nextern fn f(x: Int) -> Float = "my_own_module:f"\nexperiment e { report v = f(1) }\n',
        encoding="utf-8",
    )
    found = []
    for body in ("return x * 0.125", "return x * 0.375"):
        module.write_text(f"def f(x):\n    {body}\n", encoding="utf-8")
        done = run_python("-m", "midsl.cli", "run", spec, "--trust", "--store", store, cwd=tmp_path)
        found.append([v for v in ("0.125", "0.375") if v in done])
    assert found == [["0.125"], ["0.375"]]


def run_python(*args: object, cwd: Path) -> str:
    """Another process, so that a module is imported again."""
    import os
    import subprocess
    import sys

    env = {**os.environ, "PYTHONPATH": f"{cwd}{os.pathsep}{Path(__file__).parents[2]}", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_function_that_gives_something_else_is_told_of_with_its_place(tmp_path: Path) -> None:
    spec = tmp_path / "lies.mi"
    spec.write_text(LIES, encoding="utf-8")
    done = midsl("run", spec, "--trust", "--store", tmp_path / "store")
    assert done.exit_code == 4
    assert "MI0707" in done.output and "9 long along `d_model`, and not 8" in done.output
    assert "report lie = liar(x)" in done.output


def test_the_function_is_what_the_spec_says_it_is() -> None:
    x = np.arange(6.0).reshape(3, 2)
    assert spread(x, 0, ["a"])["most"] == 1.0


def test_a_function_may_be_handed_over(tmp_path: Path) -> None:
    text = """language mi 1
extern fn powers(n: Int) -> Float[k=n] = "bind:powers"
experiment e { report v = powers(3) }
"""
    done = api.run(text, bind={"powers": lambda n: 2.0 ** np.arange(n)}, store=tmp_path)
    assert [r[1] for r in done.sql("SELECT k, value FROM e.v ORDER BY k").rows] == [1.0, 2.0, 4.0]
