"""The smallest published induction circuit, ablated by a spec.

Its published figures, accuracy on the last ten letters .999 -> .494 without head 0.0 and .345 without 1.0,
are those of batch-mean ablation over the first 500 strings. Zero ablation of the same rows gives .490 and
.351.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.common import DATA, EXAMPLES, array, midsl, needs, options, stages, tables

FOLDER = DATA / "induction_makemore"
SPEC = EXAMPLES / "induction_makemore.mi"
FILES = {"path": FOLDER / "model.pt", "strings": FOLDER / "induction.txt"}

pytestmark = needs("induction_makemore")


def test_ablations_give_the_published_figures() -> None:
    done = stages(SPEC, **FILES)
    reports = {name: array(table) for name, table in tables(done["ablate"]).items()}
    assert reports["whole"] == pytest.approx(0.999, abs=5e-4)
    assert reports["average"][:, 0] == pytest.approx([0.494, 0.345], abs=5e-4)
    assert reports["zero"][:, 0] == pytest.approx([0.4902, 0.3506], abs=5e-5)
    assert all(check.passed for stage in done.values() for check in stage.checks)
    looks = tables(done["attention"])["previous"].value.mean()
    assert looks == pytest.approx(0.47, abs=5e-3), "the published attention of head 0.0 to the letter before"


def test_the_spec_agrees_with_the_oracle() -> None:
    done = midsl("verify", SPEC, *options(**FILES, n=40))
    assert done.exit_code == 0, done.output


def test_the_second_heads_expect_fails_when_the_head_stays(tmp_path: Path) -> None:
    """Writing a head's own value back is no ablation, and the spec says so."""
    text = SPEC.read_text()
    spec = tmp_path / "spec.mi"
    spec.write_text(text.replace("h := 0 }", "h := base }"))
    assert spec.read_text() != text
    done = midsl("run", spec, *options(**FILES, n=40), "--store", tmp_path / "store")
    assert done.exit_code == 3, done.output
    assert "all(zero < 0.6)" in done.output
