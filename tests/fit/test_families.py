"""A lens for each member of a family, one over all, one for each point of a sweep, and two at one place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.examples.common import midsl
from tests.fit.common import refused, reports, write

FAMILY = """
site all = m.blocks[*].resid_post
let f = { on: d, steps: 60, batch: 16, optim: adam(lr: 1e-2) }
decomposition saes = topk_sae(at: all, d_sae: 16, k: 3, fit: f)
decomposition last = topk_sae(at: m.blocks[1].resid_post, d_sae: 16, k: 3, fit: f)
decomposition cross = crosscoder(at: all, d_sae: 20, fit: f)
"""


def test_a_family_has_a_lens_of_its_own_for_each_member(tmp_path: Path) -> None:
    got = reports(
        tmp_path,
        FAMILY
        + """
experiment e {
  let r = run m on d
  report code  = r[saes.code]
  report lone  = r[last.code]
  report member = r[saes[layer: 1].code]
  report back  = mean(square(r[all] - saes.decode(r[saes.code])), over: [batch, pos, d_model])
  report error = mean(square(r[saes.error]), over: [batch, pos, d_model])
  report wide  = saes.decoder
}
experiment cut {
  let r = run m on d do { saes.code[feature: 3] := 0 }
  let s = run m on d do { saes[layer: 0].code[feature: 3] := 0, saes[layer: 1].code[feature: 3] := 0 }
  report one = r.logits
  report two = s.logits
}
experiment swept {
  sweep l in m.blocks
  report part = mean(square((run m on d)[saes[layer: l].error]), over: [batch, pos, d_model])
}
""",
    )
    layer = np.array(got["code"].keys["layer"])
    assert np.array_equal(got["code"].value[layer == 1], got["lone"].value), (
        "the fit of one is that of one alone"
    )
    assert np.array_equal(got["member"].value, got["lone"].value)
    assert np.allclose(got["back"].value, got["error"].value) and len(got["back"].value) == 2
    assert np.allclose(got["part"].value, got["error"].value)
    assert len(got["wide"].value) == 2 * 16 * 12
    assert np.array_equal(got["one"].value, got["two"].value)


def test_fits_of_a_family_have_names_and_share_a_stream(tmp_path: Path) -> None:
    body = "experiment e { report x = mean(square((run m on d)[saes.error]), over: [batch, pos, d_model]) }"
    spec = write(tmp_path, FAMILY + body)
    assert midsl("run", spec, "--store", tmp_path / "s").exit_code == 0
    done = midsl("sql", "--store", tmp_path / "s", "SELECT DISTINCT fit FROM losses ORDER BY fit", "--json")
    assert "saes[layer: 0]" in done.output and "saes[layer: 1]" in done.output


def test_a_joint_lens_keeps_the_error_of_each_place(tmp_path: Path) -> None:
    got = reports(
        tmp_path,
        FAMILY
        + """
experiment e {
  let r   = run m on d
  let cut = run m on d do { cross.code[feature: 4] := 1.5 }
  let change = (1.5 - r[cross.code[feature: 4]]) * cross.decoder[feature: 4]
  report moved = max(abs(cut[all] - r[all] - change), over: [batch, pos, d_model])
  report kept  = max(abs(cut[cross.error] - r[cross.error]), over: [batch, pos, d_model])
  report read  = cut[cross.code[feature: 4]]
  let own = run m on d do { cross.code := r[cross.code] }
  report same  = max(abs(own.logits - r.logits), over: [batch, pos, vocab])
}
""",
    )
    assert got["moved"].value.max() < 1e-5 and got["kept"].value.max() < 1e-5
    assert np.allclose(got["read"].value, 1.5) and got["same"].value.max() < 1e-4


def test_a_fit_in_a_sweep_is_that_of_its_point_alone(tmp_path: Path) -> None:
    got = reports(
        tmp_path,
        """
fn fit_of(s: Int) -> Fit = { on: d, steps: 30, batch: 16, seed: s }
experiment pop {
  sweep s in 0..2, size in [8, 16]
  decomposition sae = topk_sae(at: x, d_sae: size, k: 2, seed: s, fit: fit_of(s))
  let error = mean(square((run m on d)[sae.error]), over: [batch, pos, d_model])
  report each = error
  report spread = std(error, over: s)
}
experiment layers {
  sweep l in m.blocks, w in [0.0, 0.3]
  decomposition sae = relu_sae(at: m.blocks[l].resid_post, d_sae: 16, l1: w, fit: fit_of(0))
  report at = mean(square((run m on d)[sae.error]), over: [batch, pos, d_model])
}
experiment alone {
  decomposition sae = topk_sae(at: x, d_sae: 16, k: 2, seed: 1, fit: fit_of(1))
  decomposition two = relu_sae(at: m.blocks[1].resid_post, d_sae: 16, l1: 0.3, fit: fit_of(0))
  report one = mean(square((run m on d)[sae.error]), over: [batch, pos, d_model])
  report two_ = mean(square((run m on d)[two.error]), over: [batch, pos, d_model])
}
""",
    )
    keys = got["each"].keys
    each = dict(zip(zip(keys["s"], keys["size"], strict=True), got["each"].value, strict=True))
    assert len(set(each.values())) == 4 and len(got["spread"]) == 2
    assert each[1, 16] == got["one"].value[0]
    keys = got["at"].keys
    at = dict(zip(zip(keys["layer"], keys["w"], strict=True), got["at"].value, strict=True))
    assert at[1, 0.3] == got["two_"].value[0]


@pytest.mark.slow
def test_the_plan_is_what_the_oracle_says(tmp_path: Path) -> None:
    spec = write(
        tmp_path,
        FAMILY
        + """
decomposition clt = cross_layer_transcoder(
  from: m.blocks[*].ln2.normalized, to: m.blocks[*].mlp_out, d_sae: 8, layers: 2, fit: f
)
decomposition both = stitched(last, topk_sae(at: m.blocks[1].resid_post, d_sae: 8, k: 2, seed: 5))
experiment a {
  sweep v in cross.code[feature: *]
  report effect = mean(square((run m on d do { v := 0 }).logits), over: [batch, pos, vocab])
}
experiment b {
  sweep v in clt.code[feature: *]
  report effect = mean(square((run m on d do { v := 2.0 * self }).logits), over: [batch, pos, vocab])
}
experiment c {
  sweep v in both.code[feature: *]
  report effect = mean(square((run m on d do { v := 0 }).logits), over: [batch, pos, vocab])
}
experiment e {
  report effect = mean(square((run m on d do { saes.code := 0.5 * self }).logits), over: [batch, pos, vocab])
}
""",
    )
    done = midsl("verify", spec)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "let v = lens(at: m.blocks[*].resid_post, encode: fn (c) => c, decode: fn (c) => c)",
            "MI0410 one lens",
        ),
        ("let v = lens(at: joint(x), encode: fn (c) => c, decode: fn (c) => c)", "MI0410 `joint` takes"),
        (
            "let v = topk_sae(at: m.blocks[*].resid_post, d_sae: 8, k: 2)[layer: 7]",
            "MI0407 `layer` of a family",
        ),
        ("let v = topk_sae(at: m.blocks[*].resid_post, d_sae: 8, k: 2).coda", "MI0205"),
        ("let v = concat(1.0, 2.0, over: feature)", "MI0311"),
    ],
)
def test_mistakes_are_refused(body: str, said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path, f"{body}\nexperiment e {{ report r = mean(v, over: feature) }}")
