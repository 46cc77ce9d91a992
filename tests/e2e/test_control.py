"""A run in the hand: some of it, some rows, its plan alone, in several processes; and once more."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from midsl.resources import resource_dir
from midsl.show.doctor import examine
from tests.e2e.conftest import Done, Home

SMALL = Path(__file__).with_name("small.mi").read_text(encoding="utf-8")
TWO = SMALL + SMALL[SMALL.index("experiment small") :].replace(
    "experiment small", "experiment other"
).replace("h := clean", "h := 0.5 * clean[h]")
Cli = Callable[..., Done]


@pytest.fixture
def two(home: Home) -> Path:
    path = home.folder / "two.mi"
    path.write_text(TWO, encoding="utf-8")
    return path


def test_some_experiments(cli: Cli, home: Home, two: Path) -> None:
    done = cli("run", two, "--select", "other", "--json").expect(0).json()
    assert {r["experiment"] for r in done["reports"]} == {"other"}
    rest = cli("run", two).expect(0).out
    assert "other: unchanged since run" in rest, "what was selected is not run again"
    refused = cli("run", two, "--select", "othr", "--store", "new").expect(2)
    assert "MI0807" in refused.err and "`other`" in refused.err and not (home.folder / "new").exists()


def test_some_rows(cli: Cli, two: Path) -> None:
    done = cli("run", two, "--limit", "2", "--json").expect(0).json()
    assert {row[-2] for r in done["reports"] for row in r["rows"]} == {2}, "n"
    whole = cli("run", two, "--json").expect(0).json()
    assert {row[-2] for r in whole["reports"] for row in r["rows"]} == {4}, "some rows are other data"


def test_training_data_is_never_cut(cli: Cli, home: Home) -> None:
    text = TWO.replace(
        "site   z",
        'data w = induction(m.tokenizer, n: rows, period: 5, corrupt: "cue", seed: 1)\n'
        "model  t  = train(m, on: w.clean, minimise: fn (r) => mean(ld(r), over: batch), "
        "optim: adam(lr: 1e-3), steps: 2, batch: 4)\nsite   z",
    )
    taught = (
        "let taught = run t on d.clean\n  report of_t = mean(ld(taught), over: batch)\n  let clean   = run m"
    )
    text = text.replace("let clean   = run m", taught)
    (home.folder / "trained.mi").write_text(text, encoding="utf-8")
    seen = []
    for more in ([], ["--limit", "2"]):
        cli("run", "trained.mi", "--select", "small", *more).expect(0)
        models = cli("show", "latest", "--json").json()["models"]
        seen.append({m["name"]: m["weights_sha256"] for m in models})
    assert seen[0]["t"] == seen[1]["t"] != "", "what is trained on four rows still is"


def test_only_the_plan(cli: Cli, home: Home, two: Path) -> None:
    plan = cli("run", two, "--dry-run").expect(0).out
    assert plan == cli("explain", two).expect(0).out and "optimised" in plan
    assert not home.store.exists()


def test_in_several_processes(cli: Cli, home: Home, two: Path) -> None:
    done = cli("run", two, "--jobs", "2", "--json").expect(0).json()
    assert done["counts"]["executed"]["forwards"] == 0, "each process has stored its own"
    assert {r["experiment"] for r in done["reports"]} == {"small", "other"}
    alone = cli("run", two, "--store", "alone", "--json").expect(0).json()
    assert alone["reports"] == done["reports"], "the same rows as in one process"
    assert len(cli("ls", "--json").json()) == 3
    assert cli("run", two, "--jobs", "2", "--no-reuse").code == 2


def test_a_run_reproduced(cli: Cli, home: Home, two: Path) -> None:
    (home.folder / "lib.mi").write_text(
        "language mi 1\nfn scaled(x: Float) -> Float = 2.0 * x\n", encoding="utf-8"
    )
    text = TWO.replace("param seed", 'from "lib.mi" import scaled\nparam seed', 1).replace(
        "report base   = mean(ld(clean), over: batch)",
        "report base = scaled(mean(ld(clean), over: batch))",
        1,
    )
    two.write_text(text, encoding="utf-8")
    cli("run", two, "-p", "seed=3").expect(0)
    before = cli("show", "latest", "--json").json()
    assert before["environment"]["imports"], "what it imports is stored with it"
    two.write_text("this is gone", encoding="utf-8")
    (home.folder / "lib.mi").unlink()
    again = cli("reproduce", "--json").expect(0).json()
    assert again["same_results"] and again["run"] != before["run_uuid"]
    now = cli("show", "latest", "--json").json()
    assert now["reports"] == before["reports"] and now["params"] == {"seed": "3"}
    assert not now["reused"], "it was run, not looked up"
    assert cli("reproduce", "nothing").code == 2


def test_a_run_that_comes_out_otherwise_says_so(cli: Cli, home: Home) -> None:
    rows = [{"text": "1 2 3"}, {"text": "3 2 1"}]
    path = home.folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (home.folder / "of.mi").write_text(
        """language mi 1
import std.models as models
from std.tasks import texts
from std.metrics import nll
model m = models.toy(layers: 1, heads: 1, d_model: 8, vocab: 16, ctx: 16)
data d = texts("rows.jsonl", m.tokenizer)
experiment e {
  let clean = run m on d
  report loss = mean(nll(clean), over: [batch, pos])
}
""",
        encoding="utf-8",
    )
    cli("run", "of.mi").expect(0)
    path.write_text(json.dumps({"text": "5 6 7"}), encoding="utf-8")
    told = cli("reproduce", "latest").expect(1).out
    assert "not reproduced" in told and "fingerprint" in told, "and what was different"


def test_doctor(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    told = cli("doctor").expect(0).out
    for word in ("python", "torch", "compiler", "memory", "cache", "store", "hub", "[hf]"):
        assert word in told
    monkeypatch.setenv("MIDSL_MEMORY", "much")
    found = {f["what"]: f for f in cli("doctor", "--json").expect(4).json()}
    assert found["memory"]["state"] == "broken" and "digits" in found["memory"]["do"]
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert next(f for f in examine(home.store) if f.what == "compiler").state == "missing"


def test_new(cli: Cli, home: Home) -> None:
    listed = cli("new").expect(0).out
    assert "quickstart" in listed and "head_patching" in listed
    cli("new", "quickstart", "-o", "mine.mi").expect(0)
    text = (home.folder / "mine.mi").read_text(encoding="utf-8")
    assert text == (resource_dir("examples") / "quickstart.mi").read_text(encoding="utf-8")
    cli("check", "mine.mi").expect(0)
    assert cli("new", "quickstart", "-o", "mine.mi").code == 2, "nothing is overwritten"
    assert "quickstart" in cli("new", "quickstrat").expect(2).err


def test_completion(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "complete.sh"
    script.write_text(cli("completion", "bash").expect(0).out, encoding="utf-8")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "_MIDSL_COMPLETE" in script.read_text(encoding="utf-8")
