"""`show`, `diff` and `export`: runs looked at, compared and taken elsewhere, by the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import Done, Home

SMALL = Path(__file__).with_name("small.mi")
Cli = Callable[..., Done]


def test_two_runs_shown_compared_and_exported(cli: Cli, home: Home) -> None:
    spec = home.folder / "small.mi"
    spec.write_text(
        SMALL.read_text() + "experiment more {\n  report one = mean(ld(run m on d.clean), over: batch)\n}\n"
    )
    said = cli("run", spec).expect(0).out
    spec.write_text(spec.read_text().replace("rows: Int = 4", "rows: Int = 5"))
    cli("run", spec, "-p", "seed=1").expect(0)
    shown = cli("show", "small~1").expect(0).out
    assert said[said.index("small.effect") : said.index("ask next")] in shown, "as the run itself printed it"
    told = cli("show", "2", "--json").expect(0).json()
    assert told["params"] == {"seed": "1"} and [len(r["rows"]) for r in told["reports"]] == [4, 1, 1]
    found = cli("diff", "small~1", "small", "--json").expect(0).json()
    assert [line for line in found["spec"] if line[0] != "@"] == [
        "-param rows: Int = 4",
        "+param rows: Int = 5",
    ]
    assert {"param seed", "model m: weights_sha256", "data d: fingerprint"} <= {
        c["what"] for c in found["changes"]
    }
    effect = found["tables"][0]
    assert (effect["title"], effect["both"], effect["differ"], len(effect["rows"])) == (
        "small.effect",
        4,
        4,
        4,
    )
    text = cli("diff", "1", "2", "--top", "2").expect(0).out
    assert "+param rows: Int = 5" in text and "4 rows in both, 4 differ, by at most" in text
    assert "all results are the same" in cli("diff", "1", "1").expect(0).out
    files = (
        cli("export", "csv", "small.effect", "--run", "1", "-o", "out", "--json").expect(0).json()["files"]
    )
    assert [Path(f).name for f in files] == ["small.effect.csv"]
    assert len(Path(files[0]).read_text().splitlines()) == 5
    cli("export", "parquet", "--sql", "FROM runs", "small.effect").expect(2)
    refused = cli("show", "smal").expect(2)
    assert "did you mean `small`?" in refused.err
