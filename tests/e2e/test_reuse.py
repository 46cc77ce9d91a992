"""What a store holds is not run again: by experiment, whatever else changed in the spec."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midsl.plan.execute import Executor
from tests.e2e.conftest import Done, Home

Cli = Callable[..., Done]

SPEC = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import logit_diff
param rows: Int = 4
param bound: Float = 1000.0
model  m  = models.toy(layers: 2, heads: 2, d_model: 8, vocab: 16, ctx: 16)
data   d  = induction(m.tokenizer, n: rows, period: 5, corrupt: "cue", seed: 0)
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
experiment heads {
  sweep h in m.blocks[*].attn.z[head: *], k in [0.5, 2.0]
  let base = run m on d.clean
  let cut  = run m on d.clean do { h := k * self }
  report effect = mean(ld(cut) - ld(base), over: batch)
  plot heatmap(effect, x: head, y: layer, facet: k)
  expect max(abs(effect), over: [layer, head, k]) < bound, "not that much"
}
experiment rest {
  report x = mean((run m on d.corrupt)[m.blocks[1].resid_post], over: [batch, d_model])
}
"""


@pytest.fixture
def spec(home: Home) -> Path:
    path = home.folder / "spec.mi"
    path.write_text(SPEC)
    return path


def ran(done: Any) -> bool:
    return bool(done["counts"]["executed"]["forwards"])


def test_the_same_again_runs_nothing(cli: Cli, home: Home, spec: Path) -> None:
    first = cli("run", spec, "--json").expect(0).json()
    assert ran(first)
    said = cli("explain", spec, "--json").expect(0).json()
    assert [(s["kind"], s["what"]) for s in said["steps"]] == [("reuse", "heads"), ("reuse", "rest")]
    second = cli("run", spec, "--json").expect(0).json()
    assert not ran(second)
    assert json.dumps(second["reports"]) == json.dumps(first["reports"]), "to the last bit"
    assert second["checks"] == first["checks"]
    query = "SELECT kind, cells.status, reused_from FROM cells WHERE kind = 'reuse'"
    cells = cli("sql", query, "--json").expect(0).json()
    assert {c["reused_from"] for c in cells} == {first["run"]} and len(cells) == 2
    rows = "SELECT count(*) AS n FROM measurements GROUP BY run_id ORDER BY run_id"
    counts = [r["n"] for r in cli("sql", rows, "--json").expect(0).json()]
    assert counts[0] == counts[1] > 0, "each run has its rows"
    plots = cli("sql", "SELECT count(*) AS n FROM artifacts WHERE kind = 'plot'", "--json").expect(0).json()
    assert plots == [{"n": 2}]
    third = cli("run", spec, "--json", "--no-reuse").expect(0).json()
    assert ran(third) and json.dumps(third["reports"]) == json.dumps(first["reports"])


@pytest.mark.parametrize(
    "old, new, again",
    [
        ("experiment heads {", "# nothing but a remark\n\nexperiment heads {", []),
        pytest.param("let base", "let plain", [], marks=pytest.mark.slow),
        ("[0.5, 2.0]", "[0.5, 3.0]", ["heads"]),
        ("d_model: 8,", "d_model: 8, seed: 7,", ["heads", "rest"]),
        *(
            pytest.param(old, new, again, marks=pytest.mark.slow)
            for old, new, again in [
                ("do { h := k * self }", "do { h := k * self + 0.5 }", ["heads"]),
                ("over: [batch, d_model]", "over: [batch, pos]", ["rest"]),
                ("seed: 0", "seed: 1", ["heads", "rest"]),
                ("experiment rest", "experiment other", []),
                ("report effect", "report size", []),
            ]
        ),
    ],
)
def test_what_changed_runs_again(cli: Cli, spec: Path, old: str, new: str, again: list[str]) -> None:
    cli("run", spec).expect(0)
    text = (
        SPEC.replace("let base = ", "let plain = ").replace("ld(base)", "ld(plain)") if "plain" in new else ""
    )
    spec.write_text(text or SPEC.replace(old, new))
    assert spec.read_text() != SPEC
    done = cli("run", spec, "--json").expect(0).json()
    query = (
        f"SELECT stage FROM cells JOIN runs USING (run_id) WHERE run_uuid = '{done['run']}' AND kind = 'run'"
    )
    stages = {r["stage"] for r in cli("sql", query, "--json").expect(0).json()}
    assert sorted(stages) == again
    fresh = cli("run", spec, "--json", "--no-reuse").expect(0).json()
    assert json.dumps(done["reports"]) == json.dumps(fresh["reports"])


@pytest.mark.parametrize(
    "old, new, kinds",
    [
        ("", "", ["cached", "cached"]),
        ("  plot heatmap(effect, x: head, y: layer, facet: k)\n", "", ["metadata-only", "cached"]),
        ('"not that much"', '"hardly anything"', ["metadata-only", "cached"]),
        ("  let base", "  # the model as it is\n  let base", ["metadata-only", "cached"]),
        ("model  m ", "# eight numbers wide\nmodel  m ", ["metadata-only", "metadata-only"]),
        ("ctx: 16", "ctx: 16, seed: 1", ["stale", "stale"]),
        ("< bound", "<= bound", ["stale", "cached"]),
    ],
)
def test_explain_says_how_each_stands_to_the_store(
    cli: Cli, spec: Path, old: str, new: str, kinds: list[str]
) -> None:
    """By the four parts of a fingerprint: what is reported, what is under it, and what is said of both."""
    cli("run", spec).expect(0)
    spec.write_text(SPEC.replace(old, new) if old else SPEC)
    said = cli("explain", spec, "--json").expect(0).json()
    first = {s["what"]: s["reason"] for s in said["steps"] if s["kind"] in ("reuse", "stale")}
    assert [first[x].partition(":")[0] for x in ("heads", "rest")] == kinds
    assert len([s for s in said["steps"] if s["kind"] == "run"]) >= kinds.count("stale")
    assert ("stale" in kinds) == any(s["kind"] == "run" for s in said["steps"])
    if "seed" in new:
        assert "models, data, fits or versions under it changed" in first["heads"]
    elif "<=" in new:
        assert "what it reports or claims changed" in first["heads"]


def test_what_is_said_of_rows_is_written_anew(cli: Cli, spec: Path) -> None:
    """A plot, a message, a name: nothing runs, and the new run has them."""
    before = cli("run", spec, "--json").expect(0).json()
    text = (
        SPEC.replace("report effect", "report size")
        .replace("(effect", "(size")
        .replace("abs(effect)", "abs(size)")
    )
    spec.write_text(
        text.replace("heatmap(size, x: head, y: layer, facet: k)", "histogram(size)").replace(
            "that much", "much"
        )
    )
    done = cli("run", spec, "--json").expect(0).json()
    assert not ran(done) and [r["report"] for r in done["reports"]] == ["size", "x"]
    assert [r["rows"] for r in done["reports"]] == [r["rows"] for r in before["reports"]]
    assert done["checks"][0]["message"] == "not much" and "abs(size)" in done["checks"][0]["expect"]
    names = f"SELECT name FROM artifacts JOIN runs USING (run_id) WHERE run_uuid = '{done['run']}'"
    assert cli("sql", names, "--json").expect(0).json() == [{"name": "heads.histogram.size"}]
    status = f"SELECT cells.status AS s FROM cells JOIN runs USING (run_id) WHERE run_uuid = '{done['run']}'"
    assert [r["s"] for r in cli("sql", status, "--json").expect(0).json()] == ["metadata-only", "reused"]
    again = cli("explain", spec, "--json").expect(0).json()["steps"]
    assert [s["reason"].partition(":")[0] for s in again] == ["cached", "cached"]


def test_an_interrupted_run_goes_on_where_it_stopped(
    cli: Cli, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Executor.run

    def stopped(self: Executor, step: Any, done: Any) -> Any:
        if "corrupt" in step.name:
            raise KeyboardInterrupt
        return run(self, step, done)

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "run", stopped)
        cli("run", spec).expect(130)
    done = cli("run", spec, "--json").expect(0).json()
    fresh = cli("run", spec, "--json", "--no-reuse").expect(0).json()
    assert json.dumps(done["reports"]) == json.dumps(fresh["reports"])
    assert 0 < done["counts"]["executed"]["forwards"] < fresh["counts"]["executed"]["forwards"]


def test_a_verdict_is_reused_with_its_line_as_it_is_now(cli: Cli, spec: Path) -> None:
    cli("run", spec, "-p", "bound=0.0").expect(3)
    spec.write_text(SPEC.replace("experiment heads", "#\n#\nexperiment heads"))
    done = cli("run", spec, "-p", "bound=0.0", "--json").expect(3).json()
    assert not ran(done), "a claim that failed has failed still"
    (check,) = done["checks"]
    assert spec.read_text().splitlines()[check["line"] - 1].strip().startswith("expect")
    assert ran(cli("run", spec, "-p", "bound=5.0", "--json").expect(0).json())


def test_a_damaged_part_is_run_again(cli: Cli, home: Home, spec: Path) -> None:
    cli("run", spec).expect(0)
    for part in (home.store / "runs").glob("*/parts/*heads-measurements.parquet"):
        part.write_bytes(b"no parquet")
    done = cli("run", spec, "--json")
    assert done.code == 0 and ran(done.json())


def test_foreign_code_is_never_reused(
    cli: Cli, home: Home, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.folder / "mine.py").write_text("from midsl.models.toy import toy\n")
    monkeypatch.syspath_prepend(str(home.folder))
    text = SPEC.replace("model  m  = models.toy(layers: 2, heads: 2, d_model: 8, vocab: 16, ctx: 16)", "")
    text = text.replace(
        "param rows",
        'extern fn mine(layers: Int, heads: Int, d_model: Int, vocab: Int, ctx: Int) -> Model = "mine:toy"\n'
        "model m = mine(layers: 2, heads: 2, d_model: 8, vocab: 16, ctx: 16)\nparam rows",
    )
    spec.write_text(text)
    first = cli("run", spec, "--trust", "--json").expect(0).json()
    assert ran(first) and ran(cli("run", spec, "--trust", "--json").expect(0).json())
