"""Commands one by one: what they print, what they leave behind, and how they exit."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from midsl.cli import main
from tests.e2e.conftest import Done, Home

SMALL = Path(__file__).with_name("small.mi")
COUNTS = {"forwards", "lanes", "layer_tokens", "flops", "bytes", "peak_bytes"}
Cli = Callable[..., Done]


# -- run and its rows


def test_run_json_is_one_document(cli: Cli, home: Home) -> None:
    done = cli("run", SMALL, "--json").expect(0)
    told = done.json()
    assert done.err == "" and told["exit_code"] == 0
    effect, base = told["reports"]
    assert (effect["experiment"], effect["report"]) == ("small", "effect")
    assert effect["columns"] == ["layer", "head", "value", "n", "se"] and len(effect["rows"]) == 4
    assert base["columns"] == ["value", "n", "se"] and len(base["rows"]) == 1
    assert [c["passed"] for c in told["checks"]] == [True]
    assert told["counts"]["executed"] == told["counts"]["predicted"]
    stored = cli("sql", "SELECT * FROM small.effect ORDER BY layer, head", "--json").expect(0).json()
    assert [list(r.values()) for r in stored] == effect["rows"]


def test_a_parameter_is_set_and_recorded(cli: Cli) -> None:
    values = []
    for args in ((), ("-p", "seed=1")):
        told = cli("run", SMALL, "--json", *args).expect(0).json()
        values.append([row[2] for row in told["reports"][0]["rows"]])
    assert values[0] != values[1], "another seed, another model"
    runs = cli("ls", "--json").expect(0).json()
    assert [json.loads(r["params"]) for r in runs] == [{}, {"seed": "1"}]
    latest = cli("sql", "SELECT value FROM small.effect ORDER BY layer, head", "--json").expect(0).json()
    assert [r["value"] for r in latest] == values[1]


def test_a_failed_expect_exits_with_3_and_keeps_the_rows(cli: Cli) -> None:
    done = cli("run", SMALL, "-p", "bound=0.0").expect(3)
    assert "0 of 1 expects hold" in done.out
    assert "no head moves the answer by that much" in done.out
    (check,) = cli("sql", "SELECT * FROM checks", "--json").expect(0).json()
    assert check["passed"] is False
    assert check["message"] == "no head moves the answer by that much"
    assert "0" in check["observed"]
    assert len(cli("sql", "SELECT * FROM small.effect", "--json").expect(0).json()) == 4
    (run,) = cli("ls", "--json").expect(0).json()
    assert (run["status"], run["exit_code"], run["checks_failed"]) == ("failed_checks", 3, 1)


def test_the_store_may_be_elsewhere(cli: Cli, home: Home) -> None:
    elsewhere = home.folder / "a b"
    done = cli("run", SMALL, "--store", elsewhere).expect(0)
    assert "--store" in done.out.splitlines()[-1]
    assert not home.store.exists()
    assert len(cli("sql", "--store", elsewhere, "FROM small.effect", "--json").expect(0).json()) == 4
    assert len(cli("ls", "--store", elsewhere, "--json").expect(0).json()) == 1


# -- check and explain


def test_check_prints_the_columns(cli: Cli, home: Home) -> None:
    out = cli("check", SMALL).expect(0).out
    assert out.splitlines()[0].startswith("small.effect(layer, head, value, n, se)")
    assert out.splitlines()[1].startswith("small.base(value, n, se)")
    assert list(home.folder.iterdir()) == []


def test_check_json_names_reports_and_diagnostics(cli: Cli) -> None:
    told = cli("check", SMALL, "--json").expect(0).json()
    assert told["diagnostics"] == []
    assert "small.effect" in json.dumps(told["experiments"])


def test_explain_predicts_what_run_counts(cli: Cli, home: Home) -> None:
    told = cli("explain", SMALL, "--json").expect(0).json()
    assert not home.store.exists(), "explain writes no rows"
    for plan in ("naive", "optimised"):
        assert set(told[plan]) == COUNTS
        assert all(told[plan][c] > 0 for c in COUNTS)
    counted = cli("run", SMALL, "--json").expect(0).json()["counts"]["executed"]
    assert told["optimised"] == counted
    assert told["optimised"]["forwards"] == 3, "clean, corrupt, and one stacked run for four heads"
    assert told["naive"]["forwards"] > told["optimised"]["forwards"]
    assert told["naive"]["flops"] >= told["optimised"]["flops"]


@pytest.mark.parametrize("command", ["check", "explain", "verify", "run"])
def test_warnings_are_told(cli: Cli, home: Home, command: str) -> None:
    spec = home.folder / "idle.mi"
    spec.write_text(SMALL.read_text() + "\nexperiment idle {\n  let clean = run m on d.clean\n}\n")
    (warning,) = cli(command, spec, "--json").expect(0).json()["diagnostics"]
    assert (warning["code"], warning["severity"]) == ("MI0312", "warning")
    said = cli(command, spec).expect(0)
    assert said.err.count("warning[MI0312]") == 1


@pytest.mark.parametrize("off", ["cse", "dce", "push-selects", "fuse-captures", "batch-sweeps"])
def test_a_plan_without_a_pass_gives_the_same_rows(cli: Cli, off: str) -> None:
    every = cli("run", SMALL, "--json").expect(0).json()
    less = cli("run", SMALL, "--json", "--no-reuse", f"--no-{off}").expect(0).json()
    assert less["counts"]["executed"] == less["counts"]["predicted"]
    for a, b in zip(every["reports"], less["reports"], strict=True):
        values = [[row[-3] for row in r["rows"]] for r in (a, b)]
        assert values[0] == pytest.approx(values[1], rel=1e-4, abs=1e-6)
    saved = {
        k: less["counts"]["executed"][k] >= every["counts"]["executed"][k] for k in ("forwards", "flops")
    }
    assert all(saved.values()), f"{off} made the plan dearer: {saved}"


def test_verify_agrees_with_the_oracle(cli: Cli) -> None:
    told = cli("verify", SMALL, "--json").expect(0).json()
    assert told["agrees"] and told["worst"] < 1e-9
    assert {r["name"] for r in told["reports"]} >= {"small.effect", "small.base"}
    assert "agrees" in cli("verify", SMALL, "--exact").expect(0).out


def test_sites_lists_a_family(cli: Cli) -> None:
    (row,) = cli("sites", SMALL, "m.blocks[*].attn.z", "--json").expect(0).json()
    assert row["readable"] and row["writable"]
    assert row["axes"] == {"batch": None, "pos": None, "head": 2, "d_head": 4}
    text = cli("sites", SMALL, "m.blocks[*].attn.z").expect(0).out
    assert "attn.z" in text and "head 2" in text


# -- refusals: exit 2, nothing written


BAD = {
    "syntax": ("report effect =", "report effect = )", "MI01"),
    "name": ("run m on d.corrupt\n", "run mm on d.corrupt\n", "MI0201"),
    "site": ("attn.z[", "attn.zz[", "MI0401"),
    "axis": ("over: batch)\n  expect", "over: bach)\n  expect", "MI03"),
    "column": (".answer", ".anwser", "MI0506"),
    "argument": ("heads: 2", "haeds: 2", "MI0206"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_spec_exits_with_2_and_writes_nothing(cli: Cli, home: Home, case: str) -> None:
    old, new, code = BAD[case]
    text = SMALL.read_text(encoding="utf-8")
    assert old in text
    spec = home.folder / "bad.mi"
    spec.write_text(text.replace(old, new), encoding="utf-8")
    done = cli("run", spec).expect(2)
    assert f"error[{code}" in done.err and "bad.mi:" in done.err and done.out == ""
    told = cli("check", spec, "--json").expect(2).json()
    assert any(d["code"].startswith(code) for d in told["diagnostics"])
    assert all(d["message"] and d["line"] for d in told["diagnostics"])
    assert not home.store.exists()


@pytest.mark.parametrize("args", [("-p", "seeed=1"), ("-p", "seed=one"), ("-p", "seed")])
def test_a_bad_parameter_exits_with_2(cli: Cli, home: Home, args: tuple[str, ...]) -> None:
    done = cli("run", SMALL, *args).expect(2)
    assert "seed" in done.err
    assert not home.store.exists()


@pytest.mark.parametrize("command", ["check", "explain", "run", "verify", "sites"])
def test_a_missing_spec_file_exits_with_2(cli: Cli, home: Home, command: str) -> None:
    assert "error[MI0504]" in cli(command, "nowhere.mi").expect(2).err
    told = cli(command, "nowhere.mi", "--json").expect(2).json()
    assert [d["code"] for d in told["diagnostics"]] == ["MI0504"]
    assert list(home.folder.iterdir()) == []


def test_what_does_not_fit_exits_with_4_and_says_what_would(
    cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDSL_MEMORY", "1000")
    done = cli("run", SMALL).expect(4)
    assert "error[MI0602]" in done.err and "would fit" in done.err
    told = cli("run", SMALL, "--json").expect(4).json()
    assert [d["code"] for d in told["diagnostics"]] == ["MI0602"]
    assert not home.store.exists()


def test_little_memory_means_smaller_chunks_and_the_same_rows(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = cli("run", SMALL, "-p", "rows=12", "--json").expect(0).json()
    enough = free["counts"]["executed"]["peak_bytes"]
    monkeypatch.setenv("MIDSL_MEMORY", str(enough // 2))
    tight = cli("run", SMALL, "-p", "rows=12", "--json").expect(0).json()
    assert tight["counts"]["executed"]["peak_bytes"] < enough
    assert tight["counts"]["executed"] == tight["counts"]["predicted"]
    for a, b in zip(free["reports"], tight["reports"], strict=True):
        values = [[row[-3] for row in r["rows"]] for r in (a, b)]
        assert values[0] == pytest.approx(values[1], rel=1e-4, abs=1e-6)


def test_explain_shows_the_ir_as_a_pass_leaves_it(cli: Cli) -> None:
    before = cli("explain", SMALL, "--after", "expand_sites").expect(0).out
    after = cli("explain", SMALL, "--after", "push_selects").expect(0).out
    assert before.startswith("experiment small") and after.startswith("experiment small")
    assert "select arg=" in before and "select arg=" not in after, "selections went into the reads"
    assert cli("explain", SMALL, "--after", "push_selects", "--json").expect(0).json()["ir"] == after
    assert "left out" in cli("explain", SMALL, "--after", "cse", "--no-cse").expect(2).err


def test_run_says_what_was_predicted_beside_what_was_done(cli: Cli) -> None:
    said = cli("explain", SMALL, "--json").expect(0).json()
    assert said["seconds"] > 0
    (line,) = [x for x in cli("run", SMALL).expect(0).out.splitlines() if x.startswith("predicted ")]
    n = said["optimised"]["forwards"]
    assert f"predicted {n} forwards" in line and f"executed {n} forwards" in line
    again = cli("run", SMALL).expect(0).out
    assert "small: unchanged since run " in again and "executed 0 forwards" in again


# -- questions


def test_sql_reads_and_nothing_else(cli: Cli, home: Home) -> None:
    cli("run", SMALL).expect(0)
    secret = home.folder / "secret.csv"
    secret.write_text("a\n1\n", encoding="utf-8")
    for query in (
        f"SELECT * FROM read_csv('{secret}')",
        f"COPY runs TO '{home.folder / 'out.csv'}'",
        "DELETE FROM runs",
        "CREATE TABLE t (a INT)",
        f"ATTACH '{home.folder / 'other.duckdb'}'",
        "SET enable_external_access = true",
        "SELEKT 1",
    ):
        assert "error[MI0802]" in cli("sql", query).expect(2).err, query
        told = cli("sql", query, "--json").expect(2).json()
        assert [d["code"] for d in told["diagnostics"]] == ["MI0802"]
    assert {p.name for p in home.folder.iterdir()} == {"secret.csv", "midsl-results"}
    assert len(cli("ls", "--json").expect(0).json()) == 1


def test_questions_need_a_store(cli: Cli, home: Home) -> None:
    for args in (("sql", "SELECT 1"), ("ls",)):
        assert "error[MI0803]" in cli(*args).expect(2).err
        assert cli(*args, "--json").expect(2).json()["diagnostics"][0]["code"] == "MI0803"
    assert not home.store.exists()


# -- the command line itself


def test_every_command_takes_json_and_says_what_it_does() -> None:
    groups = [c for c in main.commands.values() if isinstance(c, click.Group)]
    inside = {f"{g.name} {n}": c for g in groups for n, c in g.commands.items()}
    for name, command in {**main.commands, **inside}.items():
        if isinstance(command, click.Group):
            assert command.help, name
            continue
        speaks = name in ("lsp", "serve")  # JSON is all that these say
        assert speaks or any(p.name == "as_json" for p in command.params), name
        assert command.help, name
        for p in command.params:
            assert isinstance(p, click.Argument) or (isinstance(p, click.Option) and p.help), (name, p.name)


def test_a_command_that_was_almost_right(cli: Cli) -> None:
    assert "'check'" in cli("chekc", SMALL).expect(2).err


# -- interruption


def test_interrupted_training_exits_with_130_and_says_so_in_the_store(home: Home) -> None:
    running = home.start("run", SMALL.with_name("long.mi"))
    until = time.monotonic() + 120
    while not list(home.store.glob("runs/*/manifest.json")) and running.poll() is None:
        assert time.monotonic() < until, "the run never began"
        time.sleep(0.2)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, out + err
    assert "interrupted" in err and "Traceback" not in err
    (run,) = home.process("ls", "--json").expect(0).json()
    assert (run["status"], run["exit_code"]) == ("interrupted", 130)
    assert not list(home.cache.glob("trained/*.tmp"))
