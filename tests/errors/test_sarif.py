"""The SARIF log: the facts of each diagnostic, where a reader of the format looks for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from midsl.cli import main
from midsl.diagnostics.codes import CODES
from midsl.diagnostics.model import Diagnostic, Label
from midsl.diagnostics.sarif import render_sarif
from midsl.source import SourceFile, Span

BAD = sorted((Path(__file__).parents[1] / "corpus_bad").glob("0[1-4]*/*.mi"))
SOURCE = SourceFile("a folder/x.mi", "language mi 1\nlet \U0001d4d0 = y\n")


def check(*args: str | Path) -> tuple[int, Any]:
    done = CliRunner().invoke(main, ["check", *map(str, args), "--sarif"])
    return done.exit_code, json.loads(done.stdout)


def test_places_count_code_points_from_one() -> None:
    y = SOURCE.text.index("y")
    d = Diagnostic(
        "MI0201",
        "unknown name `y`",
        Span(SOURCE, y, y + 1),
        "not defined",
        (Label(Span(SOURCE, 0, 8), "here"),),
    )
    (run,) = render_sarif([d])["runs"]
    (result,) = run["results"]
    where = result["locations"][0]["physicalLocation"]
    assert where["artifactLocation"]["uri"] == "a%20folder/x.mi"
    assert where["region"] == {"startLine": 2, "startColumn": 9, "endLine": 2, "endColumn": 10}
    assert run["columnKind"] == "unicodeCodePoints"
    assert result["message"]["text"] == "unknown name `y`\nnot defined"
    (related,) = result["relatedLocations"]
    assert related["message"]["text"] == "here"
    assert related["physicalLocation"]["region"]["endColumn"] == 9


def test_what_has_no_place_has_no_location() -> None:
    (result,) = render_sarif([Diagnostic("MI0504", "gone", severity="warning")])["runs"][0]["results"]
    assert "locations" not in result and "relatedLocations" not in result
    assert result["level"] == "warning"


@pytest.mark.parametrize("spec", BAD[::6], ids=lambda p: p.stem)
def test_rules_and_results_of_bad_programs(spec: Path) -> None:
    code, log = check(spec)
    assert (code, log["version"]) == (2, "2.1.0")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [r["id"] for r in rules] == sorted({r["ruleId"] for r in run["results"]})
    for rule in rules:
        assert rule["shortDescription"]["text"] == CODES[rule["id"]]
        assert rule["id"] in rule["help"]["markdown"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        region = result["locations"][0]["physicalLocation"]["region"]
        assert (region["startLine"], region["startColumn"]) <= (region["endLine"], region["endColumn"])


def test_a_missing_file_and_a_good_one(tmp_path: Path) -> None:
    code, log = check(tmp_path / "nowhere.mi")
    assert code == 2 and len(log["runs"][0]["results"]) == 1
    good = tmp_path / "good.mi"
    good.write_text("language mi 1\n")
    assert check(good) == (0, render_sarif([]))


def test_one_form_at_a_time(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["check", str(tmp_path / "x.mi"), "--json", "--sarif"])
    assert done.exit_code == 2 and "give one of them" in done.output


def test_a_lint_has_its_rule_too() -> None:
    (rule,) = render_sarif([Diagnostic("L05", "m", severity="warning")])["runs"][0]["tool"]["driver"]["rules"]
    assert rule["id"] == "L05" and rule["help"]["text"].startswith("# L05: ")
