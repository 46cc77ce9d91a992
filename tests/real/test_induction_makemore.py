"""The smallest published induction circuit, ablated by a spec.

Its published figures, accuracy on the last ten letters .999 -> .494 without head 0.0 and .345 without 1.0,
are those of batch-mean ablation over the first 500 strings. Zero ablation of the same rows gives .490 and
.351.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


@pytest.mark.slow
def test_the_first_head_reaches_the_second_by_its_keys(tmp_path: Path) -> None:
    """K-composition: of all that head 0.0 writes, what the keys of head 1.0 read of it is what matters."""
    model = tmp_path / "model.safetensors"  # the edges of a model must be known before it is loaded
    state = torch.load(FILES["path"], map_location="cpu", weights_only=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, model)
    done = stages(SPEC.parents[1] / "tests" / "real" / "makemore_edges.mi", **{**FILES, "path": model})
    assert all(check.passed for stage in done.values() for check in stage.checks)
    many = tables(done["each"])["many"]
    named = {f"{s}->{t}" for s, t in zip(many.keys["src"], many.keys["dst"], strict=True)}
    assert named == {"embed->a0.h0<v>", "a0.h0->a1.h0<k>", "embed->a1.h0<q>", "embed->a1.h0<v>"}
    path = {name: table.value.item() for name, table in tables(done["path"]).items()}
    assert path["by_keys"] > 2 and path["by_keys"] > 0.9 * path["by_both"]
    assert abs(path["by_rest"]) < 0.1
