"""The quickstart as the README promises it: rows, claims, the question to ask next, the cache."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.e2e.conftest import QUICKSTART, Home, Quickstart


def test_it_holds_and_prints_what_it_found(quickstart: Quickstart) -> None:
    out = quickstart.done.expect(0).out
    assert "heads.effect  n = 64" in out
    assert re.search(r"^layer +head +value", out, re.M)
    assert re.search(r"^largest \|value\|", out, re.M), "the heatmap"
    assert "6 of 6 expects hold" in out
    assert out.splitlines()[-1].startswith("ask next: midsl sql ")
    assert quickstart.done.err == ""


def test_the_question_to_ask_next_has_an_answer(quickstart: Quickstart) -> None:
    line = quickstart.done.expect(0).out.splitlines()[-1].removeprefix("ask next: ")
    midsl, *words = shlex.split(line)
    assert midsl == "midsl"
    answer = quickstart.home.process(*words).expect(0)
    assert re.split(r" +", answer.out.splitlines()[0].strip()) == ["layer", "head", "value", "n", "se"]
    assert len(answer.out.splitlines()) == 6


def test_the_rows_are_in_the_store(quickstart: Quickstart) -> None:
    query = "SELECT * FROM heads.effect ORDER BY layer, head"
    rows = quickstart.home.process("sql", query, "--json").expect(0).json()
    assert [(r["layer"], r["head"]) for r in rows] == [(x, y) for x in range(2) for y in range(4)]
    assert {r["n"] for r in rows} == {64}
    first = max((r for r in rows if r["layer"] == 0), key=lambda r: r["value"])
    second = max((r for r in rows if r["layer"] == 1), key=lambda r: r["value"])
    assert first["value"] > 0.5 and second["value"] > 0.5
    others = [r["value"] for r in rows if r not in (first, second)]
    assert max(map(abs, others)) < 0.3
    control = quickstart.home.process("sql", "SELECT max(abs(value)) AS m FROM untrained.change", "--json")
    assert control.expect(0).json()[0]["m"] < 0.05


def test_the_run_is_on_record(quickstart: Quickstart) -> None:
    (run,) = quickstart.home.process("ls", "--json").expect(0).json()
    assert (run["spec_name"], run["status"], run["exit_code"]) == ("quickstart", "done", 0)
    assert (run["checks"], run["checks_failed"]) == (6, 0)
    query = "SELECT kind, sum(forwards)::INT AS forwards FROM cells GROUP BY kind"
    cells = quickstart.home.process("sql", query, "--json").expect(0).json()
    assert {c["kind"]: c["forwards"] for c in cells} == {"train": 0, "load": 0, "run": 6}
    query = "SELECT count(*) AS n FROM artifacts WHERE kind = 'plot'"
    assert quickstart.home.process("sql", query, "--json").expect(0).json() == [{"n": 1}]


def test_again_it_takes_the_trained_model_from_the_cache(quickstart: Quickstart, tmp_path: Path) -> None:
    """And what `explain` predicts is what `run` then counts."""
    first = quickstart.home.process("sql", "SELECT * FROM heads.effect ORDER BY ALL", "--json").expect(0)
    again = Home(tmp_path, quickstart.home.cache)
    done = again.process("run", QUICKSTART, "--json").expect(0).json()
    query = "SELECT status FROM cells WHERE kind = 'train'"
    assert again.process("sql", query, "--json").expect(0).json() == [{"status": "reused"}]
    assert done["counts"]["executed"] == done["counts"]["predicted"]
    explained = again.process("explain", QUICKSTART, "--json", "--no-reuse").expect(0).json()
    assert explained["optimised"] == done["counts"]["executed"]
    assert explained["naive"]["forwards"] == 22 and explained["optimised"]["forwards"] == 6
    effect = next(r for r in done["reports"] if r["report"] == "effect")
    rows = [dict(zip(effect["columns"], row, strict=True)) for row in effect["rows"]]
    assert json.dumps(rows) == json.dumps(first.json()), "the same weights give the same numbers"
