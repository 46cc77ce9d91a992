"""What `midsl verify` found stands in the store, and on the pages of the runs that it speaks of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from midsl.plan.driver import Compiled
from midsl.plan.verify import Verification, verify
from tests.e2e.conftest import Done, Home

Cli = Callable[..., Done]
SMALL = Path(__file__).with_name("small.mi")


def test_verdicts_are_rows_of_checks(cli: Cli, home: Home) -> None:
    cli("run", SMALL).expect(0)
    cli("run", SMALL, "-p", "seed=1").expect(0)
    assert "verified" not in cli("show", "1").expect(0).out
    told = cli("verify", SMALL, "--json").expect(0).json()
    rows = cli("sql", "FROM checks WHERE kind = 'verify' ORDER BY text", "--json").expect(0).json()
    assert [r["text"] for r in rows[:2]] == ["small.base", "small.effect"] and all(r["passed"] for r in rows)
    assert "within 1e-09" in rows[1]["message"] and "float64" in rows[1]["observed"]
    assert rows[1]["line"] == 22 and rows[1]["experiment"] == "small"
    found = cli("sql", "SELECT run_id, status, run_uuid::VARCHAR AS id FROM runs", "--json").expect(0).json()
    assert [r["status"] for r in found] == ["done", "done", "verified"] and found[2]["id"] == told["run"]
    assert "3 of 3 agree with the oracle in float64 (run 3)" in cli("show", "1").expect(0).out
    assert "verified" not in cli("show", "2").expect(0).out, "it has another seed"
    assert "3 of 3 agree" in cli("show", "3").expect(0).out
    cli("report", "1", "-o", "page.html").expect(0)
    page = (home.folder / "page.html").read_text(encoding="utf-8")
    assert "Verified: 3 of 3 agree" in page and page.count("✓ agrees") == 3
    shown = cli("show", "latest", "--json").expect(0).json()
    assert shown["run_uuid"] == found[1]["id"], "a verification has no results: the latest run is another"
    assert cli("sql", "FROM latest_results", "--json").expect(0).json()


def test_what_differs_is_kept_too(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle is right by definition; what it finds against a plan stands on the page."""

    def wrong(compiled: Compiled, points: int | None) -> Verification:
        first, *others = verify(compiled, points).verdicts
        return Verification([replace(first, error=0.5, agrees=False), *others])

    monkeypatch.setattr("midsl.plan.verify.verify", wrong)
    cli("run", SMALL).expect(0)
    cli("verify", SMALL).expect(1)
    cli("report", "small", "-o", "page.html").expect(0)
    page = (home.folder / "page.html").read_text(encoding="utf-8")
    assert "✗ differs" in page and "2 of 3 agree" in page
    assert "differs" in cli("ls").expect(0).out
