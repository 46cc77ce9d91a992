"""`midsl test` and `midsl doc`: what they print, and how they exit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Done, Home

Cli = Callable[..., Done]
FILE = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import logit
model m = models.toy(layers: 1, heads: 2, d_model: 8, vocab: 16, ctx: 16)
data  d = induction(m.tokenizer, n: 3, period: 4)
test "an edit is read back" {
  let r = run m on d.clean do { m.blocks[0].attn.z := 0 }
  expect all(r[m.blocks[0].attn.z] ~= 0)
}
test "no logit is large" {
  expect all(logit(.answer)(run m on d.clean) < BOUND), "they are small"
}
"""


@pytest.fixture
def file(home: Home) -> Path:
    path = home.folder / "mine.mi"
    path.write_text(FILE.replace("BOUND", "100"), encoding="utf-8")
    return path


def test_tests_that_hold(cli: Cli, file: Path, home: Home) -> None:
    done = cli("test", file, "--verify").expect(0)
    assert "an edit is read back" in done.out and done.out.splitlines()[-1] == "2 of 2 tests hold"
    assert done.err == "" and list(home.folder.iterdir()) == [file], "nothing is stored"


def test_a_test_that_fails(cli: Cli, file: Path) -> None:
    file.write_text(FILE.replace("BOUND", "-100"), encoding="utf-8")
    done = cli("test", file).expect(3)
    assert "1 of 2 tests hold" in done.out and "line 12: they are small" in done.out
    assert "expect all(logit(.answer)(run m on d.clean) < -100)  (0 of 3)" in done.out
    first, second = cli("test", file, "--json").expect(3).json()["tests"]
    assert (first["passed"], second["passed"]) == (True, False)
    assert second["expects"][0]["line"] == 12 and second["verified"] == []
    cli("test", file, "-k", "read back").expect(0)


def test_what_is_refused_is_told_and_the_rest_is_run(cli: Cli, file: Path, home: Home) -> None:
    bad = home.folder / "bad.mi"
    bad.write_text('language mi 1\ntest "x" { expect y > 0 }\n', encoding="utf-8")
    done = cli("test", bad, file).expect(2)
    assert "MI0201" in done.err and "2 of 2 tests hold" in done.out
    told = cli("test", bad, file, "--json").expect(2).json()
    assert [d["code"] for d in told["diagnostics"]] == ["MI0201"] and len(told["tests"]) == 2
    cli("test", home.folder / "none.mi").expect(2)


def test_no_test_is_no_success(cli: Cli, file: Path) -> None:
    assert "no test has 'sums'" in cli("test", file, "-k", "sums").expect(2).err


def test_check_reads_tests_and_run_leaves_them(cli: Cli, file: Path) -> None:
    text = (
        FILE.replace("BOUND", "100")
        + "experiment e { report x = mean(logit(.answer)(run m on d.clean), over: batch) }\n"
    )
    file.write_text(text, encoding="utf-8")
    told = cli("run", file, "--json").expect(0).json()
    assert [r["experiment"] for r in told["reports"]] == ["e"] and told["checks"] == []
    file.write_text(
        text.replace("attn.z ~= 0", "attn.zz ~= 0").replace(
            "(r[m.blocks[0].attn.z]", "(r[m.blocks[0].attn.zz]"
        ),
        encoding="utf-8",
    )
    assert "MI0401" in cli("check", file).expect(2).err


def test_doc_of_everything(cli: Cli) -> None:
    out = cli("doc").expect(0).out
    assert "std.metrics" in out and "std.tasks" in out
    assert "logit_diff" in cli("doc", "std.metrics").expect(0).out
    assert cli("doc", "metrics").out == cli("doc", "std.metrics").out


def test_doc_of_a_function(cli: Cli) -> None:
    out = cli("doc", "logit_diff").expect(0).out
    assert "fn logit_diff(correct: Token[batch], wrong: Token[batch]" in out
    assert "from std.metrics import logit_diff" in out
    (page,) = cli("doc", "std.metrics.logit_diff", "--json").expect(0).json()
    assert page["kind"] == "function" and page["use"] == "from std.metrics import logit_diff"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mean", "mean(x: Float[..]"),
        ("attn.z", "before the output projection"),
        ("MI0316", "A test that cannot fail"),
        ("L03", "steering"),
    ],
)
def test_doc_of_the_rest(cli: Cli, name: str, said: str) -> None:
    assert said in cli("doc", name).expect(0).out


def test_doc_of_a_file(cli: Cli, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "## Twice a value. And no more.\nfn twice(x: Float) -> Float = 2.0 * x\n", "utf-8")
    assert cli("doc", file).expect(0).out.split("\n\n")[-1].split() == ["twice", "Twice", "a", "value."]
    assert "MI0504" in cli("doc", "none.mi").expect(2).err


def test_tests_take_parameters(cli: Cli, file: Path) -> None:
    text = FILE.replace("BOUND", "bound").replace("model m", "param bound: Float = 100.0\nmodel m")
    file.write_text(text, encoding="utf-8")
    cli("test", file).expect(0)
    cli("test", file, "-p", "bound=-100.0").expect(3)


def test_doc_of_nothing(cli: Cli) -> None:
    assert "did you mean `logit_diff`" in cli("doc", "logit_dif").expect(2).err
